"""The field's metrics for sentiment scores, as sums that are divided last.

The definitions are those that MMSA users compare by, on CMU-MOSI and CMU-MOSEI (metric set
"mosi") and on CH-SIMS (metric set "sims"). All values are fractions, unrounded float64, and every
comparison happens in float32, where a label of 0.1 lies exactly on a bin edge of 0.1. Nothing here
knows a model.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from msa_jax.data.spec import METRIC_SETS
from msa_jax.errors import DataError

#: The metrics of each set, in the order of a table.
REGRESSION_KEYS = {
    "mosi": ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc3", "acc5", "acc7", "mae", "corr"),
    "sims": ("acc2", "f1", "acc3", "acc5", "mae", "corr"),
}
CLASSIFICATION_KEYS = ("acc3", "f1_3", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0")

#: What MMSA calls our metrics. It has no name for Acc-3 on MOSI and MOSEI, which it never reports.
PEER_NAMES = {
    "mosi": {
        "acc2_has0": "Has0_acc_2",
        "f1_has0": "Has0_F1_score",
        "acc2_non0": "Non0_acc_2",
        "f1_non0": "Non0_F1_score",
        "acc5": "Mult_acc_5",
        "acc7": "Mult_acc_7",
        "mae": "MAE",
        "corr": "Corr",
    },
    "sims": {
        "acc2": "Mult_acc_2",
        "f1": "F1_score",
        "acc3": "Mult_acc_3",
        "acc5": "Mult_acc_5",
        "mae": "MAE",
        "corr": "Corr",
    },
    "classification": {
        "acc3": "Acc_3",
        "f1_3": "F1_score_3",
        "acc2_has0": "Has0_acc_2",
        "f1_has0": "Has0_F1_score",
        "acc2_non0_compat": "Non0_acc_2",
        "f1_non0_compat": "Non0_F1_score",
    },
}

#: The three classes of classification, by number.
THREE_CLASSES = ("negative", "neutral", "positive")
#: Names of the classes of :func:`confusion_matrices`, lowest score first.
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
}

#: CH-SIMS: upper edges of all classes but the last; a class holds its upper edge.
_SIMS_EDGES = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


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


#: The metrics that only count: how to divide, and which confusion matrix of RegressionSums.
_COUNTED = {
    "acc2": (accuracy, "2"),
    "f1": (weighted_f1, "2"),
    "acc2_has0": (accuracy, "2"),
    "f1_has0": (weighted_f1, "2"),
    "acc2_non0": (accuracy, "non0"),
    "f1_non0": (weighted_f1, "non0"),
    "acc3": (accuracy, "3"),
    "acc5": (accuracy, "5"),
    "acc7": (accuracy, "7"),
}


@dataclasses.dataclass(frozen=True)
class RegressionSums:
    """What the regression metrics need of N clips; states of different clips merge.

    Attributes:
      metric_set: "mosi" or "sims".
      counts: confusion matrices by name: "2", "3", "5", for mosi also "7" and "non0".
      count: N.
      absolute_error: sum of absolute errors.
      mean: float64 [2], mean prediction and mean label.
      scatter: float64 [2, 2], sums of products of deviations from the means.
      low: float64 [2], smallest prediction and label.
      high: float64 [2], largest prediction and label.
    """

    metric_set: str
    counts: Mapping[str, np.ndarray]
    count: int
    absolute_error: float
    mean: np.ndarray
    scatter: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, metric_set: str, prediction: np.ndarray, label: np.ndarray) -> "RegressionSums":
        """Sums over clips.

        Args:
          metric_set: "mosi" or "sims".
          prediction: float [N], predicted scores (fillers of a last batch already dropped).
          label: float [N], true scores.

        Raises:
          DataError: if the set is unknown, the lengths differ, N is 0 or a value is not finite.
        """
        prediction, label = _checked(metric_set, prediction, label)
        counts = {str(n): c for n, c in _class_counts(metric_set, prediction, label).items()}
        if metric_set == "mosi":
            kept = label != 0
            counts["non0"] = confusion(label[kept] > 0, prediction[kept] > 0, 2)
        else:
            # CH-SIMS measures MAE and Corr on clipped scores too.
            prediction, label = np.clip(prediction, -1, 1), np.clip(label, -1, 1)
        pair = np.stack([prediction, label]).astype(np.float64)  # [2, N]
        mean = pair.mean(axis=1)
        deviation = pair - mean[:, None]
        return cls(
            metric_set=metric_set,
            counts=counts,
            count=pair.shape[1],
            absolute_error=float(np.abs(pair[0] - pair[1]).sum()),
            mean=mean,
            scatter=deviation @ deviation.T,
            low=pair.min(axis=1),
            high=pair.max(axis=1),
        )

    def merge(self, other: "RegressionSums") -> "RegressionSums":
        """The sums over the clips of both states (pairwise update of means and scatter).

        Raises:
          DataError: if the states belong to different metric sets.
        """
        if self.metric_set != other.metric_set:
            raise DataError(f"sums of the metric sets {self.metric_set} and {other.metric_set} do not merge.")
        count = self.count + other.count
        step = other.mean - self.mean
        return RegressionSums(
            metric_set=self.metric_set,
            counts={name: self.counts[name] + other.counts[name] for name in self.counts},
            count=count,
            absolute_error=self.absolute_error + other.absolute_error,
            mean=self.mean + step * (other.count / count),
            scatter=self.scatter + other.scatter + np.outer(step, step) * (self.count * other.count / count),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )

    def metrics(self) -> dict[str, float]:
        """The set's metrics by our keys, see :func:`regression_metrics`."""
        values = {"mae": self.absolute_error / self.count, "corr": self._correlation()}
        for key in REGRESSION_KEYS[self.metric_set]:
            if key in _COUNTED:
                divide, name = _COUNTED[key]
                values[key] = divide(self.counts[name])
        return {key: values[key] for key in REGRESSION_KEYS[self.metric_set]}

    def _correlation(self) -> float:
        """Pearson's r, NaN when predictions or labels are all equal."""
        if np.any(self.low == self.high):  # exact, where the scatter of a constant is only about 0
            return float("nan")
        r = self.scatter[0, 1] / np.sqrt(self.scatter[0, 0] * self.scatter[1, 1])
        return float(np.clip(r, -1.0, 1.0))


def regression_metrics(metric_set: str, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """The metrics of a set of predicted scores.

    "mosi": Acc-7, Acc-5 and Acc-3 compare scores clipped to ±3, ±2, ±1 and rounded half to even;
    `*_has0` separates negative from non-negative on all clips, `*_non0` negative from positive
    without the clips labelled 0. "sims": scores are clipped to ±1 first, also for MAE and Corr; the
    two classes are [-1, 0] and (0, 1], the three are cut at ±0.1, the five at ±0.1 and ±0.7, and a
    class holds its upper edge. F1 is weighted by the labels' class shares.

    Args:
      metric_set: "mosi" or "sims".
      prediction: float [N].
      label: float [N].

    Returns:
      Fractions (MAE in label units) by the keys of ``REGRESSION_KEYS[metric_set]``. Corr is NaN when
      predictions or labels are all equal, `*_non0` when every label is 0.

    Raises:
      DataError: if the set is unknown, the lengths differ, N is 0 or a value is not finite.
    """
    return RegressionSums.of(metric_set, prediction, label).metrics()


def confusion_matrices(metric_set: str, prediction: np.ndarray, label: np.ndarray) -> dict[int, np.ndarray]:
    """Confusion matrices for every number of classes that the set defines.

    Args:
      metric_set: "mosi" (2, 3, 5 and 7 classes; 2 = negative against non-negative, all clips) or
        "sims" (2, 3 and 5 classes).
      prediction: float [N].
      label: float [N].

    Returns:
      {n: int64 [n, n]}, rows = true class; names in ``CLASS_NAMES[metric_set][n]``.

    Raises:
      DataError: as :func:`regression_metrics`.
    """
    return _class_counts(metric_set, *_checked(metric_set, prediction, label))


def classification_metrics(logits: np.ndarray, label: np.ndarray, compat: bool = False) -> dict[str, float]:
    """The metrics of three-class predictions (0 negative, 1 neutral, 2 positive).

    Acc-3 and its F1 use the largest of the three logits. The two-class metrics use the larger of
    the negative and the positive logit; `*_has0` counts neutral labels as negative, `*_non0` drops
    them. The first of equal logits wins.

    Args:
      logits: float [N, 3].
      label: int [N].
      compat: add `acc2_non0_compat` and `f1_non0_compat`, which keep an error of MMSA 1.0 that
        published "Non0" classification figures contain (Zheng et al. 2024, Tables 6 and 7): the
        positive label stays 2 while predictions are 0 or 1, so no positive clip counts as right.

    Returns:
      Fractions by the keys of ``CLASSIFICATION_KEYS``; `*_non0` is NaN when every label is neutral.

    Raises:
      DataError: if shapes or labels do not fit, N is 0 or a logit is not finite.
    """
    logits, label = np.asarray(logits, np.float32), np.asarray(label)
    if logits.ndim != 2 or logits.shape[1] != 3 or label.shape != logits.shape[:1] or not len(label):
        raise DataError(
            f"three-class metrics need logits [N, 3] and labels [N] of at least one clip; "
            f"the shapes are {logits.shape} and {label.shape}."
        )
    _check_finite("logits", logits)
    if not np.isin(label, (0, 1, 2)).all():
        raise DataError("class labels must be 0 (negative), 1 (neutral) or 2 (positive); mend the labels.")
    three = confusion(label, logits.argmax(axis=1), 3)
    side = logits[:, [0, 2]].argmax(axis=1)
    has0 = confusion(label == 2, side, 2)
    kept = label != 1
    non0 = confusion(label[kept] == 2, side[kept], 2)
    values = {
        "acc3": accuracy(three),
        "f1_3": weighted_f1(three),
        "acc2_has0": accuracy(has0),
        "f1_has0": weighted_f1(has0),
        "acc2_non0": accuracy(non0),
        "f1_non0": weighted_f1(non0),
    }
    if compat:
        peer = confusion(label[kept], side[kept], 3)
        values |= {"acc2_non0_compat": accuracy(peer), "f1_non0_compat": weighted_f1(peer)}
    return values


def _checked(metric_set: str, prediction: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32 [N], after refusing what has no metrics."""
    if metric_set not in METRIC_SETS:
        raise DataError(f"unknown metric set {metric_set!r}; the known ones are {', '.join(METRIC_SETS)}.")
    prediction, label = np.asarray(prediction, np.float32), np.asarray(label, np.float32)
    if prediction.ndim != 1 or prediction.shape != label.shape or not len(label):
        raise DataError(
            f"metrics need one predicted and one true score for at least one clip; "
            f"the shapes are {prediction.shape} and {label.shape}."
        )
    _check_finite("predictions", prediction)
    _check_finite("labels", label)
    return prediction, label


def _check_finite(what: str, values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"the {what} of {len(bad)} of {len(values)} clips are not finite (first: row {bad[0]}); "
            "there are no metrics for such values."
        )


def _class_counts(metric_set: str, prediction: np.ndarray, label: np.ndarray) -> dict[int, np.ndarray]:
    """Confusion matrices of float32 [N] scores for every class count of the set."""
    return {
        n: confusion(_classes(metric_set, label, n), _classes(metric_set, prediction, n), n)
        for n in CLASS_NAMES[metric_set]
    }


def _classes(metric_set: str, score: np.ndarray, n_classes: int) -> np.ndarray:
    """The class int [N] of float32 [N] scores."""
    if metric_set == "sims":  # the outermost classes take what lies beyond ±1, as clipping would
        return np.searchsorted(np.asarray(_SIMS_EDGES[n_classes], np.float32), score, side="left")
    if n_classes == 2:
        return (score >= 0).astype(np.int64)
    bound = n_classes // 2
    return np.rint(np.clip(score, -bound, bound)).astype(np.int64) + bound
