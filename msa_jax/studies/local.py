"""Runs the cells of a study on this machine, in as many processes as it bears."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from msa_jax.errors import Interrupted, RunError
from msa_jax.studies import jobs
from msa_jax.studies.jobs import Job, Task, Watch

#: What a process of the pool runs, behind the name of Python.
WORKER = ("-m", "msa_jax.studies.worker")
#: The share of the free memory that the processes may take.
MEMORY_SHARE = 0.8
#: Seconds between two looks at the processes.
LOOK = 0.5


class Worker:
    """One process that trains cells, see :mod:`msa_jax.studies.worker`.

    Args:
      place: of the process in the pool, from 0.
      cores: that it may use; none for all.
      flags: further arguments of its command.
      said: where its answers go, as (worker, answer); an answer of None says that the process ended.
    """

    def __init__(
        self,
        place: int,
        cores: Sequence[int],
        flags: Sequence[str],
        said: "queue.Queue[tuple[Worker, Any]]",
    ):
        self.place = place
        command = [sys.executable, *WORKER, *flags]
        command += [f"--cores={','.join(map(str, cores))}"] if cores else []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.task: Task = ()
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def _listen(self, said: "queue.Queue[tuple[Worker, Any]]") -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                said.put((self, json.loads(line)))
        said.put((self, None))

    def give(self, task: Task) -> None:
        """Asks for cells, of which one program trains all."""
        self.task = task
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its last answer will say so
            self.process.stdin.write(jobs.line(task))
            self.process.stdin.flush()

    def close(self) -> None:
        """Lets the process end once its cells are done."""
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
      cells: in their order.
      processes: how many; 0 for as many as memory and cores bear.
      how: several seeds of one configuration are trained, see :func:`msa_jax.studies.jobs.tasks`.
      flags: further arguments of :mod:`msa_jax.studies.worker`.
      watch: called about twice a second.
    """

    def __init__(self, cells: Sequence[Job], processes: int, how: str, flags: Sequence[str], watch: Watch):
        self.cells, self.how, self.watch, self.flags = list(cells), how, watch, flags
        self.wanted, self.backend = processes, ""
        #: None before the first process has told what it runs on.
        self.waiting: list[Task] | None = None
        self.cores = available_cores()
        self.most = min(processes or len(self.cores), len(jobs.tasks(cells, how, "cpu")))
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
                self.watch([job for worker in self.workers for job in worker.task], self.ended)
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
        self.workers.append(Worker(place, share, self.flags, self.said))

    def _next(self, worker: Worker) -> None:
        if self.waiting:
            worker.give(self.waiting.pop(self._best_for(worker)))
        else:
            worker.task = ()
            worker.close()

    def _best_for(self, worker: Worker) -> int:
        """The place of its next task: one of the program that it has compiled, or that nobody is at.

        In order, two processes would begin with two seeds of one configuration, and both compile it.
        """
        programs = [jobs.program(task[0].config) for task in self.waiting or ()]
        last = {jobs.program(job.config) for job in worker.task[:1]}
        others = {jobs.program(w.task[0].config) for w in self.workers if w is not worker and w.task}
        ranks = [0 if p in last else 2 if p in others else 1 for p in programs]
        return ranks.index(min(ranks))

    def _listen(self) -> None:
        """Takes one answer, or none for a while."""
        try:
            worker, answer = self.said.get(timeout=LOOK)
        except queue.Empty:
            return
        if answer is None:
            self._after_its_end(worker)
        elif "backend" in answer:
            if self.waiting is None:
                self.backend = answer["backend"]
                self.waiting = jobs.tasks(self.cells, self.how, self.backend)
            self._next(worker)
        else:
            self.ended[answer["name"]] = answer["error"]
            if all(job.name in self.ended for job in worker.task):
                self._next(worker)

    def _after_its_end(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.close()
        code = worker.process.wait()
        if self.waiting is None or (self.waiting and not worker.task and not self.workers):
            raise RunError(
                f"the process that was to train the study's cells ended at its start ({_cause(code)})."
            )
        for job in worker.task:
            if job.name not in self.ended:
                self.ended[job.name] = ending(code, job.log)
        if worker.task and self.waiting:  # the others go on in a new process
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
        begun = any(job.epochs_done() for job in first.task) or bool(self.ended)
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


def ending(code: int, log: object) -> str:
    """What is said of a cell whose process ended before it had answered."""
    return f"its process ended ({_cause(code)}; 9 is what a full memory looks like); see {log}."


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


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
