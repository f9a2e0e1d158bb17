"""From predictions to what clients read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax import metrics


def answers(predictions: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One object per clip, of plain values.

    Args:
      predictions: per task float32 scores [N], or logits [N, C]; "M" is the clip's own.
      spec: of the model, see :func:`msa_jax.serve.scorer.described`.

    Returns:
      For scores "score", "class" where scores have a sign, and "scores" (task -> score) where the model
      has more than one; for logits "class", "probabilities" (class -> share) and "classes" (task -> class).
    """
    final = predictions["M"]
    others = {task: predictions[task] for task in spec["tasks"] if task != "M"}
    names, edges = spec["classes"], spec["class_edges"]
    if final.ndim == 2:
        powers = np.exp(final - final.max(axis=1, keepdims=True), dtype=np.float64)
        shares = powers / powers.sum(axis=1, keepdims=True)
        made: list[dict[str, Any]] = [
            {"class": names[int(k)], "probabilities": dict(zip(names, share, strict=True))}
            for k, share in zip(final.argmax(axis=1), shares.tolist(), strict=True)
        ]
        named = {task: [names[int(k)] for k in y.argmax(axis=1)] for task, y in others.items()}
        return _with(made, "classes", named)
    made = [{"score": rounded(y)} for y in final]
    if edges is not None:
        for row, k in zip(made, metrics.sentiment_of(final, spec["metrics"], tuple(edges)), strict=True):
            row["class"] = names[int(k)] if row["score"] is not None else None
    return _with(made, "scores", {task: [rounded(v) for v in y] for task, y in others.items()})


def rounded(score: np.floating | float) -> float | None:
    """The nine digits that make a float32 exact; None for what is not finite."""
    return float(f"{score:.9g}") if np.isfinite(score) else None


def _with(rows: list[dict[str, Any]], key: str, columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows with a dictionary of the columns' values, where there are columns."""
    if columns:
        for number, row in enumerate(rows):
            row[key] = {task: values[number] for task, values in columns.items()}
    return rows
