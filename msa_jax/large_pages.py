"""Memory in large pages, for training on a Linux CPU."""

import contextlib
import os
import sys

#: Tells glibc to ask the kernel for pages of 2 MiB. It reads this only before a program starts.
SETTING = "glibc.malloc.hugetlb=1"


def restart_with_large_pages(program: str) -> None:
    """Starts this command again, in its own place, with glibc told to ask for large pages.

    XLA takes a step's scratch memory from the system at every step and gives it back after. In pages
    of 4 KiB, handing it out costs a CPU up to a quarter of its time (figures in README.md). The
    process keeps its number, its files and its arguments.

    Nothing happens where GLIBC_TUNABLES is set already (empty: as the system has it), off Linux, or
    where the interpreter runs something else than this program: a notebook, a debugger, a test.

    Args:
      program: how the command line names it, a module ("msa_jax.main") or a script's path.
    """
    if not sys.platform.startswith("linux") or "GLIBC_TUNABLES" in os.environ:
        return
    words = sys.orig_argv[1:]
    options = words[: words.index(program)] if program in words else ["none"]
    if all(word.startswith("-") for word in options):
        os.environ["GLIBC_TUNABLES"] = SETTING
        with contextlib.suppress(OSError):  # it then goes on as it was started
            os.execv(sys.executable, [sys.executable, *words])
