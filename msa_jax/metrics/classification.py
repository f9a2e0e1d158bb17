"""The metrics of predicted classes."""

import numpy as np

from msa_jax.data.spec import THREE_CLASSES
from msa_jax.errors import DataError
from msa_jax.metrics.counting import accuracy, check_finite, confusion, macro_f1, weighted_f1

#: Of classes of any kind.
_ANY_CLASSES = ("accuracy", "f1_weighted", "f1_macro")
#: Of the three classes of sentiment.
CLASSIFICATION_KEYS = ("acc3", "f1_3", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", *_ANY_CLASSES)


def classification_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics of predicted classes, which have these names, in the order of a table."""
    return CLASSIFICATION_KEYS if names == THREE_CLASSES else _ANY_CLASSES


def classification_metrics(
    logits: np.ndarray, label: np.ndarray, compat: bool = False, names: tuple[str, ...] = THREE_CLASSES
) -> dict[str, float]:
    """The metrics of predicted classes.

    A clip's class is that of the largest logit, the first of equal ones. Accuracy and F1, weighted by
    the labels' class shares or the mean over the classes that occur (macro), hold for any classes.
    Negative, neutral and positive have the field's figures too: Acc-3 and its F1, which are the
    accuracy and weighted F1, and the two-class metrics by the larger of the negative and the positive
    logit; `*_has0` counts neutral labels as negative, `*_non0` drops them.

    Args:
      logits: float [N, K].
      label: int [N], 0 to K - 1.
      names: of the K classes.
      compat: for negative, neutral and positive add `acc2_non0_compat` and `f1_non0_compat`, which
        keep an error of MMSA 1.0 that published "Non0" classification figures contain (Zheng et al.
        2024, Tables 6 and 7): the positive label stays 2 while predictions are 0 or 1, so no positive
        clip counts as right.

    Returns:
      Fractions by :func:`classification_keys`; `*_non0` is NaN when every label is neutral.

    Raises:
      DataError: if shapes or labels do not fit, N is 0 or a logit is not finite.
    """
    logits, label = np.asarray(logits, np.float32), np.asarray(label)
    count = len(names)
    if logits.ndim != 2 or logits.shape[1] != count or label.shape != logits.shape[:1] or not len(label):
        raise DataError(
            f"metrics of {count} classes need logits [N, {count}] and labels [N] of at least one clip; "
            f"the shapes are {logits.shape} and {label.shape}."
        )
    check_finite("logits", logits)
    if not np.isin(label, range(count)).all():
        known = ", ".join(f"{k} ({name})" for k, name in enumerate(names))
        raise DataError(f"class labels must be one of {known:.300}; correct the labels.")
    all_classes = confusion(label, logits.argmax(axis=1), count)
    every = {
        "accuracy": accuracy(all_classes),
        "f1_weighted": weighted_f1(all_classes),
        "f1_macro": macro_f1(all_classes),
    }
    if names != THREE_CLASSES:
        return every
    sentiment = {"acc3": every["accuracy"], "f1_3": every["f1_weighted"]}
    return sentiment | _of_two_sides(logits[:, [0, 2]].argmax(axis=1), label, compat) | every


def _of_two_sides(side: np.ndarray, label: np.ndarray, compat: bool) -> dict[str, float]:
    """The two-class metrics of sides [N], 0 negative and 1 positive, for labels of three classes [N]."""
    kept = label != 1
    counts = {"has0": confusion(label == 2, side, 2), "non0": confusion(label[kept] == 2, side[kept], 2)}
    values = {}
    for name, count in counts.items():
        values |= {f"acc2_{name}": accuracy(count), f"f1_{name}": weighted_f1(count)}
    if compat:
        peer = confusion(label[kept], side[kept], 3)
        values |= {"acc2_non0_compat": accuracy(peer), "f1_non0_compat": weighted_f1(peer)}
    return values
