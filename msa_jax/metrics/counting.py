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


def accuracies(counts: np.ndarray) -> np.ndarray:
    """Shares of the diagonals of confusion matrices [..., C, C] as [...]; NaN where one counts nothing."""
    return _shares(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def accuracy(counts: np.ndarray) -> float:
    """Share of the diagonal of a confusion matrix; NaN when it counts nothing."""
    return float(accuracies(counts))


def weighted_f1s(counts: np.ndarray) -> np.ndarray:
    """:func:`weighted_f1` of confusion matrices [..., C, C] as [...]."""
    support = counts.sum(axis=-1)
    return _shares((_f1_of_classes(counts) * support).sum(axis=-1), support.sum(axis=-1))


def weighted_f1(counts: np.ndarray) -> float:
    """F1 per class, averaged with the classes' shares among the labels.

    A class that is neither in the labels nor in the predictions has F1 0 and weight 0.

    Args:
      counts: int [C, C] as :func:`confusion` gives.

    Returns:
      The weighted F1 score; NaN when the matrix counts nothing.
    """
    return float(weighted_f1s(counts))


def macro_f1s(counts: np.ndarray) -> np.ndarray:
    """:func:`macro_f1` of confusion matrices [..., C, C] as [...]."""
    occurs = counts.sum(axis=-1) + counts.sum(axis=-2) > 0
    return _shares((_f1_of_classes(counts) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def macro_f1(counts: np.ndarray) -> float:
    """F1 per class, averaged over the classes that occur among labels or predictions.

    Args:
      counts: int [C, C] as :func:`confusion` gives.

    Returns:
      The macro F1 score; NaN when the matrix counts nothing.
    """
    return float(macro_f1s(counts))


def _f1_of_classes(counts: np.ndarray) -> np.ndarray:
    """F1 [..., C] of every class; 0 for one that does not occur."""
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    return 2.0 * np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(total, 1)


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Parts [...] of wholes [...], NaN where a whole is 0."""
    return np.divide(parts, wholes, out=np.full(np.shape(wholes), np.nan), where=np.asarray(wholes) > 0)


def check_finite(what: str, values: np.ndarray) -> None:
    """Raises DataError if any row of ``values`` [N, ...], called ``what``, is not finite."""
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"the {what} of {len(bad)} of {len(values)} clips are not finite (first: row {bad[0]}); "
            "there are no metrics for such values."
        )
