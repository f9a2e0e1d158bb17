"""The one structure that models and objectives read."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from msa_jax.data.spec import DatasetSpec


class Batch(flax.struct.PyTreeNode):
    """B clips, padded to common lengths. Any B works, 1 included.

    Attributes:
      values: per modality float [B, T, D]. Padding steps may hold anything, NaN included.
      mask: per modality bool [B, T], True = real step; real steps come first.
      labels: per task float [B] (M, and T, A, V where the data has them).
      index: int [B], the clip's row in its split.
      weight: float [B], 1 for a real clip and 0 for a row that only fills the batch.
      tokens: int [B, 3, S] (token ids, mask, segment ids) where the data has them, else None. S is T of the
        text, or more where utterances before a clip stand behind its own (:mod:`msa_jax.data.context`).
      before: the same clips before a training step took something of them; None where nothing was taken.
    """

    values: Mapping[str, jax.Array]
    mask: Mapping[str, jax.Array]
    labels: Mapping[str, jax.Array]
    index: jax.Array
    weight: jax.Array
    tokens: jax.Array | None = None
    before: "Before | None" = None


class Before(flax.struct.PyTreeNode):
    """Clips as they were, for models that learn from both.

    Attributes:
      clips: the whole batch.
      lost: per modality bool [B, T], True = a real step that was taken.
      rates: per modality float [B], the rate that was asked for; what was taken is a draw at that rate.
    """

    clips: Batch
    lost: Mapping[str, jax.Array]
    rates: Mapping[str, jax.Array]


def example_batch(spec: DatasetSpec, rows: int, shape: tuple[int, int, int] | None = None) -> Batch:
    """A batch of zeros with the data set's widths, for initialising and measuring models.

    Args:
      spec: the data set.
      rows: B.
      shape: steps of text, audio, vision; None takes the data set's own lengths.
    """
    steps: dict[str, int] = {name: modality.length for name, modality in spec.modalities.items()}
    if shape is not None:
        steps = dict(zip(tuple(steps), shape, strict=True))
    tokens = steps["text"]
    if spec.context:
        steps["text"] = min(tokens, spec.modalities["text"].length)
    return Batch(
        values={m: jnp.zeros((rows, steps[m], spec.modalities[m].width), jnp.float32) for m in steps},
        mask={m: jnp.ones((rows, steps[m]), bool) for m in steps},
        labels={task: jnp.zeros((rows,), jnp.float32) for task in spec.tasks},
        index=jnp.zeros((rows,), jnp.int32),
        weight=jnp.ones((rows,), jnp.float32),
        tokens=jnp.zeros((rows, 3, tokens), jnp.int32) if spec.has_tokens else None,
    )
