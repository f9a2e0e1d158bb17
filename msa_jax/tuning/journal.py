"""The trials of a tuning, as Optuna keeps, draws and prunes them.

Everything that several processes must do one after another is done under the lock "ask".
"""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from msa_jax.errors import ConfigError
from msa_jax.tuning.folder import JournalLock, Lock, TuningFolder
from msa_jax.tuning.space import Dimension, Number, Space, Whole

if TYPE_CHECKING:  # an extra
    import optuna

#: Trials that are over before any is pruned, and epochs of a trial before it can be.
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 5, 5

#: Optuna's names of what becomes of a trial, and ours.
_STATES = {
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


def require() -> None:
    """Raises ConfigError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tuning needs Optuna: pip install 'msa_jax[tune]'.")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial that this process is to train.

    Attributes:
      number: from 0.
      settings: what was drawn, setting by setting.
      handle: Optuna's.
      lock: held as long as it is trained.
      epochs: how many it has reported.
      left: whether a process that trained it was stopped or killed.
    """

    number: int
    settings: Mapping[str, Any]
    handle: "optuna.trial.Trial"
    lock: Lock
    epochs: int
    left: bool


class Best(NamedTuple):
    """The best trial that is complete.

    Attributes:
      number: of the trial.
      settings: what was drawn, setting by setting.
      score: its validation score.
    """

    number: int
    settings: dict[str, Any]
    score: float


class Journal:
    """All trials of a tuning.

    Args:
      folder: of the tuning.
      space: what is drawn.
      score: the validation score's name.
      lower_is_better: of that score.
      seed: of the draws; those of a trial follow from it, the trial's number and the trials before.
    """

    def __init__(self, folder: TuningFolder, space: Space, score: str, lower_is_better: bool, seed: int):
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space, self.score, self.seed = folder, space, score, seed
        lock: Any = JournalLock(folder.journal, folder.lock("journal").path)
        with folder.lock("ask"):
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder.journal), lock))
            self._study = optuna.create_study(
                study_name="tuning",
                storage=storage,
                pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
                direction="minimize" if lower_is_better else "maximize",
                load_if_exists=True,
            )

    def next(self, trials: int) -> Trial | None:
        """What is to be trained next, with its lock: a trial that a killed process left, or a new one.

        Args:
          trials: how many there may be, those of other processes and those that failed among them.

        Returns:
          None if all are over, or in the hands of other processes.
        """
        with self.folder.lock("ask"):
            known = self._study.get_trials(deepcopy=False)
            self.folder.write_trials(self.rows())
            for left in known:
                if not left.state.is_finished() and (trial := self._taken(left.number)):
                    return trial
            return self._taken(len(known)) if len(known) < trials else None

    def _taken(self, number: int) -> Trial | None:
        """The trial of this number, a new one where there is none yet; None if another process has it."""
        import optuna

        lock = self.folder.lock(number)
        if not lock.acquire(wait=False):
            return None
        # Seeded anew for every trial: processes that share the work would draw the same otherwise, and a
        # tuning that is gone on with draws what it would have drawn.
        seed = int(np.random.default_rng([self.seed, number]).integers(2**31))
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        known = self._study.get_trials(deepcopy=False)
        left = number < len(known)
        if left:
            epochs = len(known[number].intermediate_values)
            handle = optuna.trial.Trial(self._study, known[number]._trial_id)
        else:
            epochs, handle = 0, self._study.ask()
        for name, dimension in self.space.dimensions.items():
            _suggest(handle, name, dimension)
        return Trial(number, self._settings(handle.params), handle, lock, epochs, left)

    def end(self, trial: Trial, state: str, score: float | None = None, **notes: Any) -> None:
        """Records how a trial ended.

        Args:
          trial: of this process.
          state: "complete", "pruned" or "failed".
          score: of a complete one.
          notes: what else is to be known of it.
        """
        import optuna

        for name, value in notes.items():
            trial.handle.set_user_attr(name, value)
        with self.folder.lock("ask"):
            name = next(theirs for theirs, ours in _STATES.items() if ours == state)
            self._study.tell(trial.handle, score, optuna.trial.TrialState[name])
            self.folder.write_trials(self.rows())

    @contextlib.contextmanager
    def last(self) -> Iterator[bool]:
        """Within it no other process ends the tuning.

        Gives whether this process is to do it: all trials are over, and nobody else is at it.
        """
        lock = self.folder.lock("end")
        with self.folder.lock("ask"):
            over = all(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))
            held = over and lock.acquire(wait=False)
        try:
            yield held
        finally:
            lock.release()

    def rows(self) -> list[dict[str, Any]]:
        """All trials so far, for a table: "trial", "state", the score, what was drawn, "error" and so on."""
        rows = []
        for trial in self._study.get_trials(deepcopy=False):
            rows.append(
                {
                    "trial": trial.number,
                    "state": _STATES[trial.state.name],
                    f"valid {self.score}": "" if trial.value is None else trial.value,
                    "epochs": len(trial.intermediate_values),
                    "best_epoch": trial.user_attrs.get("best_epoch", ""),
                    "seconds": trial.user_attrs.get("seconds", ""),
                    **self._settings(trial.params),
                    "error": trial.user_attrs.get("error", ""),
                }
            )
        return rows

    def best(self) -> Best | None:
        """The best trial that is complete; None if none is."""
        if not any(trial.value is not None for trial in self._study.get_trials(deepcopy=False)):
            return None
        best = self._study.best_trial
        return Best(best.number, self._settings(best.params), float(self._study.best_value))

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna's values of the dimensions stand for, setting by setting."""
        return self.space.read({name: _value(self.space.dimensions[name], v) for name, v in params.items()})


def _suggest(trial: "optuna.trial.Trial", name: str, dimension: Dimension) -> None:
    """Draws, where the trial has no value yet."""
    if isinstance(dimension, Whole):
        trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    elif isinstance(dimension, Number):
        trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    else:  # by their texts, since Optuna's choices are no tuples
        trial.suggest_categorical(name, [str(value) for value in dimension.values])


def _value(dimension: Dimension, kept: Any) -> Any:
    """What Optuna's value of a dimension stands for."""
    if isinstance(dimension, Number):
        return dimension.rounded(kept)
    return kept if isinstance(dimension, Whole) else {str(v): v for v in dimension.values}[kept]
