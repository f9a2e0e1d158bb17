"""SIGTERM and Ctrl-C: a run stops where it can be gone on with."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import jax

from msa_jax.errors import Interrupted


class StopRequest:
    """Within it SIGTERM and Ctrl-C are remembered instead of died of; a second one ends the program as usual.

    Of several processes one may get the signal alone, and all must stop at the same step. JAX sees
    to that by its own handler of SIGTERM, so Ctrl-C is handed on to it.

    Attributes:
      number: of the signal that came; None: none did.
    """

    def __init__(self):
        self.number: int | None = None
        self._previous = {}
        self._starting = False
        self._alone = jax.process_count() == 1

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: signals are somebody else's business
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: Any) -> None:
        self.number = number
        signal.signal(number, self._previous[number])
        if self._starting:
            raise KeyboardInterrupt
        if not self._alone:
            signal.raise_signal(signal.SIGTERM)

    @contextlib.contextmanager
    def before_training(self) -> Iterator[None]:
        """Within it a signal stops at once: there is nothing to save yet.

        Raises:
          Interrupted: then. Not from the signal's handler itself, since that may be called in the midst of
            code that takes exceptions for faults of a file.
        """
        self._starting = True
        try:
            yield
        except KeyboardInterrupt:
            number = self.number or signal.SIGINT
            raise Interrupted("stopped before training went on; there was nothing to save.", number) from None
        finally:
            self._starting = False

    def after_saving(self, where: Any) -> Interrupted:
        """What a loop raises once it has stopped and saved."""
        number = self.number or signal.SIGTERM  # another process's signal is handed on as this
        return Interrupted(f"stopped and saved; the same command goes on with {where}.", number)
