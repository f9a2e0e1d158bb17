"""What the package says while it works: one logger, and how a command or a call shows it.

Whoever imports the package gets no handler: messages go where the program's own :mod:`logging` sends them. A
command prints them (:func:`set_up`), as does :func:`msa_jax.train` in a program that has not set up logging
(:func:`shown`).
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator

#: Of all notes, warnings and lines of progress.
LOGGER = logging.getLogger("msa_jax")

_PREFIX = {logging.DEBUG: "debug: ", logging.WARNING: "warning: ", logging.ERROR: "error: "}


class _Lines(logging.Handler):
    """Prints every message as a line: warnings to the standard error output, others to the standard output.

    Args:
      answers: the standard output holds an answer that programs may read, and nothing else goes there.
    """

    def __init__(self, answers: bool):
        super().__init__()
        self.answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        # The streams of this moment: a progress bar puts its own in their place, to stay below the lines.
        stream = sys.stderr if self.answers or record.levelno >= logging.WARNING else sys.stdout
        print(_PREFIX.get(record.levelno, "") + record.getMessage(), file=stream, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--verbose`` and ``--quiet``, one of which may be given, to a command."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--verbose", action="store_true", help="say more: devices, shapes, where data lies")
    which.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")


def set_up(options: argparse.Namespace, answers: bool = False) -> None:
    """Shows the messages of a command from here on.

    Args:
      options: with the flags of :func:`add_arguments`.
      answers: the command's standard output is its answer; everything else goes to the standard error output.
    """
    for handler in [h for h in LOGGER.handlers if isinstance(h, _Lines)]:
        LOGGER.removeHandler(handler)
    _print(
        _Lines(answers),
        logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO,
    )


def _print(handler: logging.Handler, level: int) -> None:
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False  # libraries put handlers of their own at the root, which would say all again


def quiet() -> bool:
    """Whether nobody wants to see notes, tables and progress bars."""
    return not LOGGER.isEnabledFor(logging.INFO)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Within it messages are printed as by a command, unless the program has set up logging itself."""
    if LOGGER.level != logging.NOTSET or not quiet():
        yield
        return
    handler = _Lines(answers=False)
    _print(handler, logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(logging.NOTSET)
        LOGGER.propagate = True


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Within it nothing is said: of several processes only the first speaks."""
    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
