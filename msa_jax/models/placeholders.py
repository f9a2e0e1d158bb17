"""In front of any model: how a clip looks that lacks a modality, and what stands where a step was lost.

A model that was trained on clips with lost modalities (``train.corrupt=modalities``) reads a clip that has
none of a modality, and one of which all of it was lost, as the same: one step of the placeholder. So it does
not matter how long the lost modality was, and what was trained is what is met. Where all modalities share
the text's steps, that is a placeholder at each of them.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models.outputs import Outputs

#: What a lost step becomes: zeros as the model reads its features, the training split's mean, or a vector
#: that is learned with the model and starts at zero.
KINDS = ("zero", "mean", "learned")


class Placeholders(nn.Module):
    """A model with placeholders; its parameters are the model's, and ``placeholder_MODALITY`` [D] if learned.

    A real step whose columns are all zero counts as lost: that is what losses leave.

    Attributes:
      model: what reads the batch.
      kind: of KINDS.
      means: per modality that has features, float32 [D], the training split's mean as the model reads it.
      absent: modalities that clips may lack as a whole.
      aligned: whether all modalities share the text's steps.
    """

    model: nn.Module
    kind: str
    means: Mapping[str, np.ndarray]
    absent: tuple[str, ...]
    aligned: bool

    def setup(self) -> None:
        """Shares the model's scope."""
        nn.share_scope(self, self.model)  # paths of parameters are the model's own

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """What the model says of the batch with its placeholders."""
        values, mask = dict(batch.values), dict(batch.mask)
        for m in self.means:
            if m in self.absent:
                mask[m] = self._steps(batch, m)
            values[m] = self._filled(m, values[m], mask[m], batch.mask[m])
        return self.model(batch.replace(values=values, mask=mask), train)

    def _steps(self, batch: Batch, m: str) -> jax.Array:
        """The steps [B, T] of a modality that count as real, where clips that lack it have some too."""
        mask = batch.mask[m]
        if self.aligned:
            others = [batch.mask[other] for other in MODALITIES if other != m]
            return mask | (~mask.any(axis=1, keepdims=True) & (others[0] | others[1]))
        lacking = ~(mask & (batch.values[m] != 0).any(axis=2)).any(axis=1)
        first = jnp.arange(mask.shape[1])[None, :] == 0
        # Not jnp.where: onnxruntime has none for bool.
        return (lacking[:, None] & first) | (~lacking[:, None] & mask)

    def _filled(self, m: str, x: jax.Array, mask: jax.Array, stored: jax.Array) -> jax.Array:
        """Features [B, T, D] with the placeholder at the real steps that say nothing."""
        nothing = mask & (~stored | (x == 0).all(axis=2))
        width = x.shape[2]
        if self.kind == "learned":
            filler: Any = self.param(f"placeholder_{m}", nn.initializers.zeros, (width,))
        else:
            filler = self.means[m] if self.kind == "mean" else np.zeros(width, np.float32)
        return jnp.where(nothing[:, :, None], jnp.asarray(filler, x.dtype)[None, None, :], x)


def with_placeholders(
    model: nn.Module, spec: DatasetSpec, kind: str, absent: tuple[str, ...], means: Mapping[str, np.ndarray]
) -> nn.Module:
    """A model that reads clips with lost steps and modalities as it was trained to.

    Args:
      model: of a configuration.
      spec: the data set as the model reads it.
      kind: of KINDS.
      absent: modalities that clips may lack as a whole.
      means: per modality that has features, its training mean as the model reads it, float32 [D].
    """
    aligned = len({modality.length for modality in spec.modalities.values()}) == 1
    return Placeholders(model, kind, means, absent, aligned)
