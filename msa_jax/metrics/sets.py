"""Which metrics and classes a metric set has, for scores with a sign and without.

"mosi" is what the field reports on CMU-MOSI and CMU-MOSEI, "sims" what it reports on CH-SIMS, "plain" what
scores of any kind have.
"""

import numpy as np

from msa_jax.data.spec import THREE_CLASSES, has_centre
from msa_jax.metrics.counting import confusion

#: The metrics of each set, in the order of a table, for scores with a sign.
REGRESSION_KEYS = {
    "mosi": ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc3", "acc5", "acc7", "mae", "corr"),
    "sims": ("acc2", "f1", "acc3", "acc5", "mae", "corr"),
    "plain": ("mae", "corr", "r2", "ccc"),
}
#: The scores of which less is better, among the metrics and what else a run measures.
LOWER_IS_BETTER = ("loss", "mae")
#: How a metric is written in a table.
METRIC_NAMES = {
    "acc2": "Acc-2",
    "f1": "F1",
    "acc2_has0": "Acc-2 Has0",
    "f1_has0": "F1 Has0",
    "acc2_non0": "Acc-2 Non0",
    "f1_non0": "F1 Non0",
    **{f"acc{n}": f"Acc-{n}" for n in range(3, 10)},
    "mae": "MAE",
    "corr": "Corr",
    "r2": "R2",
    "ccc": "CCC",
    "accuracy": "Accuracy",
    "f1_weighted": "F1 (weighted)",
    "f1_macro": "F1 (macro)",
    "f1_3": "F1 (three classes)",
    "acc2_non0_compat": "Acc-2 Non0 as in MMSA 1.0",
    "f1_non0_compat": "F1 Non0 as in MMSA 1.0",
}
#: The metrics that are no shares.
NUMBERS = ("mae", "corr", "r2", "ccc")
#: As many whole numbers a label range may have for an accuracy of rounded scores.
MOST_STEPS = 9

#: Names of the classes of :func:`confusion_matrices` for scores with a sign, lowest score first.
CLASS_NAMES = {
    "mosi": {
        2: ("negative", "non-negative"),
        3: THREE_CLASSES,
        5: ("-2", "-1", "0", "1", "2"),
        7: ("-3", "-2", "-1", "0", "1", "2", "3"),
    },
    "sims": {
        2: ("negative or neutral", "positive"),
        3: THREE_CLASSES,
        5: ("negative", "weakly negative", "neutral", "weakly positive", "positive"),
    },
    "plain": {},
}

#: CH-SIMS: upper edges of all classes but the last; a class holds its upper edge.
_SIMS_EDGES = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


def regression_keys(metric_set: str, label_range: tuple[float, float] | None = None) -> tuple[str, ...]:
    """The metrics of a data set's scores, in the order of a table.

    Args:
      metric_set: "mosi", "sims" or "plain".
      label_range: lowest and highest possible score; None: scores with a sign.
    """
    if metric_set == "plain" or has_sign(label_range):
        return REGRESSION_KEYS[metric_set]
    return (*(f"acc{n}" for n in score_classes(metric_set, label_range)), "mae", "corr")


def left_out(metric_set: str, label_range: tuple[float, float]) -> str:
    """One sentence on the metrics of a set that a label range makes meaningless, or ""."""
    keys = regression_keys(metric_set, label_range)
    absent = [key for key in REGRESSION_KEYS[metric_set] if key not in keys]
    if not absent:
        return ""
    low, high = label_range
    return (
        f"scores from {low:g} to {high:g} have no negative and positive side, so {', '.join(absent)} are "
        "left out; data.metrics=plain measures such scores."
    )


def score_classes(
    metric_set: str, label_range: tuple[float, float] | None = None
) -> dict[int, tuple[str, ...]]:
    """Names of the classes of :func:`confusion_matrices` by their number, lowest score first.

    Scores of "mosi" without a sign are rounded to the whole numbers of their range, where these are
    few: the accuracy of a range of 1 to 5 is "acc5".
    """
    if has_sign(label_range) or metric_set != "mosi":
        return CLASS_NAMES[metric_set] if has_sign(label_range) else {}
    assert label_range is not None
    low, high = label_range
    steps = round(high) - round(low) + 1
    whole = round(low) == low and round(high) == high and 2 < steps <= MOST_STEPS
    return {steps: tuple(str(round(low) + k) for k in range(steps))} if whole else {}


def has_sign(label_range: tuple[float, float] | None) -> bool:
    """Whether scores have a sign; None stands for a range with one."""
    return label_range is None or has_centre(label_range)


def sentiment_of(scores: np.ndarray, metric_set: str, edges: tuple[float, float]) -> np.ndarray:
    """Which scores [N] are called negative (0), neutral (1) and positive (2), as the set's Acc-3 does.

    Args:
      scores: float32 [N].
      metric_set: "mosi" or "sims", whose classes hold their upper edge.
      edges: of the neutral scores.
    """
    low, high = np.asarray(edges, np.float32)
    above = scores > low if metric_set == "sims" and low < high else scores >= low
    return above.astype(np.int64) + (scores > high)


def class_pairs(
    metric_set: str, prediction: np.ndarray, label: np.ndarray, label_range: tuple[float, float] | None
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """True and predicted classes int [N] of float32 [N] scores, for every class count of the set."""
    lowest = None if has_sign(label_range) or label_range is None else round(label_range[0])

    def classes(score: np.ndarray, n: int) -> np.ndarray:
        return _classes(metric_set, score, n) if lowest is None else _rounded(score, lowest, n)

    return {n: (classes(label, n), classes(prediction, n)) for n in score_classes(metric_set, label_range)}


def class_counts(
    metric_set: str, prediction: np.ndarray, label: np.ndarray, label_range: tuple[float, float] | None
) -> dict[int, np.ndarray]:
    """Confusion matrices of float32 [N] scores for every class count of the set."""
    pairs = class_pairs(metric_set, prediction, label, label_range)
    return {n: confusion(*pair, n) for n, pair in pairs.items()}


def _classes(metric_set: str, score: np.ndarray, n_classes: int) -> np.ndarray:
    """The class int [N] of float32 [N] scores with a sign."""
    if metric_set == "sims":  # the outermost classes take what lies beyond ±1, as clipping would
        return np.searchsorted(np.asarray(_SIMS_EDGES[n_classes], np.float32), score, side="left")
    if n_classes == 2:
        return (score >= 0).astype(np.int64)
    return _rounded(score, -(n_classes // 2), n_classes)


def _rounded(score: np.ndarray, lowest: int, n_classes: int) -> np.ndarray:
    """Scores [N] rounded to the ``n_classes`` whole numbers from ``lowest``, as classes from 0."""
    return np.rint(np.clip(score, lowest, lowest + n_classes - 1)).astype(np.int64) - lowest
