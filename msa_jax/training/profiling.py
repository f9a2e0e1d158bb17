"""A trace of some steps of a training, for whoever wants to see what the device does."""

import os
import pathlib
from collections.abc import Hashable
from typing import Any

import jax

from msa_jax.errors import RunError
from msa_jax.messages import LOGGER

#: Steps after which the trace is closed.
STEPS = 10


def check_folder(folder: str) -> None:
    """Raises RunError if no trace can be written to ``folder`` ("" is none); it is made later."""
    place = pathlib.Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    if folder and not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise RunError(f"--profile={folder}: {there} is no folder that can be written; choose another.")


class Profile:
    """Traces the steps of the second epoch's beginning; in a last epoch, those after whatever compiles.

    A program that has not run before is compiled first, which would hide everything else.

    Args:
      folder: where the trace goes; "" for no trace.
    """

    def __init__(self, folder: str):
        self._folder, self._wanted = folder, bool(folder)
        self._known: set[Hashable] = set()
        self._epochs, self._may_start = 0, False
        self._steps: int | None = None

    def start_epoch(self, last: bool) -> None:
        """Before an epoch's steps; ``last`` if there will be no other."""
        self._may_start = last or self._epochs > 0
        self._epochs += 1

    def before(self, program: Hashable, state: Any) -> None:
        """Before a chunk runs on a program, the training standing at ``state``."""
        if not self._wanted:
            return
        new = program not in self._known
        self._known.add(program)
        if self._steps is not None and (new or self._steps >= STEPS):
            self.stop(state)
        elif self._steps is None and self._may_start and not new:
            jax.block_until_ready(state)  # what was asked for before is not ours
            jax.profiler.start_trace(self._folder)
            self._steps = 0

    def after(self, steps: int) -> None:
        """After a chunk of so many steps was handed to the device."""
        if self._steps is not None:
            self._steps += steps

    def stop(self, state: Any) -> None:
        """Closes the trace, if one is open, once the device has done what is in it."""
        if self._steps is None:
            return
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        LOGGER.info(
            "profile: a trace of %d steps lies in %s; `xprof --logdir=%s` shows it (pip install xprof), and "
            "https://ui.perfetto.dev opens its *.trace.json.gz.",
            self._steps,
            self._folder,
            self._folder,
        )
        self._wanted, self._steps = False, None

    def close(self, state: Any) -> None:
        """At the end of the run."""
        self.stop(state)
        if self._wanted:
            LOGGER.warning("no trace was written: every step of this sitting was the first of its program.")
            self._wanted = False
