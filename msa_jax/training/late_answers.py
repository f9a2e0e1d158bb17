"""Reading a damaged checkpoint without noise behind the sentence that says so."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that, once closed, lets what still arrives pass."""

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise
            return None


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()


@contextlib.contextmanager
def pass_late_answers() -> Iterator[None]:
    """Within it Orbax reads in event loops that accept answers after their end.

    Orbax asks TensorStore for all arrays at once and closes its loop at the first that fails. The threads of
    TensorStore then report the others to the closed loop, and Python prints a traceback for each, a hundred
    of them for one damaged file. Orbax takes its loops from asyncio.run, so this sets the policy that makes
    them, and puts the one before back.
    """
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Policy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(before)
