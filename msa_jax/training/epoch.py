"""An epoch's sums over its steps while it runs, and its row of ``metrics.jsonl`` at the end."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.training import watched
from msa_jax.training.checkpoint import Progress


class Stopwatch:
    """The time that an epoch's steps take. It is kept in the progress, so that it adds up over sittings."""

    def __init__(self):
        self._since: float | None = None

    def start(self) -> None:
        """From here on steps run."""
        self._since = time.perf_counter()

    def add_to(self, progress: Progress) -> None:
        """Adds the time since the start, or since this was called last."""
        now, since = time.perf_counter(), self._since
        assert since is not None
        progress.measured["seconds"] = progress.measured.get("seconds", 0.0) + now - since
        self._since = now


def add_steps(progress: Progress, scalars: Mapping[str, np.ndarray], prelude: bool) -> None:
    """Adds S finished steps.

    Args:
      progress: with the sums so far.
      scalars: by name [S], with "weight", the number of clips that each is a mean over.
      prelude: whether the steps were the prelude's.
    """
    values = dict(scalars)
    weight, norm = values.pop("weight"), values.pop("gradient_norm", None)
    prefix = "prelude_" if prelude else ""
    for name, value in [*values.items(), ("weight", np.ones_like(weight))]:
        _add(progress.sums, prefix + name, (value * weight).sum())
    _add(progress.measured, "steps", len(weight))
    if norm is not None:
        _add(progress.measured, "gradient_norm", (norm * weight).sum())
        _add(progress.measured, "weight", weight.sum())


def _add(sums: dict[str, float], name: str, value: Any) -> None:
    sums[name] = sums.get(name, 0.0) + float(value)


def end_of_epoch(
    progress: Progress,
    step: int,
    rates: Mapping[str, float],
    valid: Mapping[str, float],
    test: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Ends the epoch: empties the sums and counts it.

    Args:
      progress: of the run; its seconds are those until now.
      step: of the training.
      rates: the learning rate of each group of parameters.
      valid: validation scores.
      test: test scores, where they are watched.

    Returns:
      The epoch's row. What was measured may be of a part of the epoch only, where an earlier version has
      trained the rest.
    """
    sums, measured = progress.sums, progress.measured
    progress.epoch += 1
    progress.batch, progress.sums, progress.measured = 0, {}, {}
    weight = {"": sums.pop("weight"), "prelude_": sums.pop("prelude_weight", 1.0)}
    row = {
        "epoch": progress.epoch,
        "step": step,
        "learning_rate": dict(rates) if len(rates) > 1 else next(iter(rates.values())),
        "train": {k: v / weight["prelude_" if k.startswith("prelude_") else ""] for k, v in sums.items()},
        "valid": dict(valid),
        "seconds": round(progress.seconds, 3),
    }
    if test is not None:
        row[watched.ROW] = dict(test)
    if measured.get("steps"):
        row["step_seconds"] = measured["seconds"] / measured["steps"]
    if measured.get("weight"):
        row["gradient_norm"] = measured["gradient_norm"] / measured["weight"]
    progress.history.append(row)
    return row
