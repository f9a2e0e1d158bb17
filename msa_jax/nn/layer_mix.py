"""Which layers of a text encoder are read: the last, or all of them together."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax


class LayerMix(nn.Module):
    """One state per step out of those of all layers.

    What was read off the layers of a language model together serves other tasks better than its last layer
    does (Peters et al. 2018, "Deep contextualized word representations", eq. 1, which is "learned" here).
    As in their work and in what `transformers` calls hidden states, the embeddings are the first of the
    states: an encoder of L layers has L + 1. Weights and scale are new: they are not of the folder, and they
    have the learning rate of what stands behind the encoder.

    Attributes:
      layers: "last": the last; "mean": the mean of all; "learned": scale * sum(softmax(weights) * states),
        where the weights start even and the scale at 1, so that it starts as "mean".
    """

    layers: Literal["last", "mean", "learned"]

    @nn.compact
    def __call__(self, states: Sequence[jax.Array]) -> jax.Array:
        """L + 1 states [B, T, D], the embeddings first, to [B, T, D]."""
        if self.layers == "last":
            return states[-1]
        if self.layers == "mean":
            return sum(states[1:], states[0]) / len(states)
        weights = nn.softmax(self.param("weights", nn.initializers.zeros, (len(states),)))
        scale = self.param("scale", nn.initializers.ones, ())
        parts = [weights[i].astype(x.dtype) * x for i, x in enumerate(states)]
        return scale.astype(parts[0].dtype) * sum(parts[1:], parts[0])
