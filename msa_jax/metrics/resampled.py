"""The metrics of many resamples of the same clips at once, for the bootstrap.

A resample is told by how often it holds each clip: all confusion matrices are then one product of matrices.
"""

import numpy as np

from msa_jax.data.spec import THREE_CLASSES
from msa_jax.metrics.classification import classification_metrics
from msa_jax.metrics.counting import accuracies, macro_f1s, weighted_f1s
from msa_jax.metrics.regression import COUNTED, RegressionSums, checked
from msa_jax.metrics.sets import class_pairs, has_sign, regression_keys

#: Where the variance is a smaller share of the mean square than this, sums of squares have lost too many
#: digits, and the resample is measured by itself.
_LOSES_DIGITS = 1e-6


def resampled_regression(
    metric_set: str,
    prediction: np.ndarray,
    label: np.ndarray,
    draws: np.ndarray,
    label_range: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
    """:func:`msa_jax.metrics.regression_metrics` of R resamples of N clips.

    Args:
      metric_set: "mosi", "sims" or "plain".
      prediction: float [N].
      label: float [N].
      draws: int [R, N], how often each resample holds each clip; at least one clip in every row.
      label_range: lowest and highest possible score; None: scores with a sign.

    Returns:
      Metric -> float64 [R]: what ``regression_metrics`` gives for each resample, to 1e-9.

    Raises:
      DataError: if the set is unknown, the lengths differ, N is 0 or a value is not finite.
    """
    prediction, label = checked(metric_set, prediction, label)
    weight = np.asarray(draws, np.float64)
    pairs = class_pairs(metric_set, prediction, label, label_range)
    counts = {str(n): _confusions(weight, *pair, n) for n, pair in pairs.items()}
    if metric_set == "mosi" and has_sign(label_range):
        kept = label != 0
        counts["non0"] = _confusions(weight[:, kept], label[kept] > 0, prediction[kept] > 0, 2)
    elif metric_set == "sims" and has_sign(label_range):
        prediction, label = np.clip(prediction, -1, 1), np.clip(label, -1, 1)
    values = _measured(np.stack([prediction, label]).astype(np.float64), weight)
    for resample in np.flatnonzero(values.pop("doubtful")):
        times = np.asarray(draws[resample])
        exact = RegressionSums.of("plain", prediction.repeat(times), label.repeat(times)).metrics()
        for key, value in exact.items():
            values[key][resample] = value
    keys = regression_keys(metric_set, label_range)
    for key in COUNTED.keys() & set(keys):
        divide, name = COUNTED[key]
        values[key] = divide(counts[name])
    return {key: values[key] for key in keys}


def resampled_classification(
    logits: np.ndarray,
    label: np.ndarray,
    draws: np.ndarray,
    compat: bool = False,
    names: tuple[str, ...] = THREE_CLASSES,
) -> dict[str, np.ndarray]:
    """:func:`msa_jax.metrics.classification_metrics` of R resamples of N clips.

    Args:
      logits: float [N, K].
      label: int [N], 0 to K - 1.
      draws: int [R, N], how often each resample holds each clip; at least one clip in every row.
      compat: as there.
      names: of the K classes.

    Returns:
      Metric -> float64 [R].

    Raises:
      DataError: as there.
    """
    keys = classification_metrics(logits, label, compat, names)
    logits, label = np.asarray(logits, np.float32), np.asarray(label).astype(np.int64)
    weight = np.asarray(draws, np.float64)
    every = _confusions(weight, label, logits.argmax(axis=1), len(names))
    values = {"accuracy": accuracies(every), "f1_weighted": weighted_f1s(every), "f1_macro": macro_f1s(every)}
    if names == THREE_CLASSES:
        side, kept = logits[:, [0, 2]].argmax(axis=1), label != 1
        values |= {"acc3": values["accuracy"], "f1_3": values["f1_weighted"]}
        some = weight[:, kept]
        for name, matrices in {
            "has0": _confusions(weight, label == 2, side, 2),
            "non0": _confusions(some, label[kept] == 2, side[kept], 2),
            "non0_compat": _confusions(some, label[kept], side[kept], 3),
        }.items():
            values |= {f"acc2_{name}": accuracies(matrices), f"f1_{name}": weighted_f1s(matrices)}
    return {key: values[key] for key in keys}


def _confusions(weight: np.ndarray, label: np.ndarray, prediction: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrices [R, C, C] of resamples with weights [R, N] of clips with classes [N]."""
    pairs = label.astype(np.int64) * n_classes + prediction.astype(np.int64)
    is_pair = pairs[:, None] == np.arange(n_classes * n_classes)
    return (weight @ is_pair.astype(np.float64)).reshape(-1, n_classes, n_classes)


def _measured(pair: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """MAE, Corr, R2 and CCC [R] of predictions and labels [2, N], and which resamples are "doubtful"."""
    count = weight.sum(axis=1)
    # Sums of squares keep their digits near the middle. An element, so that equal scores are exactly 0.
    middle = np.sort(pair, axis=1)[:, pair.shape[1] // 2, None]
    x, y = pair - middle
    columns = np.stack([x, y, x * x, y * y, x * y, np.abs(pair[0] - pair[1]), (pair[0] - pair[1]) ** 2], 1)
    of_x, of_y, xx, yy, xy, absolute, square = (weight @ columns).T / count
    scatter_x, scatter_y, scatter_xy = xx - of_x**2, yy - of_y**2, xy - of_x * of_y
    # Scores that all equal the middle one have no variance; whether others have is a matter of digits.
    same_x, same_y = xx == 0, yy == 0
    doubtful = (~same_x & (scatter_x <= _LOSES_DIGITS * xx)) | (~same_y & (scatter_y <= _LOSES_DIGITS * yy))
    nan = np.full(len(weight), np.nan)
    apart = (of_x - of_y + (middle[0] - middle[1])) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no variance
        corr = np.clip(scatter_xy / np.sqrt(scatter_x * scatter_y), -1, 1)
        ccc = np.where(same_x | same_y, 0.0, 2 * scatter_xy / (scatter_x + scatter_y + apart))
        determined = 1 - square / scatter_y
    return {
        "mae": absolute,
        "corr": np.where(same_x | same_y, nan, corr),
        "r2": np.where(same_y, nan, determined),
        "ccc": np.where(same_x & same_y & (middle[0] == middle[1]), nan, ccc),
        "doubtful": doubtful,
    }
