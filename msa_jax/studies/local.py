"""Runs the cells of a study on this machine, in as many processes as it bears."""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msa_jax.errors import Interrupted

#: What a process of the pool runs, behind the name of Python.
WORKER = ("-m", "msa_jax.studies.worker")
#: The share of the free memory that the processes may take.
MEMORY_SHARE = 0.8
#: Seconds between two looks at the processes.
LOOK = 0.5


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell to train: its name, configuration as JSON, run folder and log."""

    name: str
    config: str
    folder: pathlib.Path
    log: pathlib.Path

    def line(self) -> str:
        """What the worker reads."""
        return json.dumps({k: str(v) for k, v in dataclasses.asdict(self).items()}) + "\n"


#: Called with the jobs under way and the names of those that ended, name -> "" or why it failed.
Watch = Callable[[Sequence[Job], Mapping[str, str]], None]


class Worker:
    """One process that trains cells, see :mod:`msa_jax.studies.worker`.

    Args:
      place: of the process in the pool, from 0.
      cores: that it may use; none for all.
      compile_cache: the folder of compiled programs, "" for the user's.
      said: where its answers go, as (worker, answer); an answer of None says that the process ended.
    """

    def __init__(
        self,
        place: int,
        cores: Sequence[int],
        compile_cache: str,
        said: "queue.Queue[tuple[Worker, Any]]",
    ):
        self.place = place
        command = [sys.executable, *WORKER, f"--compile-cache={compile_cache}"]
        command += [f"--cores={','.join(map(str, cores))}"] if cores else []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.job: Job | None = None
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def _listen(self, said: "queue.Queue[tuple[Worker, Any]]") -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                said.put((self, json.loads(line)))
        said.put((self, None))

    def give(self, job: Job) -> None:
        """Asks for a cell."""
        self.job = job
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its last answer will say so
            self.process.stdin.write(job.line())
            self.process.stdin.flush()

    def close(self) -> None:
        """Lets the process end once its cell is done."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def peak(self) -> int:
        """Bytes of memory that the process took at most so far; 0 where the system does not tell."""
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
        return int(lines[0][1]) * 1024 if lines else 0


class Pool:
    """Trains jobs in several processes.

    The first process begins alone. Once its first epoch is over, which is when it has compiled and allocated
    what it needs, its memory says how many more fit beside it; each gets its share of the cores. On an
    accelerator, which one process takes as a whole, it stays alone.

    Args:
      jobs: in their order.
      processes: how many; 0 for as many as memory and cores bear.
      compile_cache: the folder of compiled programs, "" for the user's.
      watch: called about twice a second.
    """

    def __init__(self, jobs: Sequence[Job], processes: int, compile_cache: str, watch: Watch):
        self.waiting, self.watch, self.compile_cache = list(jobs), watch, compile_cache
        self.wanted, self.backend = processes, ""
        self.cores = available_cores()
        self.most = min(processes or len(self.cores), len(jobs))
        self.said: queue.Queue[tuple[Worker, Any]] = queue.Queue()
        self.workers: list[Worker] = []
        self.ended: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Trains all jobs.

        Returns:
          name -> "" where the cell is done, else why it failed.

        Raises:
          Interrupted: after SIGTERM or Ctrl-C, once every cell under way has saved.
        """
        stopped: list[int] = []
        before = {
            number: signal.signal(number, lambda number, _frame: stopped.append(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._start()
            while self.workers:
                self._listen()
                self.watch([w.job for w in self.workers if w.job], self.ended)
                if stopped:
                    raise Interrupted(
                        "stopped and saved; the same command goes on with the cells that are left.",
                        stopped[0],
                    )
                self._start_more()
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.ended

    def _start(self) -> None:
        """Another process, on the cores that are its share."""
        taken = {worker.place for worker in self.workers}
        place = next(place for place in range(self.most) if place not in taken)
        share = self.cores[place :: self.most] if self.most > 1 else ()
        worker = Worker(place, share, self.compile_cache, self.said)
        self.workers.append(worker)
        self._next(worker)

    def _next(self, worker: Worker) -> None:
        if self.waiting:
            worker.give(self.waiting.pop(0))
        else:
            worker.job = None
            worker.close()

    def _listen(self) -> None:
        """Takes one answer, or none for a while."""
        try:
            worker, answer = self.said.get(timeout=LOOK)
        except queue.Empty:
            return
        if answer is None:
            self._after_its_end(worker)
        elif "backend" in answer:
            self.backend = answer["backend"]
        else:
            self.ended[answer["name"]] = answer["error"]
            self._next(worker)

    def _after_its_end(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.close()
        code = worker.process.wait()
        if worker.job is None:
            return
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.ended[worker.job.name] = (
            f"its process ended ({cause}; 9 is what a full memory looks like); see {worker.job.log}."
        )
        if self.waiting:  # the others go on in a new process
            self._start()

    def _start_more(self) -> None:
        if not self.waiting or len(self.workers) >= self.most or not self.workers:
            return
        if not self.wanted and not self._fits(self.workers[0]):
            return
        self._start()

    def _fits(self, first: Worker) -> bool:
        """Whether one more process fits beside those at work."""
        if self.backend != "cpu" or not first.peak():
            return False
        begun = first.job is None or epochs_done(first.job) > 0 or bool(self.ended)
        if not begun:
            return False
        peak = max(worker.peak() for worker in self.workers)
        return peak < MEMORY_SHARE * free_memory()

    def _stop_all(self) -> None:
        for worker in self.workers:
            worker.close()
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.process.wait()


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def free_memory() -> int:
    """Bytes that may still be taken: the system's, or what a container allows if that is less."""
    free = [
        _number(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")
    ]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0] != "max":
        free.append(max(_number(limit[0]) - _number(used[0]), 0))
    return min(free, default=0)


def _lines(path: str) -> list[str]:
    try:
        return pathlib.Path(path).read_text().splitlines()
    except OSError:
        return []


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def epochs_done(job: Job) -> int:
    """The finished epochs of a cell under way."""
    return len(_lines(str(job.folder / "metrics.jsonl")))
