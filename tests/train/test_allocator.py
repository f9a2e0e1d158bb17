"""What the C library keeps."""

import subprocess
import sys

import pytest

# Resident memory before, with, and after 200 MB: the third figure is what is kept.
SCRIPT = """
import ctypes, sys
from msa_jax.train.allocator import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
taken = keep_freed_memory() if sys.argv[1] == "keep" else True
before = resident()
block = libc.malloc(200 * 2**20)
ctypes.memset(block, 1, 200 * 2**20)
libc.free(block)
print(int(taken), resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has mallopt")
@pytest.mark.parametrize(("mode", "least", "most"), [("keep", 199, 210), ("leave", -5, 5)])
def test_freed_blocks_stay_with_the_process(mode, least, most):
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    taken, kept = map(int, done.stdout.split())
    if not taken:
        pytest.skip("this C library has no mallopt")
    assert least <= kept <= most
