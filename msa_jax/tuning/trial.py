"""One trial of a tuning: a run that never sees the test split, and that Optuna may end early."""

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from msa_jax import configuration, messages
from msa_jax.configuration import Config
from msa_jax.errors import RunError
from msa_jax.messages import LOGGER
from msa_jax.studies.grid import as_overrides
from msa_jax.training.loop import train_and_evaluate
from msa_jax.tuning.folder import TuningFolder
from msa_jax.tuning.journal import Trial

#: What a trial may see.
SPLITS = ("train", "valid")


def train_trial(trial: Trial, base: Config, folder: TuningFolder) -> dict[str, Any]:
    """Trains a trial, or goes on with it, in its run folder.

    Args:
      trial: that this process has taken.
      base: the configuration of all trials.
      folder: of the tuning.

    Returns:
      What ``result.json`` holds; "valid" has the score of the best epoch.

    Raises:
      optuna.TrialPruned: if the trial is not worth going on with.
      MsaJaxError: for settings that do not go together, a loss that is not finite, and so on.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    config = configuration.changed(base, as_overrides(trial.settings))
    monitor = config.train.monitor

    def report(history: Sequence[Mapping[str, Any]]) -> None:
        import optuna

        # Each epoch once. Of an earlier sitting the last may lack, or more be known than was saved.
        for row in history[reported[0] :]:
            trial.handle.report(row["valid"][monitor], row["epoch"])
        reported[0] = max(reported[0], len(history))
        if trial.handle.should_prune():
            raise optuna.TrialPruned

    reported = [trial.epochs]
    # An epoch's line is of use to nobody who follows dozens of runs, but to who asked for all that there is.
    aloud = LOGGER.isEnabledFor(logging.DEBUG)
    with contextlib.nullcontext() if aloud else messages.silenced():
        result = train_and_evaluate(config, folder.trial(trial.number), "", SPLITS, report)
    jax.clear_caches()  # what the next trial shares with this one is on disk
    if not math.isfinite(result["valid"][monitor]):
        raise RunError(f"the validation {monitor} of its best epoch is no number.")
    return result
