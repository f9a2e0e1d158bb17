"""Orbax without noise behind the sentence that says what it could not read or write."""

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from msa_jax.errors import MsaJaxError
from msa_jax.messages import LOGGER


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that, once closed, lets what still arrives pass, and says nothing of it."""

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise
            return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors of arrays that nobody waits for any more, which Python would print with a traceback."""
        LOGGER.debug("a checkpoint: %s", context.get("exception") or context.get("message"))


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()


_LOCK = threading.Lock()
#: How many are within :func:`pass_late_answers` now, and what its last one to leave puts back.
_within = 0
_before: tuple[asyncio.AbstractEventLoopPolicy, int, Any] | None = None


def _pass_over(unraisable: Any) -> None:
    """For sys.unraisablehook: coroutines of Orbax that are dropped half-way raise what nobody can catch."""
    code = getattr(unraisable.object, "cr_code", None)
    if code is not None and "orbax" in code.co_filename:
        LOGGER.debug("a checkpoint: %s", unraisable.exc_value)
    elif _before is not None:
        _before[2](unraisable)


@contextlib.contextmanager
def pass_late_answers() -> Iterator[None]:
    """Within it, Orbax works in event loops that accept answers after their end, and logs nothing.

    Orbax asks TensorStore for all arrays at once and closes its loop at the first that fails. The threads of
    TensorStore then report the others to the closed loop, and Python prints a traceback for each, a hundred
    of them for one damaged file. Orbax takes its loops from asyncio, so this sets the policy that makes
    them. Whatever Orbax logs as an error, with its traceback, it also raises. The first that comes within
    changes policy, log and sys.unraisablehook, the last that leaves puts them back.
    """
    global _within, _before
    logger = logging.getLogger("absl")
    with _LOCK:
        if not _within:
            _before = asyncio.get_event_loop_policy(), logger.level, sys.unraisablehook
            asyncio.set_event_loop_policy(_Policy())
            logger.setLevel(logging.CRITICAL)
            sys.unraisablehook = _pass_over
        _within += 1
    try:
        yield
    finally:
        with _LOCK:
            _within -= 1
            if not _within and _before is not None:
                asyncio.set_event_loop_policy(_before[0])
                logger.setLevel(_before[1])
                sys.unraisablehook = _before[2]


class Failure:
    """What ended a block of :func:`failing`.

    Attributes:
      cause: its first line, "" where nothing did.
    """

    cause = ""


@contextlib.contextmanager
def failing() -> Iterator[Failure]:
    """Within it Orbax may fail by any exception; errors of ours pass.

    What is left half-asked then, and the warning that Python has for it, goes with the exception.
    """
    failure = Failure()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        try:
            yield failure
        except MsaJaxError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds
            failure.cause = _reason(error)
        if failure.cause:
            gc.collect()


def _reason(error: Exception) -> str:
    """The first line of an error, which may hold pages."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
