"""What the finished cells of a study say, row by row."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax import metrics
from msa_jax.errors import RunError
from msa_jax.reports.run import Run, read_run
from msa_jax.studies.grid import SEED, Study
from msa_jax.training import watched

#: The two metrics by which MMSA 1.0 measures classes.
_COMPAT = ("acc2_non0_compat", "f1_non0_compat")


@dataclasses.dataclass(frozen=True)
class RowResults:
    """The finished seeds of one row of a table, on the test split: S seeds, N clips.

    Attributes:
      labels: the row's choices on all axes but the seed.
      seeds: their names, in the order of the study.
      metric_set: of the data set: "mosi", "sims" or "plain".
      label_range: lowest and highest possible score.
      class_names: of the C classes, where the row predicts classes; else empty.
      metrics: metric, loss or part of a loss -> float64 [S], NaN where a seed has none (the correlation
        of constant predictions, say).
      predictions: head -> float64 [S, N]; "M" is the final prediction. Class numbers where the row
        predicts classes. Only the heads that every seed has.
      logits: float64 [S, N, C] of the final prediction; None where the row predicts scores.
      label: float64 [N], scores or class numbers.
      ids: the clips' names [N].
      parameters: how many the model has.
      seconds: float64 [S], of training.
      best_epoch: int64 [S]; NaN in a row of all folds, where each has its own.
      history: ("train" or "valid", metric or loss) -> float64 [S, E] by epochs, NaN where a seed has no
        value, as after its last epoch.
      epochs: int64 [S], how many each seed was trained; the largest is E.
      synthetic: whether the clips were made by a program.
      watched: as ``metrics``, of the epoch with the best test score; empty unless every seed has watched the
        test split (``train.watch_test``).
    """

    labels: tuple[str, ...]
    seeds: tuple[str, ...]
    metric_set: str
    label_range: tuple[float, float]
    class_names: tuple[str, ...]
    metrics: Mapping[str, np.ndarray]
    predictions: Mapping[str, np.ndarray]
    logits: np.ndarray | None
    label: np.ndarray
    ids: tuple[str, ...]
    parameters: int
    seconds: np.ndarray
    best_epoch: np.ndarray
    history: Mapping[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)
    epochs: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    synthetic: bool = False
    watched: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def metric_keys(self) -> tuple[str, ...]:
        """The metrics that can be measured on other clips too (so no losses), in the order of a table."""
        if self.class_names:
            known = (*metrics.classification_keys(self.class_names), *_COMPAT)
        else:
            known = metrics.regression_keys(self.metric_set, self.label_range)
        return tuple(key for key in known if key in self.metrics)


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """The finished cells of a study.

    Attributes:
      rows: the rows with a finished seed, in the order of the study.
      left_out: the other cells by name, and why each is left out.
      notes: on rows that are measured on several folds, a sentence each.
    """

    rows: Mapping[tuple[str, ...], RowResults]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_results(study: Study, cells: str | pathlib.Path) -> StudyResults:
    """Reads the run folders of a study's finished cells.

    Args:
      study: as declared.
      cells: the folder that has a run folder for each cell, of the cell's name.

    Raises:
      RunError: if two seeds of one row were tested on different clips.
    """
    runs: dict[tuple[str, ...], dict[str, Run]] = {}
    left_out: dict[str, str] = {}
    for cell in study.cells:
        folder = pathlib.Path(cells) / cell.name
        if not (folder / "result.json").exists():  # a run writes it last
            left_out[cell.name] = "not finished"
            continue
        try:
            run = read_run(folder)
        except RunError as error:
            left_out[cell.name] = str(error)
            continue
        seed = cell.labels.get(SEED, str(run.config["train"].get("seed", "")))
        runs.setdefault(cell.row, {})[seed] = run
    return StudyResults({row: _row(row, runs[row]) for row in study.rows() if row in runs}, left_out)


def _row(labels: tuple[str, ...], runs: Mapping[str, Run]) -> RowResults:
    """The row that the runs of these seeds make."""
    first, *others = every = list(runs.values())
    for seed, run in runs.items():
        if run.ids != first.ids or not np.array_equal(run.label, first.label):
            raise RunError(
                f"the seeds {next(iter(runs))} and {seed} of {', '.join(labels)} were tested on different "
                "clips; train one of them again on the other's data."
            )
    heads = [head for head in first.predictions if all(head in run.predictions for run in others)]
    best_test = [run.result[watched.RESULT]["test"] for run in every if watched.RESULT in run.result]
    logits = [run.logits for run in every if run.logits is not None]
    return RowResults(
        labels=labels,
        seeds=tuple(runs),
        metric_set=first.spec.metrics,
        label_range=first.spec.label_range,
        class_names=first.class_names if first.classifies else (),
        metrics=stacked([run.result["test"] for run in every]),
        predictions={head: np.stack([run.predictions[head] for run in every]) for head in heads},
        logits=np.stack(logits) if first.classifies else None,
        label=first.label,
        ids=first.ids,
        parameters=first.result["parameters"],
        seconds=np.array([run.result["seconds"] for run in every], np.float64),
        best_epoch=np.array([run.result["best_epoch"] for run in every], np.int64),
        history=_history([run.history for run in every]),
        epochs=np.array([len(run.history) for run in every], np.int64),
        synthetic=first.spec.synthetic,
        watched=stacked(best_test) if len(best_test) == len(every) else {},
    )


def _history(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[tuple[str, str], np.ndarray]:
    """The epochs of the seeds; see :class:`RowResults`."""
    longest = max(map(len, seeds))
    found: dict[tuple[str, str], np.ndarray] = {}
    for seed, epochs in enumerate(seeds):
        for epoch, row in enumerate(epochs):
            for split in ("train", "valid"):
                for key, value in row[split].items():
                    empty = np.full((len(seeds), longest), np.nan)
                    found.setdefault((split, key), empty)[seed, epoch] = _number(value)
    return found


def stacked(tests: Sequence[Mapping[str, object]]) -> dict[str, np.ndarray]:
    """Key -> float64 [S], NaN for what a seed lacks; without those that no seed has a number for."""
    keys = dict.fromkeys(key for test in tests for key in test)
    columns = {key: np.array([_number(test.get(key)) for test in tests]) for key in keys}
    return {key: column for key, column in columns.items() if not np.isnan(column).all()}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
