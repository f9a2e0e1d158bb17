"""Parts of transformers: feed-forward network, post-norm encoder layer, positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Dense


def layer_norm(name: str) -> nn.LayerNorm:
    """LayerNorm with PyTorch's epsilon (Flax has 1e-6) and two-pass variance; float32 statistics."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


def sinusoidal_positions(steps: int, width: int) -> jax.Array:
    """Sines (first half of the columns) and cosines of 1 / 10000^(i / half) per step, [T, D]."""
    half = (width + 1) // 2
    rates = 10000.0 ** (-jnp.arange(half) / half)
    angles = jnp.arange(steps)[:, None] * rates[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :width]


def interleaved_positions(steps: int, width: int) -> jax.Array:
    """Sines (even columns) and cosines (odd ones) of 1 / 10000^(2i / D) per step, [T, D]."""
    rates = 10000.0 ** (-jnp.arange(0, width, 2) / width)
    angles = jnp.arange(steps)[:, None] * rates[None, :]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(steps, -1)[:, :width]


class FeedForward(nn.Module):
    """Dense, ReLU, dropout, Dense, per step.

    Attributes:
      hidden: width between the two.
      dropout: rate after the ReLU.
    """

    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[..., D] to [..., D]."""
        hidden = nn.relu(Dense(self.hidden, name="inner")(x))
        hidden = Dropout(self.dropout)(hidden, train)
        return Dense(x.shape[-1], name="outer")(hidden)


class EncoderLayer(nn.Module):
    """Post-norm encoder layer as in PyTorch: LN(x + attention(x)), then LN(x + FF(x)).

    Attributes:
      heads: K.
      hidden: width inside the feed-forward network.
      dropout: rate on attention weights, inside the network, and on both sub-layers' outputs.
    """

    heads: int
    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """[B, T, D] to [B, T, D]; mask [B, T] and bias [T, T] as in MultiHeadAttention."""
        drop = Dropout(self.dropout)
        attend = MultiHeadAttention(self.heads, dropout=self.dropout, packed_init=True, name="attention")
        x = layer_norm("norm_1")(x + drop(attend(x, x, mask, bias, train, query_mask=mask), train))
        x = x + drop(FeedForward(self.hidden, self.dropout, name="ff")(x, train), train)
        return layer_norm("norm_2")(x)
