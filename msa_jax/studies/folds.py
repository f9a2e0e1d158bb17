"""The row of all folds: every clip of a data set, predicted by the run that did not train on its group."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from msa_jax import metrics
from msa_jax.studies.grid import FOLD, Study
from msa_jax.studies.results import RowResults, StudyResults, stacked


def with_pooled(study: Study, results: StudyResults) -> StudyResults:
    """Adds a row for all folds together to those of single folds, where all of them are there.

    Its metrics are those of the folds' predictions put behind each other, seed by seed, and not means of the
    folds' metrics: the correlation or the F1 of a small fold says little.

    Args:
      study: as declared.
      results: of its finished cells.

    Returns:
      The rows in the order of the study, and a note where such a row is left out or has fewer seeds than
      its folds.
    """
    rows, notes = dict(results.rows), list(results.notes)
    for labels in study.rows():
        cells = [cell for cell in study.cells if cell.pooled_row == labels]
        if not cells:
            continue
        by_fold = {cell.labels[FOLD]: results.rows.get(cell.row) for cell in cells}
        every = [by_fold.get(str(fold)) for fold in range(cells[0].folds)]
        there = [row for row in every if row is not None]
        if not there:  # nobody expects a row of cells that have not begun
            continue
        name = ", ".join(labels)
        if why := _obstacle(every, there):
            notes.append(f"The row {name} is left out: {why}.")
            continue
        rows[labels] = pooled(labels, there)
        if any(len(row.seeds) > len(rows[labels].seeds) for row in there):
            notes.append(f"{name}: by the seeds that all folds have ({', '.join(rows[labels].seeds)}).")
    ordered = {labels: rows[labels] for labels in study.rows() if labels in rows}
    return dataclasses.replace(results, rows=ordered, notes=tuple(notes))


def _obstacle(every: Sequence[RowResults | None], there: Sequence[RowResults]) -> str:
    """Why folds cannot be put together, or ""."""
    if absent := [str(fold) for fold, row in enumerate(every) if row is None]:
        several = len(absent) > 1
        return f"fold{'s' * several} {', '.join(absent)} {'are' if several else 'is'} not finished"
    first = there[0]
    if not _common_seeds(there):
        return "no seed is finished in all folds"
    kinds = {(row.metric_set, row.label_range, row.class_names) for row in there}
    if len(kinds) > 1:
        return "its folds have other scores or classes; give the data's own (data.class_names)"
    tested = set(first.ids)
    for row in there[1:]:
        if both := sorted(tested & set(row.ids)):
            return f"clip {both[0]!r:.80} is tested in two folds; train all folds again on the same data"
        tested |= set(row.ids)
    return ""


def _common_seeds(rows: Sequence[RowResults]) -> tuple[str, ...]:
    return tuple(seed for seed in rows[0].seeds if all(seed in row.seeds for row in rows))


def pooled(labels: tuple[str, ...], rows: Sequence[RowResults]) -> RowResults:
    """The row of K folds together, of the S seeds that all have and the N clips of all.

    Args:
      labels: of the row.
      rows: of the folds, which test different clips.
    """
    first, seeds = rows[0], _common_seeds(rows)
    at = [[row.seeds.index(seed) for seed in seeds] for row in rows]

    def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays [S', N', ...] of the folds as one [S, N, ...]."""
        return np.concatenate([array[seed] for array, seed in zip(arrays, at, strict=True)], axis=1)

    heads = [head for head in first.predictions if all(head in row.predictions for row in rows)]
    logits = [row.logits for row in rows if row.logits is not None]
    row = dataclasses.replace(
        first,
        labels=labels,
        seeds=seeds,
        metrics={},
        predictions={head: joined([row.predictions[head] for row in rows]) for head in heads},
        logits=joined(logits) if logits else None,
        label=np.concatenate([row.label for row in rows]),
        ids=tuple(clip for row in rows for clip in row.ids),
        seconds=np.sum([row.seconds[seed] for row, seed in zip(rows, at, strict=True)], axis=0),
        best_epoch=np.full(len(seeds), np.nan),
        history={},
        epochs=np.zeros(0, np.int64),
        watched={},
    )
    return dataclasses.replace(row, metrics=stacked([_measured(row, seed) for seed in range(len(seeds))]))


def _measured(row: RowResults, seed: int) -> dict[str, float]:
    """The metrics of the seed with this number."""
    if row.logits is not None:
        label = row.label.astype(np.int64)
        return metrics.classification_metrics(row.logits[seed], label, compat=True, names=row.class_names)
    return metrics.regression_metrics(row.metric_set, row.predictions["M"][seed], row.label, row.label_range)
