"""Confusion matrices and the shares that are read from them."""

import numpy as np

from msa_jax.errors import DataError


def confusion(label: np.ndarray, prediction: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts pairs of classes.

    Args:
      label: int [N], true classes, 0 to n_classes - 1.
      prediction: int [N], predicted classes.
      n_classes: how many classes there are.

    Returns:
      int64 [n_classes, n_classes]; row = true class, column = predicted class.
    """
    pairs = label.astype(np.int64) * n_classes + prediction.astype(np.int64)
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def accuracy(counts: np.ndarray) -> float:
    """Share of the diagonal of a confusion matrix; NaN when it counts nothing."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float("nan")


def weighted_f1(counts: np.ndarray) -> float:
    """F1 per class, averaged with the classes' shares among the labels.

    A class that is neither in the labels nor in the predictions has F1 0 and weight 0.

    Args:
      counts: int [C, C] as :func:`confusion` gives.

    Returns:
      The weighted F1 score; NaN when the matrix counts nothing.
    """
    support = counts.sum(axis=1)
    if not support.sum():
        return float("nan")
    doubled_hits = 2.0 * np.diag(counts)
    f1 = doubled_hits / np.maximum(support + counts.sum(axis=0), 1)
    return float(f1 @ support / support.sum())


def macro_f1(counts: np.ndarray) -> float:
    """F1 per class, averaged over the classes that occur among labels or predictions.

    Args:
      counts: int [C, C] as :func:`confusion` gives.

    Returns:
      The macro F1 score; NaN when the matrix counts nothing.
    """
    total = counts.sum(axis=1) + counts.sum(axis=0)
    occurs = total > 0
    if not occurs.any():
        return float("nan")
    return float((2.0 * np.diag(counts)[occurs] / total[occurs]).mean())


def check_finite(what: str, values: np.ndarray) -> None:
    """Raises DataError if any row of ``values`` [N, ...], called ``what``, is not finite."""
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"the {what} of {len(bad)} of {len(values)} clips are not finite (first: row {bad[0]}); "
            "there are no metrics for such values."
        )
