"""What a run predicts for a split, put together from its chunks and scored."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_jax import metrics
from msa_jax.configuration import Config
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Chunk
from msa_jax.data.spec import DatasetSpec


def gather(clips: Split, outs: Sequence[tuple[Chunk, Any]]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Puts the predictions of a split's chunks into the order of its N clips.

    Args:
      clips: the split.
      outs: each chunk of one batch, and what was predicted for it (``Programs.predict_chunk``).

    Returns:
      Head -> float32 [N] or logits [N, C], with the fusion vectors [N, F] as "fusion vector"; and the
      objective's losses, each summed over clips and then divided.
    """
    arrays: dict[str, np.ndarray] = {}
    sums: dict[str, float] = {}
    for chunk, out in outs:
        rows, real = chunk.index[0], chunk.weight[0] > 0
        for name, column in {**out["predictions"], "fusion vector": out["fusion"]}.items():
            column = np.asarray(column)
            array = arrays.setdefault(name, np.zeros((len(clips), *column.shape[1:]), np.float32))
            array[rows[real]] = column[real]
        parts = {k: float(v) for k, v in out["parts"].items()}
        weight = parts.pop("weight")
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value * weight
    losses = {"loss" if k == "loss" else f"loss_{k}": v / len(clips) for k, v in sums.items()}
    return arrays, losses


def scores_of(
    config: Config, spec: DatasetSpec, prediction: np.ndarray, label: np.ndarray
) -> dict[str, float]:
    """The metrics of a run's final predictions.

    Args:
      config: of the run.
      spec: of its data.
      prediction: scores [N], or logits [N, C].
      label: scores or class numbers [N].
    """
    if config.model.task == "classification":
        names = spec.class_names
        return metrics.classification_metrics(prediction, label.astype(np.int64), compat=True, names=names)
    return metrics.regression_metrics(spec.metrics, prediction, label, spec.label_range)
