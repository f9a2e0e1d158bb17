"""Tunes a model's settings by its validation score, and retrains the best of them with several seeds."""

import json
import pathlib
import re
import shlex
import shutil
import traceback
from collections.abc import Sequence
from typing import Any

from msa_jax import configuration, metrics
from msa_jax.configuration import Config
from msa_jax.data.opening import load_dataset
from msa_jax.errors import ConfigError, Interrupted, MsaJaxError, RunError
from msa_jax.messages import LOGGER
from msa_jax.studies.grid import Choice, Study, as_overrides, data_sets, grid, seeds
from msa_jax.studies.run import Execution, run_declared
from msa_jax.training import checks, pretrained
from msa_jax.training.run_folder import CHECKPOINTS
from msa_jax.tuning import journal as journals
from msa_jax.tuning.folder import TuningFolder
from msa_jax.tuning.journal import Journal, Trial
from msa_jax.tuning.space import Space, check_space, load_space
from msa_jax.tuning.trial import train_trial

#: Of the draws, unless another is asked for: the first of the customary seeds.
SEED = 1111


def tune(
    config: str,
    space: str,
    workdir: str | pathlib.Path,
    overrides: Sequence[str] = (),
    trials: int = 50,
    seed: int = SEED,
) -> dict[str, Any] | None:
    """Draws settings, trains each draw, and finds the one with the best validation score.

    The score is the one by which a run picks its epoch (``train.monitor``). No trial sees the test split.
    Settings are drawn by Optuna's TPE, and trials that fall behind the median of the others are ended early.
    Several processes that call this with the same arguments share the trials; what a killed one has left is
    gone on with.

    Args:
      config: ``PATH.py[:ARGUMENT]``.
      space: ``PATH.py[:ARGUMENT]`` of the space, see :mod:`msa_jax.tuning.space`.
      workdir: the folder of the tuning, made if absent.
      overrides: ``"train.epochs=3"``, for all trials.
      trials: how many altogether, those that are done, pruned or failed among them.
      seed: of the draws.

    Returns:
      What ``best.json`` holds: "config", "settings" (setting -> value), "overrides" (the same and
      ``overrides``, for the command line), "score" with its name as "monitor", "best_epoch", "trial" and how
      many "trials" were complete, pruned, failed. None where other processes are still training trials: the
      last of them finds the best.

    Raises:
      ConfigError: for a setting that cannot be right, before any data is read, and where Optuna is missing.
      DataError: if the data cannot be read.
      RunError: if the folder belongs to something else, or no trial came to its end.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    base, drawn = checked(config, space, overrides, trials, seed)
    # Here once, so that data that cannot be read is no fault of every single trial.
    for note in load_dataset(base.data).notes:
        LOGGER.info("note: %s", note)
    folder = TuningFolder(workdir)
    with folder.lock("ask"):
        folder.claim(base, drawn, seed)
    score = base.train.monitor
    journal = Journal(folder, drawn, score, score in metrics.LOWER_IS_BETTER, seed)
    while (trial := journal.next(trials)) is not None:
        try:
            _train(trial, base, folder, journal)
        finally:
            trial.lock.release()
    with journal.last() as last:
        if not last:
            LOGGER.info("other processes are still at work; the last of them finds the best trial.")
            return None
        best = _best(journal, config, overrides)
        folder.write_best(best)
    return best


def checked(
    config: str, space: str, overrides: Sequence[str], trials: int, seed: int
) -> tuple[Config, Space]:
    """The configuration of all trials and what is drawn, with every setting checked.

    Raises:
      ConfigError: see :func:`tune`.
    """
    if trials < 1:
        raise ConfigError(f"--trials={trials} must be at least 1.")
    if seed < 0:
        raise ConfigError(f"--seed={seed} must be at least 0.")
    journals.require()
    base = configuration.load(config, overrides)
    drawn = load_space(space)
    if base.train.watch_test:
        raise ConfigError(
            "train.watch_test=true looks at the test split in every epoch, which a tuning never does; leave "
            "it off here."
        )
    checks.check(base)
    check_space(drawn, base, overrides)
    pretrained.with_sizes(base)  # the encoder's folder, where a model has one
    return base, drawn


def _train(trial: Trial, base: Config, folder: TuningFolder, journal: Journal) -> None:
    """Trains a trial and records how it ended; only a stop of the whole program is let through."""
    import optuna

    score, name = base.train.monitor, f"trial {trial.number}"
    if trial.left:
        LOGGER.info(f"{name} was left by a process that was stopped; it goes on.")
    try:
        result = train_trial(trial, base, folder)
    except optuna.TrialPruned:
        journal.end(trial, "pruned")
        LOGGER.info(f"{name}  pruned")
    except Interrupted:
        raise
    except MsaJaxError as error:
        _failed(trial, journal, str(error))
    except Exception as error:  # a full memory, or a fault of ours, must not take the other trials along
        LOGGER.warning(traceback.format_exc())
        _failed(trial, journal, f"{type(error).__name__}: {error}")
    else:
        value = result["valid"][score]
        journal.end(trial, "complete", value, best_epoch=result["best_epoch"], seconds=result["seconds"])
        LOGGER.info(f"{name}  valid {score} {value:.4f}  {' '.join(as_overrides(trial.settings))}")
    # A trial that is over is not gone on with, and dozens of training states fill a disk.
    shutil.rmtree(folder.trial(trial.number) / CHECKPOINTS, ignore_errors=True)


def _failed(trial: Trial, journal: Journal, error: str) -> None:
    journal.end(trial, "failed", error=error)
    LOGGER.warning(f"trial {trial.number} failed: {error}")


def _best(journal: Journal, config: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The winner, see :func:`tune`."""
    rows, best = journal.rows(), journal.best()
    if best is None:
        errors = [row["error"] for row in rows if row["error"]]
        first = f"; the first that failed: {errors[0]}" if errors else ""
        raise RunError(f"none of the {len(rows)} trials came to its end{first}")
    row = rows[best.number]
    states = [row["state"] for row in rows]
    return {
        "config": config,
        "settings": best.settings,
        "overrides": [f"--config.{text}" for text in (*overrides, *as_overrides(best.settings))],
        "monitor": journal.score,
        "score": best.score,
        "best_epoch": row["best_epoch"],
        "trial": best.number,
        "trials": {state: states.count(state) for state in ("complete", "pruned", "failed")},
    }


def show(best: dict[str, Any]) -> None:
    """Prints the winner, and the command that trains it."""
    counts = ", ".join(f"{count} {state}" for state, count in best["trials"].items())
    LOGGER.info(
        f"best: trial {best['trial']}, valid {best['monitor']} {best['score']:.4f} in epoch "
        f"{best['best_epoch']} (of {counts}), with"
    )
    for key, value in best["settings"].items():
        LOGGER.info(f"  --config.{key}={value}")
    LOGGER.info(
        f"train it: {shlex.join(['msa-jax', 'train', '--config=' + best['config'], *best['overrides']])}"
    )


def retrain(
    best: dict[str, Any],
    workdir: str | pathlib.Path,
    count: int = 5,
    processes: int = 0,
    compile_cache: str = "",
) -> dict[str, str]:
    """Trains the winner of a tuning with several seeds: their table is the first look at the test split.

    Args:
      best: see :func:`tune`.
      workdir: the folder of the study.
      count: of seeds, from 1111.
      processes: at once; 0 for as many as memory and cores bear.
      compile_cache: the folder of compiled programs, "" for the user's.

    Returns:
      The seeds that failed: cell -> why.
    """
    match = re.fullmatch(r"(.*?\.py)(?::(.*))?", best["config"])
    assert match is not None
    words = tuple(filter(None, (match[2] or "").split(",")))
    # The seeds of the study are its own.
    settings = dict(text.removeprefix("--config.").split("=", 1) for text in best["overrides"])
    settings.pop("train.seed", None)
    tuned = Choice("model", ", ".join(words) or "the file's own", words=words, settings=settings)
    study = Study(
        title=f"{best['config']}, tuned by the validation split",
        cells=grid(data_sets(match[1]), [tuned], seeds(count)),
        note=f"Settings of trial {best['trial']}: {json.dumps(best['settings'])}.",
    )
    execution = Execution(processes=processes, compile_cache=compile_cache)
    return run_declared(study, f"tuning of {best['config']}", workdir, (), execution)
