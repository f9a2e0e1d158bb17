"""Gives memory that XLA's compiler used back to the system."""

import ctypes
import sys

from jax import monitoring

#: What JAX reports after each program that XLA compiled for it, with the seconds.
COMPILED = "/jax/core/compile/backend_compile_duration"
#: After shorter compilations there is less to gain, and a model may lose by it: TFN lost up to 15 % of
#: its speed, since memory that is taken anew comes in small pages.
LONG = 10.0


def release_after_compiling() -> None:
    """From now on, memory that a long compilation has freed goes back to the system at once.

    The compiler of a large model frees hundreds of megabytes in small pieces, which glibc keeps for
    later, while a training step takes its memory in large ones from the system: the process would hold
    both. Nothing happens where the C library has no ``malloc_trim`` (only glibc has it).
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def release(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event == COMPILED and duration_secs >= LONG:
            trim(0)

    monitoring.register_event_duration_secs_listener(release)
