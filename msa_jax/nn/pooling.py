"""From a sequence to one vector, over the real steps only."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.attention import keep
from msa_jax.nn.initializers import Dense


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the real steps, [B, T, D] with mask [B, T] to [B, D]; zero for a clip of length 0."""
    count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(x.dtype)
    return jnp.sum(jnp.where(mask[..., None], x, 0), axis=1) / count[:, None]


def masked_max(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Largest value over the real steps, [B, T, D] to [B, D]; zero for a clip of length 0."""
    top = jnp.max(jnp.where(mask[..., None], x, jnp.finfo(x.dtype).min), axis=1)
    return jnp.where(jnp.any(mask, axis=1)[:, None], top, 0)


def last_step(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The last real step, [B, T, D] to [B, D]; zero for a clip of length 0."""
    following = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    return jnp.sum(jnp.where((mask & ~following)[..., None], x, 0), axis=1)


class AttentionPooling(nn.Module):
    """Mean weighted by a learned score per step: softmax_t(w . x_t + b), over the real steps.

    Attributes:
      bounded: whether a tanh keeps the scores between -1 and 1.
    """

    bounded: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """[B, T, D] with mask [B, T] to [B, D]; zero for a clip of length 0."""
        x = jnp.where(mask[..., None], x, 0)
        scores = Dense(1, name="score")(x)[..., 0].astype(jnp.float32)
        scores = jnp.tanh(scores) if self.bounded else scores
        weights = nn.softmax(jnp.where(mask, scores, -1e9), axis=1).astype(x.dtype)
        keep(self, weights[:, None, None], None, mask)
        return jnp.einsum("bt,btd->bd", weights, x)
