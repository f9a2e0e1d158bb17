"""Clips in processes of their own: one that kills the decoder, fills the memory or hangs fails alone."""

import base64
import contextlib
import json
import pathlib
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from msa_jax.data.recipe import Recipe
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import Plan

_WORKER = (sys.executable, "-P", "-m", "msa_jax.media.worker")


class Pool:
    """Processes that extract clips, one clip at a time each; a context that ends them.

    Args:
      processes: how many.
      seconds: that a clip may take.
    """

    def __init__(self, processes: int, seconds: float):
        self.seconds = seconds
        self._threads = ThreadPoolExecutor(max(1, processes), thread_name_prefix="clips")
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._all):
            process.end()
        self._threads.shutdown()

    def submit(
        self, clip: Clip, plan: Plan, recipe: Recipe, scratch: pathlib.Path, target: pathlib.Path
    ) -> Future[str]:
        """Starts a clip as soon as a process is free.

        Args:
          clip: which.
          plan: what is made.
          recipe: of the plan.
          scratch: folder for decoded sound.
          target: the file that its features go to.

        Returns:
          A future of the reason why the clip failed, "" where it did not.
        """
        job = base64.b64encode(pickle.dumps((clip, plan, recipe, scratch, target)))
        return self._threads.submit(self._work, str(clip.path), job)

    def all(
        self, jobs: Sequence[tuple[Clip, pathlib.Path]], plan: Plan, recipe: Recipe, scratch: pathlib.Path
    ) -> Iterator[tuple[Clip, str]]:
        """Extracts clips side by side.

        Args:
          jobs: clips, and the files that their features go to.
          plan: as :meth:`submit`, like the others.
          recipe: of the plan.
          scratch: folder for decoded sound.

        Yields:
          Clips in the order in which they end, with the reason why they failed, "" where they did not.
        """
        waiting = {self.submit(clip, plan, recipe, scratch, target): clip for clip, target in jobs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()

    def _work(self, name: str, job: bytes) -> str:
        """One clip in an idle process, or in a new one; one that ended is not used again."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = _Process()
            self._all.add(process)
        if self._closed:
            process.end()
        reason = process.answer(name, job, self.seconds)
        if process.ended():
            self._all.discard(process)
            process.end()
        else:
            self._idle.put(process)
        return reason


class _Process:
    """A process at work on one clip after the other."""

    def __init__(self):
        self._process = subprocess.Popen(
            _WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def answer(self, name: str, job: bytes, seconds: float) -> str:
        """Gives a clip and waits for why it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()
        alarm = threading.Timer(seconds, lambda: (late.set(), self._process.kill()))
        alarm.daemon = True
        alarm.start()
        try:
            self._process.stdin.write(job + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # it has ended
            line = b""
        finally:
            alarm.cancel()
        if late.is_set():
            return f"{name} took more than {seconds:g} seconds; cut it."
        try:
            return str(json.loads(line)["reason"])
        except (ValueError, KeyError, TypeError):
            self._process.kill()
            code = self._process.wait()
            return f"{name} ended the process that read it ({_cause(code)}); convert it again."

    def ended(self) -> bool:
        """Whether it works no more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not read any more
                pipe.close()


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
