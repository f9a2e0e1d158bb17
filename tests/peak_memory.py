"""How far the memory of this process grows inside a block.

``getrusage`` cannot tell: its peak is that of the whole life, and a child process starts with its
parent's. Linux keeps a peak per process image that can be reset.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

_STATUS, _RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def _read(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def grows_by_at_most(limit: float) -> Iterator[None]:
    """Fails if the resident memory inside the block ever exceeds that before it by over ``limit`` bytes."""
    if not _RESET.exists():
        pytest.skip("the peak of resident memory can only be reset on Linux")
    _RESET.write_text("5")
    before = _read("VmRSS")
    yield
    grown = _read("VmHWM") - before
    assert grown <= limit, f"grew by {grown / 1e6:.1f} MB, expected at most {limit / 1e6:.1f} MB"
