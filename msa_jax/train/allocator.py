"""The C library's allocator, for training on a CPU."""

import ctypes

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Lets the process keep the memory that a compiled program frees, for its next call.

    By default glibc gives every large block back to the kernel, which has to hand out zeroed pages for
    the same block at the next step: with a text encoder that is trained along, a quarter of a step's
    time. Peak memory stays what it was, but is held until the process ends.

    Returns:
      Whether the C library took the wish; only glibc knows it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return False
    wishes = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
    taken = [mallopt(name, value) for name, value in wishes.items()]
    return all(taken)
