"""Pre-norm transformer blocks in the form that TMT and ALMT use.

Query, key and value have a LayerNorm each; their projections have no bias, the output's has one; the
heads' width is free; the feed-forward network has an exact GELU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.attention import attention_weights, keep
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Dense
from msa_jax.nn.transformer import layer_norm


class PreNormAttention(nn.Module):
    """Attention on normalised inputs.

    Attributes:
      heads: K.
      head_width: H.
      dropout: rate on the output.
    """

    heads: int
    head_width: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        source: jax.Array,
        mask: jax.Array | None = None,
        train: bool = False,
        query_mask: jax.Array | None = None,
    ) -> jax.Array:
        """query [B, Tq, D] reads the real steps, mask [B, Tk] (None: all), of source [B, Tk, D].

        Padding must be finite. Gives [B, Tq, D]. The queries' own real steps, query_mask [B, Tq] (None: all),
        are only for :func:`~msa_jax.nn.attention.keep`.
        """

        def project(x: jax.Array, name: str) -> jax.Array:
            y = Dense(self.heads * self.head_width, use_bias=False, name=name)(layer_norm(f"norm_{name}")(x))
            return y.reshape(*x.shape[:2], self.heads, self.head_width).swapaxes(1, 2)  # [B, K, T, H]

        queries, keys, values = project(query, "query"), project(source, "key"), project(source, "value")
        weights = attention_weights(queries, keys, self.head_width**-0.5, mask)
        keep(self, weights, query_mask, mask)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, values).swapaxes(1, 2)
        joined = heads.reshape(*query.shape[:2], self.heads * self.head_width)
        return Dropout(self.dropout)(Dense(query.shape[-1], name="output")(joined), train)


class PreNormFeedForward(nn.Module):
    """LayerNorm, Dense, GELU, dropout, Dense, dropout, per step.

    Attributes:
      hidden: width between the two.
      dropout: rate in both places.
    """

    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[..., D] to [..., D]."""
        dropout = Dropout(self.dropout)
        hidden = nn.gelu(Dense(self.hidden, name="inner")(layer_norm("norm")(x)), approximate=False)
        return dropout(Dense(x.shape[-1], name="outer")(dropout(hidden, train)), train)


class PreNormEncoder(nn.Module):
    """Layers of x + attention, x + feed-forward.

    Attributes:
      n_layers: number of layers.
      heads: K.
      head_width: H.
      hidden: width inside the feed-forward network.
      dropout: see the two blocks.
    """

    n_layers: int
    heads: int
    head_width: int
    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        source: jax.Array | None = None,
        mask: jax.Array | None = None,
        train: bool = False,
        keep: int | None = None,
    ) -> jax.Array:
        """Encodes x [B, Tq, D], which in every layer reads source [B, Tk, D] (None: itself).

        Args:
          x: the stream. Padding must be finite.
          source: the same for all layers.
          mask: real steps of what is read, [B, Tk]; None: all.
          train: whether dropout is on.
          keep: how many of the first steps are wanted; None: all. The last layer leaves out the others.
        """
        for i in range(self.n_layers):
            attention = PreNormAttention(self.heads, self.head_width, self.dropout, name=f"attention_{i}")
            read = x if source is None else source
            x = x[:, : keep if i == self.n_layers - 1 else None]
            x = x + attention(x, read, mask, train, query_mask=mask if source is None else None)
            x = x + PreNormFeedForward(self.hidden, self.dropout, name=f"ff_{i}")(x, train)
        return x
