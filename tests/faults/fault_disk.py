"""Disks that fill up, fail or cannot be written, files that vanish, a clock put back, two runs at once."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from fault_jobs import TRAIN, finish, outcome_of_run, start
from fault_kills import Trial, difference, half_written

#: Sizes of the disk in KiB, from one that holds nothing to one that holds a run but for its last files.
SIZES = (16, 64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
#: What is removed under a run that goes on: files and folders of its folder.
REMOVED = ("config.json", "metrics.jsonl", "best", "checkpoints/*", "spec.json", ".lock")
#: Puts Python's clock a day back from its hundredth question on; found by its name when Python starts.
BACKWARDS = """
import time
_time, _asked = time.time, [0]

def _back():
    _asked[0] += 1
    return _time() - (86400 if _asked[0] > 100 else 0)

time.time = _back
"""
#: Has every os.fsync fail from the Nth on, as a disk that is dying does.
DYING = """
import errno, os
_fsync, _left = os.fsync, [int(os.environ["FSYNCS"])]

def _failing(descriptor):
    _left[0] -= 1
    if _left[0] < 0:
        raise OSError(errno.EIO, "Input/output error")
    return _fsync(descriptor)

os.fsync = _failing
"""


def train(out: pathlib.Path, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The command of the campaign, to its end."""
    return finish(start(["train", *TRAIN, f"--workdir={out}"], environment))


def can_mount() -> bool:
    """Whether this user may mount a small file system, which takes root and the right to."""
    with tempfile.TemporaryDirectory() as place:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
        if made.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return made.returncode == 0


@contextlib.contextmanager
def disk(place: pathlib.Path, kib: int) -> Iterator[None]:
    """A file system of so many KiB."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def judged(out: pathlib.Path, first: tuple[int, str], expected: Any, may_end: bool) -> str:
    """What is wrong with a run that met a fault and was then started again without it.

    Args:
      out: its folder.
      first: exit status and output of the start with the fault.
      expected: the outcome of an undisturbed run.
      may_end: whether the first start may have come to its end.
    """
    code, said = first
    if "Traceback" in said:
        return f"a traceback: {said.splitlines()[-1][:120]}"
    if code == 0 and not may_end:
        return "it said nothing of the fault"
    if out.exists() and (broken := half_written(out)):
        return f"half-written: {broken[0]}"
    code, said = train(out)
    if "Traceback" in said:
        return f"the next start: a traceback: {said.splitlines()[-1][:120]}"
    if code:
        return f"the next start ended with {code}: {(said.splitlines() or [''])[-1][:160]}"
    found = outcome_of_run(out)
    return "" if found == expected else f"other results: {difference(found, expected)}"


def full_disks(folder: pathlib.Path, expected: Any, sizes: tuple[int, ...] = SIZES) -> Iterator[Trial]:
    """A disk too small for the run, made larger before the next start."""
    for kib in sizes:
        place = folder / f"disk-{kib}"
        with disk(place, kib):
            first = train(place / "run")
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            yield Trial("full disk", f"{kib} KiB", judged(place / "run", first, expected, may_end=True))


def read_only(folder: pathlib.Path, expected: Any) -> Iterator[Trial]:
    """A folder that becomes read-only before the first start, and between two."""
    place = folder / "read-only"
    with disk(place, 65536):
        for what in ("from the start", "once trained in"):
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            first = train(place / "run")
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
            yield Trial("read-only", what, judged(place / "run", first, expected, may_end=False))


def removed_files(folder: pathlib.Path, expected: Any, names: tuple[str, ...] = REMOVED) -> Iterator[Trial]:
    """Files that vanish while a run goes on."""
    for name in names:
        out = folder / f"removed-{names.index(name)}"
        process = start(["train", *TRAIN, f"--workdir={out}"])
        until = time.monotonic() + 120
        while not (out / "best").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        for path in out.glob(name):
            subprocess.run(["rm", "-rf", str(path)], check=True)
        process.send_signal(signal.SIGCONT)
        yield Trial("removed", name, judged(out, finish(process), expected, may_end=True))


def _with_startup(folder: pathlib.Path, name: str, code: str, **environment: str) -> dict[str, str]:
    """An environment in which Python runs this when it starts."""
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(code)
    ours = str(pathlib.Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join([str(place), ours]), **environment}


def clocks(folder: pathlib.Path, expected: Any) -> Iterator[Trial]:
    """A clock that is put back by a day while a run goes on."""
    first = train(folder / "clock", _with_startup(folder, "startup-clock", BACKWARDS))
    yield Trial("clock", "a day back", judged(folder / "clock", first, expected, may_end=True))


def dying_disks(
    folder: pathlib.Path, expected: Any, counts: tuple[int, ...] = (0, 1, 3, 6, 10, 15)
) -> Iterator[Trial]:
    """A disk that no longer takes what is written, from the Nth fsync on."""
    for count in counts:
        out = folder / f"dying-{count}"
        environment = _with_startup(folder, "startup-dying", DYING, FSYNCS=str(count))
        first = train(out, environment)
        yield Trial("fsync fails", f"from number {count + 1} on", judged(out, first, expected, may_end=True))


def two_runs(folder: pathlib.Path, expected: Any) -> Iterator[Trial]:
    """Two starts in one folder at once: one trains, the other refuses."""
    out = folder / "two"
    processes = [start(["train", *TRAIN, f"--workdir={out}"]) for _ in range(2)]
    ended = [finish(process) for process in processes]
    refused = [said for code, said in ended if code and "another process trains in" in said]
    cause = "" if len(refused) == 1 else f"both ended with {[code for code, _ in ended]}"
    yield Trial("two runs", "at once", cause or judged(out, (0, ""), expected, may_end=True))


#: Name -> what yields its trials, given a folder and the outcome that is expected.
KINDS: dict[str, Callable[[pathlib.Path, Any], Iterator[Trial]]] = {
    "removed": removed_files, "clock": clocks, "fsync": dying_disks, "two": two_runs,
    "full": full_disks, "read-only": read_only,
}  # fmt: skip
#: Those of KINDS that mount a file system of their own.
MOUNTING = ("full", "read-only")


def campaign(names: tuple[str, ...] = tuple(KINDS)) -> Iterator[Trial]:
    """All of these kinds; those that cannot be had here are said to have been left out."""
    able = can_mount()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = pathlib.Path(name)
        code, said = train(folder / "calm")
        if code:
            raise RuntimeError(said)
        expected = outcome_of_run(folder / "calm")
        for kind in names:
            if kind in MOUNTING and not able:
                print(
                    f"not tried: {kind}, without the right to mount a file system",
                    file=sys.stderr,
                    flush=True,
                )
                continue
            yield from KINDS[kind](folder, expected)
