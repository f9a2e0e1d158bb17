"""Confusion matrices of runs, as pages show them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax import metrics


def matrices(
    metric_set: str,
    label_range: tuple[float, float],
    class_names: Sequence[str],
    label: np.ndarray,
    prediction: np.ndarray,
) -> dict[int, tuple[np.ndarray, Sequence[str]]]:
    """Every confusion matrix of predictions, by its number of classes.

    Args:
      metric_set: "mosi", "sims" or "plain".
      label_range: lowest and highest possible score.
      class_names: of the C classes, where classes are predicted; empty for scores.
      label: float [N], scores or class numbers.
      prediction: likewise.

    Returns:
      C -> int64 [C, C], rows are true classes, and the classes' names. Scores are cut into each number of
      classes that the metric set knows, which may be none.
    """
    if class_names:
        count = len(class_names)
        return {count: (metrics.confusion(label.astype(int), prediction.astype(int), count), class_names)}
    names = metrics.score_classes(metric_set, label_range)
    found = metrics.confusion_matrices(metric_set, prediction, label, label_range)
    return {count: (matrix, names[count]) for count, matrix in found.items()}


def as_table(matrix: np.ndarray, names: Sequence[str]) -> Mapping[str, Any]:
    """A matrix [C, C] for a page: per row its name, its clips, and per cell (clips, share of the row)."""
    totals = matrix.sum(axis=1)
    rows = [
        [(int(count), count / total if total else 0.0) for count in row]
        for row, total in zip(matrix, totals, strict=True)
    ]
    return {"n": len(names), "names": names, "rows": list(zip(names, totals.tolist(), rows, strict=True))}
