"""The errors that a user can cause, and how a command shows them.

Every message is one sentence or two that say what is wrong, where, and what to do. Commands
print it without a traceback; anything that is not one of these classes is our own bug and keeps
its traceback.
"""

import contextlib
import difflib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator


class MsaJaxError(Exception):
    """Base of all errors that a user can cause and fix.

    Attributes:
      exit_code: what a command that ends in this error returns.
    """

    exit_code = 2


class ConfigError(MsaJaxError):
    """A configuration holds an unknown key, a wrong type or values that do not go together."""


class DataError(MsaJaxError):
    """A data file is missing, broken, hostile, or not what the configuration expects."""


class RunError(MsaJaxError):
    """A run cannot start, go on, or be resumed (work folder, checkpoint, non-finite loss)."""


class FolderBusyError(RunError):
    """Another process trains in the folder of a run."""


class Interrupted(MsaJaxError):
    """A run was asked to stop, by SIGTERM or Ctrl-C, and has saved what there was to save.

    Args:
      message: what it says.
      number: of the signal; the exit code is 128 more, as shells have it.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_code = 128 + number


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for the known word closest to ``word``, or ``""``."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def run_command(command: Callable[[list[str]], int | None]) -> None:
    """Runs a command line, turning :class:`MsaJaxError` into a printed sentence and its exit code.

    What the terminal's encoding lacks is printed as escapes: a clip's name is no reason to stop.

    Args:
      command: takes the arguments after the program's name, returns an exit code (None is 0).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough; nothing is left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except MsaJaxError as error:
        print(f"error: {error}" if error.exit_code == 2 else error, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code or 0)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM interrupts as Ctrl-C does, so that what was begun is cleared away."""

    def stop(number: int, frame: object) -> None:
        del frame
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
