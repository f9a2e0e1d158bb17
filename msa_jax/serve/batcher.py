"""Joins clips that wait for the model.

One thread runs the model. What arrives meanwhile waits, and goes with clips of the same padded shape in the
next call; a clip that finds the thread idle goes at once and alone. A call has at most :data:`ROWS` clips,
and every padded shape with every power of two of rows is run once at the start (:func:`warm_up`), so that no
request waits for a compiler.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from msa_jax.data.loader import Shape
from msa_jax.errors import MsaJaxError
from msa_jax.messages import LOGGER
from msa_jax.serve.clips import Clip, blank, joined
from msa_jax.serve.limits import busy
from msa_jax.serve.scorer import Scorer

#: Clips of one call of the model, a power of two.
ROWS = 8
#: What a clip is answered with.
Answer = dict[str, Any]


@dataclasses.dataclass(eq=False)
class _Job:
    clip: Clip
    key: Any
    answer: asyncio.Future[Answer]


class Batcher:
    """A queue in front of a function of clips.

    Args:
      score: gives an answer for each of some clips; called in one thread.
      key: clips with the same key may be joined.
      rows: how many clips of a call at most.
      most: how many clips may wait.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Clip]], list[Answer]],
        key: Callable[[Clip], Any],
        rows: int,
        most: int,
    ):
        self.score, self.key, self.rows, self.most = score, key, rows, most
        self._waiting: collections.deque[_Job] = collections.deque()
        self._work: asyncio.Task[None] | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model")

    def __len__(self) -> int:
        """Clips that wait for the model, without those that nobody waits for any more."""
        return sum(not job.answer.done() for job in self._waiting)

    def close(self) -> None:
        """Ends the thread after the call at work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def submit(self, clips: Sequence[Clip]) -> list[Answer]:
        """The answers for clips, in their order. Cancelled, it takes those that still wait out of the queue.

        Raises:
          Refused: if too many clips wait already.
          MsaJaxError: what the function says of the first clip that it cannot read.
        """
        if len(self) + len(clips) > self.most:
            raise busy()
        loop = asyncio.get_running_loop()
        jobs = [_Job(clip, self.key(clip), loop.create_future()) for clip in clips]
        self._waiting.extend(jobs)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._run())
        try:
            return await asyncio.gather(*(job.answer for job in jobs))
        finally:
            for job in jobs:
                job.answer.cancel()

    async def _run(self) -> None:
        """Works until nothing waits."""
        loop = asyncio.get_running_loop()
        while jobs := self._next():
            found = await loop.run_in_executor(self._thread, self._outcomes, [job.clip for job in jobs])
            for job, outcome in zip(jobs, found, strict=True):
                if job.answer.done():  # nobody waits for it any more
                    continue
                if isinstance(outcome, Exception):
                    job.answer.set_exception(outcome)
                else:
                    job.answer.set_result(outcome)

    def _next(self) -> list[_Job]:
        """The clip that has waited longest, and others that may go with it; [] where none waits."""
        waiting = [job for job in self._waiting if not job.answer.done()]
        taken = [job for job in waiting if job.key == waiting[0].key][: self.rows]
        chosen = set(taken)
        self._waiting = collections.deque(job for job in waiting if job not in chosen)
        return taken

    def _outcomes(self, clips: Sequence[Clip]) -> list[Any]:
        """An answer or an exception for each clip: one that cannot be read must not spoil the others."""
        try:
            return self.score(clips)
        except MsaJaxError as error:
            if len(clips) == 1:
                return [error]
            return [outcome for clip in clips for outcome in self._outcomes([clip])]
        except Exception as error:
            return [error] * len(clips)


def bucket(steps: Shape, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The first padded shape that holds so many steps; the last where none does."""
    fitting = (s for s in shapes if all(n <= most for n, most in zip(steps, s, strict=True)))
    return tuple(next(fitting, shapes[-1]))


def warm_up(scorer: Scorer, rows: int = ROWS) -> int:
    """Runs every padded shape with every power of two of rows that the batcher can ask for.

    Of a scorer that reads media files, also what explains a clip of that shape.

    Returns:
      How many calls of the batcher's these were.
    """
    began, spec, calls = time.perf_counter(), scorer.spec(), 0
    warm_media = getattr(scorer, "warm_media", None)
    for text, audio, vision in spec["shapes"]:
        clip, count = blank(spec, (text, audio, vision)), 1
        while count <= rows:
            scorer.score(joined([clip] * count))
            calls, count = calls + 1, 2 * count
        if warm_media is not None:
            warm_media(joined([clip]))
        LOGGER.debug("ready for %d x %d x %d steps", text, audio, vision)
    LOGGER.info("ready after %d calls, %.1f s", calls, time.perf_counter() - began)
    return calls
