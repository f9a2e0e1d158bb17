"""Files that want to run code, to fill the memory, or to crash the reader."""

import contextlib
import copyreg
import os
import pathlib
import pickle
import pickletools
import random
import struct
import sys
import time

import feature_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from peak_memory import grows_by_at_most

from msa_jax.data import mmsa
from msa_jax.data.pickle import machine
from msa_jax.errors import DataError

WATCHED = (
    "import", "exec", "compile", "marshal.loads", "code.__new__", "pickle.find_class", "ctypes.dlopen",
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.putenv", "subprocess.Popen", "os.mkdir",
    "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.listdir", "shutil.rmtree", "socket.connect",
)  # fmt: skip
_events: list[str] | None = None


def _watch(event: str, args: tuple) -> None:
    writes = event == "open" and isinstance(args[1], str) and not set(args[1]) <= set("rb")
    if _events is not None and (event in WATCHED or writes):
        _events.append(f"{event} {args!r:.100}")


sys.addaudithook(_watch)


@contextlib.contextmanager
def nothing_runs():
    """Fails if anything but reading happens inside."""
    global _events
    _events = []
    try:
        yield
        assert _events == []
    finally:
        _events = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    feature_files.write(folder / "warm.pkl", feature_files.content())
    mmsa.read(folder / "warm.pkl")  # imports what NumPy imports late
    return folder


def refuse(folder: pathlib.Path, data: bytes, match: str) -> None:
    path = folder / "hostile.pkl"
    path.write_bytes(data)
    with nothing_runs(), pytest.raises(DataError, match=match) as caught:
        machine.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def stack_global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return short(module) + short(attribute) + b"\x93"


def routes(canary: str) -> dict[str, bytes]:
    """Programs that make the folder ``canary`` when Python's own unpickler runs them."""
    mkdir, argument = b"cos\nmkdir\n", text(canary)
    return {
        "GLOBAL REDUCE": b"\x80\x02" + mkdir + argument + b"\x85R.",
        "STACK_GLOBAL REDUCE": b"\x80\x04" + stack_global("os.mkdir") + argument + b"\x85R.",
        "INST": b"\x80\x02(" + argument + b"ios\nmkdir\n.",
        "OBJ": b"\x80\x02(" + mkdir + argument + b"o.",
        "EXT1": b"\x80\x02\x82\xf0" + argument + b"\x85R.",
        "EXT2": b"\x80\x02\x83\xf0\x00" + argument + b"\x85R.",
        "EXT4": b"\x80\x02\x84\xf0\x00\x00\x00" + argument + b"\x85R.",
        "nested getattr": (
            b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n" + text("os") + b"\x85R" + text("mkdir")
            + b"\x86R" + argument + b"\x85R."
        ),
        "dotted name": b"\x80\x04" + short("os") + short("path.os.mkdir") + b"\x93" + argument + b"\x85R.",
        "dotted name from NumPy": (
            b"\x80\x04" + short("numpy.testing._private.utils") + short("os.mkdir") + b"\x93"
            + argument + b"\x85R."
        ),
        "eval": b"\x80\x02cbuiltins\neval\n" + text(f"__import__('os').mkdir({canary!r})") + b"\x85R.",
        "BUILD": (  # partial.__setstate__ takes the function, then the partial is called
            b"\x80\x02cfunctools\npartial\n" + mkdir + b"\x85R(" + mkdir + argument + b"\x85}}tb)R."
        ),
        "NEWOBJ": b"\x80\x02cfunctools\npartial\n" + mkdir + argument + b"\x86\x81)R.",
        "NEWOBJ_EX": b"\x80\x04" + stack_global("functools.partial") + mkdir + argument + b"\x86}\x92)R.",
        "protocol 0": b"(dp0\nS'train'\n" + mkdir + b"(S" + repr(canary).encode() + b"\ntRs.",
        "protocol 1": (
            b"}q\x00U\x05train" + mkdir + b"(U" + bytes([len(canary)]) + canary.encode() + b"tRs."
        ),
        "in place of a name": (
            b"\x80\x02cdatetime\ndate\n" + mkdir + argument + b"\x85R\x85R."
        ),
        "in a path's parts": b"\x80\x02cpathlib\nPurePosixPath\n(" + mkdir + argument + b"\x85RtR.",
        "in a masked array's state": (
            b"\x80\x02cnumpy.ma.core\n_mareconstruct\n(cnumpy.ma\nMaskedArray\ncnumpy\nndarray\n(K\x00t"
            b"C\x01btR(" + mkdir + argument + b"\x85Rtb."
        ),
        "memo": b"\x80\x02" + mkdir + b"q\x000" + argument + b"\x85q\x010h\x00h\x01R.",
        "inside a feature file": (
            pickle.dumps({"train": {"audio": np.ones(3)}}, 4)[:-1] + mkdir + argument + b"\x85R."
        ),
    }  # fmt: skip


@pytest.mark.parametrize("route", routes(""))
def test_no_route_runs_code(folder, tmp_path, route):
    canary = tmp_path / "canary"
    program = routes(str(canary))[route]
    copyreg.add_extension("os", "mkdir", 240)
    try:
        with contextlib.suppress(TypeError, ValueError, ImportError):
            pickle.loads(program)
        assert canary.is_dir(), "the program must be dangerous, or this test says nothing"
        canary.rmdir()
        refuse(folder, program, "refused: it tries to")
        assert not canary.exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 240)


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec",
        "builtins.open", "builtins.getattr", "builtins.__import__", "importlib.import_module",
        "runpy.run_path", "pickle.loads", "numpy.load", "numpy.fromfile", "numpy.memmap",
        "numpy.testing._private.utils.runstring",
        "numpy._core.multiarray._reconstruct.__globals__", "numpy.core.multiarray.os", "webbrowser.open",
        "pathlib.Path.unlink", "pathlib.os", "datetime.sys", "copyreg._reconstructor", "builtins.object",
        "numpy.ma.core.MaskedArray", "numpy.ma.core.os", "numpy.rec.recarray", "numpy.core.memmap.memmap",
        "pandas.read_pickle", "pandas.io.pickle.read_pickle", "pandas.core.computation.eval.eval",
        "pandas.eval", "pandas.HDFStore", "pandas.ExcelWriter", "pandas.DataFrame.to_pickle",
        "pandas.core.frame.os", "pandas.io.common.Index", "pandasX.DataFrame", "functools.partial",
        "builtins.complex.os", "__main__.Thing", "msa_jax.data.store.write",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["GLOBAL", "STACK_GLOBAL"])
def test_unknown_names_are_refused_by_name(folder, name, form):
    module, _, attribute = name.rpartition(".")
    said = f"c{module}\n{attribute}\n".encode() if form == "GLOBAL" else stack_global(name)
    refuse(folder, b"\x80\x04" + said + b")R.", f"call '{name}'")


def test_torch_tensors_are_refused_with_advice(folder):
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."
    refuse(folder, program, r"PyTorch objects; save it again .*tensor\.numpy\(\)")


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"\x80\x02Pname\n.", "persistent id"),
        (b"\x80\x02N" + b"Q.", "persistent id"),
        (b"\x80\x05\x97.", "buffer outside"),
        (b"\x80\x02}}b.", "change the inside"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "make an object"),
        (b"\x80\x02cnumpy\nndarray\n(K\x02\x85tR.", "not a function"),
        (b"\x80\x02}}R.", "not a function"),
        (b"\x80\x02c_codecs\nencode\n" + text("nfpvv") + text("rot13") + b"\x86R.", "byte string"),
        (b"\x80\x02cnumpy\ndtype\n" + text("O,f4") + b"\x85R.", "neither numbers nor strings"),
        (b"\x80\x02cnumpy\ndtype\n" + text("V0") + b"\x85R.", "neither numbers nor strings"),
        (b"\x80\x02cnumpy\ndtype\n" + text("M8[ns]") + b"\x85R.", "neither numbers nor strings"),
        (b"\x80\x02cbuiltins\nset\n}\x85R.", "set is written"),
        (b"\x80\x02cbuiltins\nfrozenset\n}\x85R.", "set is written"),
        (b"\x80\x02cnumpy.ma.core\n_mareconstruct\n)R.", "masked array is written"),
        (b"\x80\x02cnumpy\nmemmap\n(X\x01\x00\x00\x00atR.", "call 'numpy.memmap', which is not a function"),
        (b"\x80\x02cnumpy\nmemmap\n)\x81.", "make an object"),
        (b"\x80\x02cpandas\nDataFrame\n}b.", "change the inside"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "container"),
        (b"\x80\x02cbuiltins\n\xff\n.", "damaged"),
        (b"\x80\x02c" + b"o" * 5000 + b"\nsystem\n.", "does not end"),
        (b"\x80\x63.", "newer than this Python"),
        (b"\x80\x02K\x012.", "no use for the instruction DUP"),
        (b"\x80\x02I1x\n.", "damaged"),
        (b"\x80\x02I" + b"9" * 600 + b"\n.", "does not end"),
        (b"\x80\x02F1.x\n.", "damaged"),
        (b"\x80\x02S'a\n.", "has no quotes"),
        (b"\x80\x02S'\\xz'\n.", "damaged"),
        (b"\x80\x02S'never ends", "ends too early"),
        (b"\x80\x02V\\ud8zz\n.", "damaged"),
        (b"\x80\x02g9\n.", "damaged"),
        (b"\x80\x02(K\x01d.", "damaged"),
        (b"\x80\x02T\xff\xff\xff\xffa.", "ends too early"),
        (b"\x80\x02\xfe.", "instruction 0xfe"),
        (b"\x80\x02.", "damaged"),
        (b"", "an empty file"),
        (b"I1\n.", "something else"),
        (b"clip,text\n1,a\n", "something else"),
        (b"PK\x03\x04rest", "ZIP archive"),
        (b"\x1f\x8brest", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>", "web page"),
    ],
)  # fmt: skip
def test_other_programs_are_refused(folder, program, match):
    refuse(folder, program, match)


def test_missing_file_and_folder(folder):
    for path, match in ((folder / "none.pkl", "no such file"), (folder, "this is no file")):
        with pytest.raises(DataError, match=match):
            machine.load(path)


def test_terminal_codes_do_not_reach_the_message(folder):
    refuse(folder, b"\x80\x04" + short("os") + short("\x1b[2Jsystem") + b"\x93.", r"\\x1b\[2Jsystem")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**63) + b"x.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"j" + struct.pack("<I", 2**32 - 2) + b".",
    ],
)
def test_promised_sizes_allocate_nothing(folder, program):
    start = time.perf_counter()
    with grows_by_at_most(10e6):
        refuse(folder, program, "damaged")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2**40,), "do not fit"), ((2**40, 2**40), "do not fit"), ((3,), "do not fit"), ((-1,), "impossible"),
        ((1,) * 9, "impossible"), ((2.0,), "impossible"), ([2], "impossible"), ((True, 2), "impossible"),
    ],
)  # fmt: skip
def test_impossible_shapes(folder, shape, match):
    array = b"cnumpy.core.numeric\n_frombuffer\n(B\x08\0\0\0" + bytes(8) + b"cnumpy\ndtype\n" + text("f4")
    array += b"\x85R" + pickle.dumps(shape, 2)[2:-1] + text("C") + b"tR."
    refuse(folder, b"\x80\x05" + array, match)


def test_deep_nesting_does_not_overrun_the_stack(folder):
    deep = 100_000
    refuse(folder, b"\x80\x02}" + b")" + b"\x85" * deep + b"Ns.", "neither text nor a small number")
    path = folder / "deep.pkl"
    path.write_bytes(b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b".")
    assert isinstance(machine.load(path), list)
    with pytest.raises(DataError, match="must hold a dict"):
        mmsa.read(path)


def test_too_many_values(folder, monkeypatch):
    monkeypatch.setattr(machine, "MAX_INSTRUCTIONS", 1000)
    refuse(folder, pickle.dumps(list(range(2000))), "over 1000 single values; features must be NumPy arrays")


@pytest.mark.parametrize("protocol", range(6))
def test_truncated_anywhere(folder, protocol):
    data = pickle.dumps(feature_files.content(), protocol)
    path = folder / "short.pkl"
    for length in range(0, len(data), 23):
        path.write_bytes(data[:length])
        with nothing_runs(), pytest.raises(DataError):
            mmsa.read(path)


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def mutated(data: bytes, seed: int) -> bytes:
    """Flips, inserts, deletes, swaps and repeats bytes, and puts in instructions and dangerous programs."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 8, 100)))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.choice((1, 4)))
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            out[at : at + rng.randrange(2)] = rng.choice(OPCODES)
        elif kind == 4:
            other = rng.randrange(len(out) + 1)
            out[other:other] = out[at:end]
        else:
            out[at:at] = rng.choice(list(routes("/nonexistent/canary").values()))[2:-1]
    return bytes(out)


@hypothesis.given(protocol=st.integers(0, 5), seed=st.integers(0, 2**32))
@hypothesis.settings(max_examples=600)
def test_mutated_files_only_ever_give_data_errors(folder, protocol, seed):
    content = feature_files.content(unimodal=True)
    content["valid"]["audio"] = np.ma.array(content["valid"]["audio"], mask=content["valid"]["audio"] > 1)
    content["train"] |= {"when": np.ones(2, "M8[s]"), "who": {1, 2}, "where": pathlib.PurePosixPath("a")}
    data = mutated(pickle.dumps(content, protocol), seed)
    path = folder / "mutated.pkl"
    path.write_bytes(data)
    with grows_by_at_most(20e6), nothing_runs(), contextlib.suppress(DataError):
        mmsa.read(path)
    assert not os.path.exists("/nonexistent")
