"""Files that anybody may hand to us, changed at random, read by what reads them.

    PYTHONPATH=.:tests:tests/faults python -m fault_files TARGET COUNT SEED [--guided]

reads COUNT of them in this process and prints one JSON object. Nothing may run, nothing but our own errors
may come, and memory is bounded. With --guided (``pip install atheris``) the changes follow what the reader's
code does with those before.
"""

import codecs
import contextlib
import inspect
import itertools
import json
import os
import pathlib
import random
import resource
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import encoder_files
import feature_files

from msa_jax.errors import MsaJaxError

#: What a reader has no reason to do, as Python's audit hooks name it.
WATCHED = (
    "exec", "marshal.loads", "code.__new__", "pickle.find_class", "ctypes.dlopen", "os.system",
    "os.exec", "os.fork", "os.posix_spawn", "os.putenv", "subprocess.Popen", "os.remove", "os.rename",
    "os.rmdir", "os.chmod", "shutil.rmtree", "socket.connect",
)  # fmt: skip
#: MiB by which memory may grow over all the files of a target.
GROWTH = 512
#: Numbers at which readers go wrong.
EDGES = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
WORDS = (
    b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b'""', b"[]", b"{}", b"true", b"\x00", b"\xff",
    b"../" * 8, b"/etc/passwd", b"\n", b",", b'"', b"[" * 3000, b"\xed\xa0\x80", b"\\ud800",
)  # fmt: skip


class Target(NamedTuple):
    """A reader and what it reads well.

    Attributes:
      make: writes a good example into a folder, and returns the file that is changed.
      read: reads the folder.
    """

    make: Callable[[pathlib.Path], pathlib.Path]
    read: Callable[[pathlib.Path], Any]


def _pickle(folder: pathlib.Path) -> pathlib.Path:
    return feature_files.write(folder / "data.pkl", feature_files.content(unimodal=True), protocol=4)


def _read_pickle(folder: pathlib.Path) -> Any:
    from msa_jax.data import mmsa

    return mmsa.read(folder / "data.pkl")


def _manifest(folder: pathlib.Path) -> pathlib.Path:
    for name in ("a.mp4", "b.wav"):
        (folder / name).write_bytes(b"")
    (folder / "clips.csv").write_text(
        "clip,id,transcript,label,label_T,split\na.mp4,one$_$1,so good,1.5,0,train\n"
        'b.wav,two$_$1,"bad, said she",-2,,test\n'
    )
    return folder / "clips.csv"


def _read_manifest(folder: pathlib.Path) -> Any:
    from msa_jax.media import clips

    return clips.find(folder / "clips.csv")


def _store(folder: pathlib.Path) -> pathlib.Path:
    from msa_jax.data import store, synthetic

    counts = dict.fromkeys(("train", "valid", "test"), 3)
    lengths = dict.fromkeys(("text", "audio", "vision"), 4)
    store.write(synthetic.generate(0, counts, dict.fromkeys(lengths, 8), lengths), folder / "store")
    return folder / "store" / "spec.json"


def _read_store(folder: pathlib.Path) -> Any:
    from msa_jax.data import store

    return store.read(folder / "store")


def _encoder(name: str) -> Callable[[pathlib.Path], pathlib.Path]:
    def make(folder: pathlib.Path) -> pathlib.Path:
        encoder_files.folder(folder / "encoder")
        return folder / "encoder" / name

    return make


def _read_encoder(folder: pathlib.Path) -> Any:
    from msa_jax.weights import huggingface
    from msa_jax.weights.encoder_config import read_config

    return huggingface.read_weights(folder / "encoder", read_config(folder / "encoder"))


def _tokenizer(folder: pathlib.Path) -> pathlib.Path:
    encoder_files.modernbert_tokenizer(folder / "encoder")
    return folder / "encoder" / "tokenizer.json"


def _read_tokenizer(folder: pathlib.Path) -> Any:
    from msa_jax.data import vocabulary

    return vocabulary.vocabulary(folder / "encoder"), vocabulary.backend(folder / "encoder")


def _run(folder: pathlib.Path) -> pathlib.Path:
    import random_run

    from msa_jax.training import best

    model = best.load_best(random_run.make(folder / "run", "lf_dnn"))
    arrays = {"params": model.params, "batch_stats": model.batch_stats}
    best.write_best(folder / "best", arrays, best.of_epoch(model.record, 1, 0.5))
    return folder / "best" / best.FILE


def _read_run(folder: pathlib.Path) -> Any:
    from msa_jax.training.best import read_best

    best = read_best(folder / "best")
    return best.config, best.spec, best.model_spec, best.shapes


TARGETS = {
    "pickle": Target(_pickle, _read_pickle),
    "csv": Target(_manifest, _read_manifest),
    "json": Target(_store, _read_store),
    "safetensors": Target(_encoder("model.safetensors"), _read_encoder),
    "config": Target(_encoder("config.json"), _read_encoder),
    "vocabulary": Target(_encoder("vocab.txt"), _read_tokenizer),
    "tokenizer": Target(_tokenizer, _read_tokenizer),
    "run": Target(_run, _read_run),
}


def changed(data: bytes, rng: random.Random) -> bytes:
    """Data with one to six random changes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place, kind = rng.randrange(len(out) + 1), rng.randrange(7)
        length = rng.choice((1, 1, 2, 4, 8, 30, 300))
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del out[place : place + length]
        elif kind == 3:
            other = rng.randrange(len(out) + 1)
            out[place:place] = out[other : other + length]
        elif kind == 4:
            size, form = rng.choice(((1, "B"), (2, "<H"), (4, "<I"), (8, "<Q")))
            number = rng.choice(EDGES) % 2 ** (8 * size)
            out[place : place + size] = struct.pack(form, number)
        elif kind == 5:
            out[place : place + rng.randrange(4)] = rng.choice(WORDS)
        elif rng.random() < 0.2:
            del out[place:]
    return bytes(out)


_events: list[str] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _events is not None:
        writes = event == "open" and isinstance(args[1], str) and not set(args[1]) <= set("rb")
        if event in WATCHED or writes:
            _events.append(f"{event} {args!r:.100}")


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    global _events
    _events = found = []
    try:
        yield found
    finally:
        _events = None


def judge(target: Target, folder: pathlib.Path) -> str:
    """Reads a folder; returns what went wrong, "" where it was read or refused in a sentence of ours."""
    with _watched() as events:
        try:
            target.read(folder)
        except MsaJaxError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                return f"its sentence is none: {str(error)!r:.120}"
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{pathlib.Path(frame.filename).name}:{frame.lineno}"
            return f"{type(error).__name__} at {place}: {error!s:.80}"
    return f"it ran something: {events[0]}" if events else ""


def _warm(target: Target, folder: pathlib.Path, path: pathlib.Path) -> None:
    """Has the reader import what it imports late, which runs code of its own."""
    for name in ("raw-unicode-escape", "unicode-escape", "latin-1", "ascii"):
        codecs.lookup(name)
    good, rng = path.read_bytes(), random.Random("warm")
    for _ in range(300):
        path.write_bytes(changed(good, rng))
        with contextlib.suppress(Exception):
            target.read(folder)
    path.write_bytes(good)


class Tally:
    """What a target's files did."""

    def __init__(self, name: str):
        self.name, self.tried, self.lost = name, 0, 0
        self._before = _peak()
        self._causes: dict[str, list[str]] = {}

    def add(self, cause: str, data: bytes) -> None:
        """Counts a file, and keeps the first of every cause."""
        self.tried += 1
        if cause:
            self.lost += 1
            kind, _, more = cause.partition(":")
            self._causes.setdefault(kind + more[:8], [cause, data.hex()[:4000]])

    def summary(self) -> dict[str, Any]:
        """The numbers, and an example of each cause."""
        return {
            "target": self.name,
            "tried": self.tried,
            "lost": self.lost,
            "causes": list(self._causes.values()),
            "grown_mib": _peak() - self._before,
        }


def _peak() -> float:
    """MiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, count: int, seed: int, guided: bool = False) -> dict[str, Any]:
    """Has a target's reader read so many changed files; see :meth:`Tally.summary`."""
    target = TARGETS[name]
    sys.addaudithook(_watch)
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        folder = pathlib.Path(place)
        path = target.make(folder)
        good = path.read_bytes()
        _warm(target, folder, path)
        if cause := judge(target, folder):
            raise RuntimeError(f"{name} is not read where nothing was changed: {cause}")
        tally = Tally(name)

        def read(data: bytes) -> None:
            path.write_bytes(data)
            tally.add(judge(target, folder), data)

        if guided:
            _follow(read, good, count, seed, lambda: print(json.dumps(tally.summary()), flush=True))
        rng = random.Random(f"{seed} {name}")
        for _ in range(count):
            read(changed(good, rng))
    return tally.summary()


def _follow(
    read: Callable[[bytes], None], good: bytes, count: int, seed: int, end: Callable[[], None]
) -> NoReturn:
    """Lets libFuzzer change the files, by the code of ours that they reach; it ends the process itself."""
    import atheris

    for name, module in list(sys.modules.items()):
        if name.startswith("msa_jax."):
            for function in vars(module).values():
                if inspect.isfunction(function) and function.__module__ == name:
                    atheris.instrument_func(function)
    corpus = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    (corpus / "good").write_bytes(good)
    options = [f"-runs={count}", f"-seed={seed + 1}", f"-max_len={2 * len(good)}", str(corpus)]
    done = itertools.count(1)

    def once(data: bytes) -> None:
        read(data)
        if next(done) == count:
            end()

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()
    raise AssertionError


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print(json.dumps(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), "--guided" in sys.argv)))
