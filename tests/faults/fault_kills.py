"""Commands killed at random moments, and started again."""

import csv
import json
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import fault_jobs
import numpy as np
from fault_jobs import Job, finish, start

#: A command is killed this often, each time after it was started again, before it may end.
KILLS_A_RUN = 3


class Trial(NamedTuple):
    """What was tried, and why it was lost ("" where nothing was)."""

    kind: str
    what: str
    cause: str = ""


def half_written(folder: pathlib.Path) -> list[str]:
    """Files under their final names that cannot be read to their end.

    What is under way has a name that says so: it begins with a dot, or lies in a folder whose name does or
    that Orbax has not finished.
    """
    broken = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or "orbax-checkpoint-tmp" in part for part in parts):
            continue
        if parts[0] in ("logs", "checkpoints") or "checkpoints" in parts:
            continue  # a log is appended to; a checkpoint is judged by whether the run goes on from it
        try:
            _read_whole(path)
        except FileNotFoundError:
            continue  # a worker has just moved it
        except (ValueError, OSError, EOFError) as error:
            broken.append(f"{'/'.join(parts)}: {error!s:.80}")
    return broken


def _read_whole(path: pathlib.Path) -> None:
    """Raises ValueError, OSError or EOFError for a file that is not whole."""
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        for line in path.read_text().splitlines():
            json.loads(line)
    elif path.suffix == ".csv":
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
        if not rows or len({len(row) for row in rows}) != 1:
            raise ValueError("its rows differ in length")
    elif path.suffix in (".npy", ".npz"):
        loaded = np.load(path, mmap_mode=None)
        if path.suffix == ".npz":
            for name in loaded.files:
                loaded[name]
    elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it has no end")


def standing(folder: pathlib.Path) -> set[str]:
    """What has its final name directly in a folder."""
    if not folder.exists():
        return set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


class Undisturbed(NamedTuple):
    """A job's inputs, what it gives when nobody kills it, and how long that takes, in seconds."""

    made: pathlib.Path
    outcome: Any
    seconds: float


def undisturbed(job: Job, folder: pathlib.Path) -> Undisturbed:
    """Runs a job twice, since the first compiles; both must give the same.

    Raises:
      RuntimeError: if it fails, or two runs differ.
    """
    job.prepare(folder)
    outcomes, seconds = [], 0.0
    for name in ("first", "second"):
        began = time.monotonic()
        code, said = finish(start(job.arguments(folder, folder / name)))
        seconds = time.monotonic() - began
        if code:
            raise RuntimeError(f"{job.name} fails without being killed: {said}")
        outcomes.append(job.outcome(folder / name))
    if outcomes[0] != outcomes[1]:
        raise RuntimeError(f"two runs of {job.name} differ: {difference(*outcomes)}")
    return Undisturbed(folder, outcomes[0], seconds)


def difference(one: Any, other: Any) -> str:
    """Which parts of two outcomes differ."""
    names = sorted(set(one) | set(other))
    return ", ".join(name for name in names if one.get(name) != other.get(name))


def kill_once(job: Job, calm: Undisturbed, out: pathlib.Path, moment: float) -> Trial | None:
    """Starts a job and kills it after so many seconds; None where it had ended by then."""
    before = standing(out)
    process = start(job.arguments(calm.made, out))
    time.sleep(moment)
    ended = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    _, said = finish(process)
    what = f"{job.name} after {moment:.2f} s"
    if ended:
        return None if process.returncode == 0 else Trial("kill", what, f"it failed: {_last(said)}")
    if broken := half_written(out):
        return Trial("kill", what, f"half-written: {broken[0]}")
    if gone := before - standing(out):
        return Trial("kill", what, f"gone: {', '.join(sorted(gone))}")
    return Trial("kill", what)


def finish_killed(job: Job, calm: Undisturbed, out: pathlib.Path) -> str:
    """Starts a job that was killed again; returns why what it gives is not what it should be."""
    code, said = finish(start(job.arguments(calm.made, out)))
    if code or "Traceback" in said:
        return f"the next start ended with {code}: {_last(said)}"
    outcome = job.outcome(out)
    if outcome != calm.outcome:
        return f"other results: {difference(outcome, calm.outcome)}"
    if broken := half_written(out):
        return f"half-written at the end: {broken[0]}"
    return ""


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "nothing said"


def campaign(job: Job, count: int, seed: int) -> Iterator[Trial]:
    """Kills a job ``count`` times, at moments anywhere between its start and its end."""
    rng = random.Random(f"{seed} {job.name}")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = pathlib.Path(name)
        calm = undisturbed(job, folder)
        killed, round_number = 0, 0
        while killed < count:
            out = folder / f"killed-{round_number}"
            round_number += 1
            trials = []
            while len(trials) < min(KILLS_A_RUN, count - killed):
                trial = kill_once(job, calm, out, rng.uniform(0, calm.seconds))
                if trial is None:
                    break
                trials.append(trial)
            # Of a job that did not end, what it gives in the end is the fault of its last kill.
            cause = finish_killed(job, calm, out)
            if trials and cause and not trials[-1].cause:
                trials[-1] = trials[-1]._replace(cause=cause)
            elif cause and not trials:
                raise RuntimeError(f"{job.name}, not killed: {cause}")
            killed += len(trials)
            yield from trials


def campaigns(count: int, seed: int, names: list[str]) -> Iterator[Trial]:
    """Shares ``count`` kills among the jobs; one that cannot run here is said to have been left out."""
    jobs = [fault_jobs.JOBS[name] for name in names]
    able = [job for job in jobs if not job.missing()]
    for job in jobs:
        if job not in able:
            print(f"not tried: {job.name}, without {', '.join(job.missing())}", file=sys.stderr, flush=True)
    for place, job in enumerate(able):
        share = count // len(able) + (place < count % len(able))
        if share:
            yield from campaign(job, share, seed)
