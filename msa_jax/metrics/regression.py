"""The metrics of predicted scores, as sums that are divided last."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from msa_jax.data.spec import METRIC_SETS
from msa_jax.errors import DataError
from msa_jax.metrics.counting import accuracies, check_finite, confusion, weighted_f1s
from msa_jax.metrics.sets import MOST_STEPS, class_counts, has_sign, regression_keys

#: The metrics that only count: how to divide, and which confusion matrix of RegressionSums.
COUNTED = {
    "acc2": (accuracies, "2"),
    "f1": (weighted_f1s, "2"),
    "acc2_has0": (accuracies, "2"),
    "f1_has0": (weighted_f1s, "2"),
    "acc2_non0": (accuracies, "non0"),
    "f1_non0": (weighted_f1s, "non0"),
    **{f"acc{n}": (accuracies, str(n)) for n in range(3, MOST_STEPS + 1)},
}


@dataclasses.dataclass(frozen=True)
class RegressionSums:
    """What the regression metrics need of N clips; states of different clips merge.

    Attributes:
      metric_set: "mosi", "sims" or "plain".
      label_range: of the scores; None: they have a sign.
      counts: confusion matrices by name: "2", "3", "5", for mosi also "7" and "non0"; see
        :func:`score_classes`.
      count: N.
      absolute_error: sum of absolute errors.
      mean: float64 [2], mean prediction and mean label.
      scatter: float64 [2, 2], sums of products of deviations from the means.
      low: float64 [2], smallest prediction and label.
      high: float64 [2], largest prediction and label.
    """

    metric_set: str
    label_range: tuple[float, float] | None
    counts: Mapping[str, np.ndarray]
    count: int
    absolute_error: float
    mean: np.ndarray
    scatter: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(
        cls,
        metric_set: str,
        prediction: np.ndarray,
        label: np.ndarray,
        label_range: tuple[float, float] | None = None,
    ) -> "RegressionSums":
        """Sums over clips.

        Args:
          metric_set: "mosi", "sims" or "plain".
          prediction: float [N], predicted scores (fillers of a last batch already dropped).
          label: float [N], true scores.
          label_range: lowest and highest possible score; None: scores with a sign.

        Raises:
          DataError: if the set is unknown, the lengths differ, N is 0 or a value is not finite.
        """
        prediction, label = checked(metric_set, prediction, label)
        counts = {str(n): c for n, c in class_counts(metric_set, prediction, label, label_range).items()}
        if metric_set == "mosi" and has_sign(label_range):
            kept = label != 0
            counts["non0"] = confusion(label[kept] > 0, prediction[kept] > 0, 2)
        elif metric_set == "sims" and has_sign(label_range):
            # CH-SIMS measures MAE and Corr on clipped scores too.
            prediction, label = np.clip(prediction, -1, 1), np.clip(label, -1, 1)
        pair = np.stack([prediction, label]).astype(np.float64)  # [2, N]
        mean = pair.mean(axis=1)
        deviation = pair - mean[:, None]
        return cls(
            metric_set=metric_set,
            label_range=label_range,
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
          DataError: if the states belong to different metric sets or label ranges.
        """
        if self.metric_set != other.metric_set:
            raise DataError(f"sums of the metric sets {self.metric_set} and {other.metric_set} do not merge.")
        if self.label_range != other.label_range:
            raise DataError(
                f"sums of the label ranges {self.label_range} and {other.label_range} do not merge."
            )
        count = self.count + other.count
        step = other.mean - self.mean
        return RegressionSums(
            metric_set=self.metric_set,
            label_range=self.label_range,
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
        values |= {"r2": self._determination(), "ccc": self._concordance()}
        keys = regression_keys(self.metric_set, self.label_range)
        for key in keys:
            if key in COUNTED:
                divide, name = COUNTED[key]
                values[key] = float(divide(self.counts[name]))
        return {key: values[key] for key in keys}

    def _determination(self) -> float:
        """R2, the share of the labels' variance that is explained; NaN when labels are all equal."""
        if self.low[1] == self.high[1]:
            return float("nan")
        return float(1 - self._squared_error() / self.scatter[1, 1])

    def _concordance(self) -> float:
        """Lin's concordance correlation coefficient; NaN when all predictions and labels are equal."""
        if np.all(self.low == self.high) and self.low[0] == self.low[1]:
            return float("nan")
        if np.any(self.low == self.high):
            return 0.0
        apart = self.count * (self.mean[0] - self.mean[1]) ** 2
        return float(2 * self.scatter[0, 1] / (np.trace(self.scatter) + apart))

    def _squared_error(self) -> float:
        """The sum of squared errors: of deviations from the means, and of the means."""
        deviations = np.trace(self.scatter) - 2 * self.scatter[0, 1]
        return float(max(deviations, 0.0) + self.count * (self.mean[0] - self.mean[1]) ** 2)

    def _correlation(self) -> float:
        """Pearson's r, NaN when predictions or labels are all equal."""
        if np.any(self.low == self.high):  # exact, where the scatter of a constant is only about 0
            return float("nan")
        r = self.scatter[0, 1] / np.sqrt(self.scatter[0, 0] * self.scatter[1, 1])
        return float(np.clip(r, -1.0, 1.0))


def regression_metrics(
    metric_set: str,
    prediction: np.ndarray,
    label: np.ndarray,
    label_range: tuple[float, float] | None = None,
) -> dict[str, float]:
    """The metrics of a set of predicted scores.

    "mosi": Acc-7, Acc-5 and Acc-3 compare scores clipped to ±3, ±2, ±1 and rounded half to even;
    `*_has0` separates negative from non-negative on all clips, `*_non0` negative from positive
    without the clips labelled 0. "sims": scores are clipped to ±1 first, also for MAE and Corr; the
    two classes are [-1, 0] and (0, 1], the three are cut at ±0.1, the five at ±0.1 and ±0.7, and a
    class holds its upper edge. F1 is weighted by the labels' class shares. "plain": besides MAE and Corr
    the coefficient of determination R2 and the concordance correlation coefficient CCC (Lin 1989, with
    variances divided by N), on scores as they are.

    Args:
      metric_set: "mosi", "sims" or "plain".
      prediction: float [N].
      label: float [N].
      label_range: lowest and highest possible score; None: scores with a sign. Without a sign only the
        metrics of :func:`regression_keys` are left, on scores as they are.

    Returns:
      Fractions (MAE in label units) by :func:`regression_keys`. Corr is NaN when predictions or labels
      are all equal, R2 when labels are, `*_non0` when every label is 0.

    Raises:
      DataError: if the set is unknown, the lengths differ, N is 0 or a value is not finite.
    """
    return RegressionSums.of(metric_set, prediction, label, label_range).metrics()


def confusion_matrices(
    metric_set: str,
    prediction: np.ndarray,
    label: np.ndarray,
    label_range: tuple[float, float] | None = None,
) -> dict[int, np.ndarray]:
    """Confusion matrices for every number of classes that the set defines.

    Args:
      metric_set: "mosi" (2, 3, 5 and 7 classes; 2 = negative against non-negative, all clips),
        "sims" (2, 3 and 5 classes) or "plain" (none).
      prediction: float [N].
      label: float [N].
      label_range: lowest and highest possible score; None: scores with a sign.

    Returns:
      {n: int64 [n, n]}, rows = true class; names in :func:`score_classes`.

    Raises:
      DataError: as :func:`regression_metrics`.
    """
    return class_counts(metric_set, *checked(metric_set, prediction, label), label_range)


def checked(metric_set: str, prediction: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels as float32 [N], after refusing what has no metrics."""
    if metric_set not in METRIC_SETS:
        raise DataError(f"unknown metric set {metric_set!r}; the known ones are {', '.join(METRIC_SETS)}.")
    prediction, label = np.asarray(prediction, np.float32), np.asarray(label, np.float32)
    if prediction.ndim != 1 or prediction.shape != label.shape or not len(label):
        raise DataError(
            f"metrics need one predicted and one true score for at least one clip; "
            f"the shapes are {prediction.shape} and {label.shape}."
        )
    check_finite("predictions", prediction)
    check_finite("labels", label)
    return prediction, label
