"""The cross-modal transformer of MulT (Tsai et al. 2019): one modality reads another.

Pre-norm layers. Queries come from the stream that is being encoded; keys and values, in every layer,
from the other modality as it entered. Without another modality it is self-attention.

Here a query never sees more than a prefix of the keys: the source's real steps, and with the causal
mask of the public code not those far ahead. So one number per query, its ``reach``, is the whole mask.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.attention import keep
from msa_jax.nn.bits import hashed_uniform
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import product
from msa_jax.nn.pooling import last_step
from msa_jax.nn.prefix_attention import attend, weights_in_full
from msa_jax.nn.transformer import layer_norm


def xavier_uniform(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Uniform within +-sqrt(6 / (fan in + fan out)), for kernels [in, out]."""
    return hashed_uniform(key, shape, (6 / sum(shape)) ** 0.5).astype(dtype)


def key_reach(queries: jax.Array, sources: jax.Array, steps: int, causal: bool) -> jax.Array:
    """How many keys each query sees.

    With the causal mask, query i of a clip with Lq and Lk real steps sees key j if
    j <= i + |Lk - Lq|: where the source is longer, its steps count as ahead by as much.

    Args:
      queries: Lq per clip, [B].
      sources: Lk per clip, [B].
      steps: T, number of queries with padding.
      causal: whether the mask is on; without, every real key is seen.

    Returns:
      int [B, T]; 0 where the source has no step.
    """
    sources = sources[:, None]
    if not causal:
        return jnp.broadcast_to(sources, (queries.shape[0], steps))
    ahead = jnp.abs(sources - queries[:, None])
    return jnp.minimum(jnp.arange(1, steps + 1)[None] + ahead, sources)


def positions(steps: int, width: int) -> jax.Array:
    """Sines (first half of the columns) and cosines of the step's number, from 1, [T, D].

    At rates from 1 down to 1/10000, both included; an odd last column is 0.
    """
    half = width // 2
    rates = jnp.exp(jnp.arange(half) * (-math.log(1e4) / max(half - 1, 1)))
    angles = jnp.arange(1, steps + 1)[:, None] * rates[None]
    table = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
    return jnp.pad(table, ((0, 0), (0, width % 2)))


def placed(x: jax.Array, real: jax.Array) -> jax.Array:
    """x [B, T, D] plus :func:`positions` at the steps ``real`` [B, T], for a stack that is to know places.

    A stack scales its input by sqrt(D); positions are added such that what it reads are the table's.
    """
    table = positions(x.shape[1], x.shape[2]) / x.shape[2] ** 0.5
    return x + jnp.where(real[..., None], table[None], 0).astype(x.dtype)


def _affine(x: jax.Array, features: int, name: str) -> jax.Array:
    """A submodule: affine map with MulT's initial values, [B, T, D] to [B, T, features].

    As rows of one matrix, for the reason that :func:`~msa_jax.nn.initializers.product` gives.
    """
    rows = nn.Dense(features, kernel_init=xavier_uniform, name=name)(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], features)


class CrossModalAttention(nn.Module):
    """Multi-head attention with the three input projections in one matrix, as in the public code.

    Attributes:
      heads: K, a divisor of D.
      dropout: rate on the attention weights.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        source: jax.Array,
        reach: jax.Array,
        train: bool,
        query_mask: jax.Array | None = None,
    ) -> jax.Array:
        """query [B, Tq, D] reads source [B, Tk, D] as far as reach [B, Tq]; gives [B, Tq, D].

        The queries' real steps, query_mask [B, Tq] (None: all), are only for
        :func:`~msa_jax.nn.attention.keep`.
        """
        width = query.shape[-1]
        kernel = self.param("in_proj_kernel", xavier_uniform, (width, 3 * width))
        bias = self.param("in_proj_bias", nn.initializers.zeros, (3 * width,))

        def project(x: jax.Array, first: int, last: int) -> list[jax.Array]:
            y = product(x, kernel[:, first * width : last * width])
            y = y + jnp.broadcast_to(bias[first * width : last * width], y.shape)
            y = y.reshape(*x.shape[:2], last - first, self.heads, -1)
            return [y[:, :, i].swapaxes(1, 2) for i in range(last - first)]  # [B, K, T, D/K]

        (queries,), (keys, values) = project(query, 0, 1), project(source, 1, 3)
        rate = self.dropout if train else 0.0
        seed = self.make_rng("dropout") if rate else jax.random.key(0)
        queries = queries * (width // self.heads) ** -0.5
        if self.is_mutable_collection("intermediates"):
            read = (
                jnp.arange(keys.shape[2])[None] < reach.max(axis=1)[:, None]
            )  # the last real query sees all
            keep(self, weights_in_full(queries, keys, reach), query_mask, read)
        heads: Any = attend(queries, keys, values, reach, seed, rate)
        joined = heads.swapaxes(1, 2).reshape(query.shape)
        return _affine(joined, width, "output")


class CrossModalLayer(nn.Module):
    """x + attention(LN x, LN source), then x + FF(LN x), with a hidden width of 4D and ReLU.

    Query, key and value share one LayerNorm.

    Attributes:
      heads: K.
      attention_dropout: rate on the attention weights.
      relu_dropout: rate after the ReLU.
      residual_dropout: rate on what either half adds.
    """

    heads: int
    attention_dropout: float
    relu_dropout: float
    residual_dropout: float

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        source: jax.Array,
        reach: jax.Array,
        train: bool,
        query_mask: jax.Array | None = None,
    ) -> jax.Array:
        """x [B, Tq, D], source [B, Tk, D], reach [B, Tq] to [B, Tq, D]; the rest as the attention has it."""
        residual, width = Dropout(self.residual_dropout), x.shape[-1]
        norm = layer_norm("norm_1")
        attention = CrossModalAttention(self.heads, self.attention_dropout, name="attention")
        x = x + residual(attention(norm(x), norm(source), reach, train, query_mask=query_mask), train)
        hidden = nn.relu(_affine(layer_norm("norm_2")(x), 4 * width, "inner"))
        hidden = Dropout(self.relu_dropout)(hidden, train)
        return x + residual(_affine(hidden, width, "outer"), train)


class CrossModalEncoder(nn.Module):
    """A stack of such layers over an input that is scaled by sqrt(D), and a LayerNorm at the end.

    Attributes:
      heads: K.
      n_layers: number of layers.
      attention_dropout: see :class:`CrossModalLayer`.
      relu_dropout: see there.
      residual_dropout: see there.
      embed_dropout: rate on the scaled input and source.
      causal: see :func:`key_reach`.
    """

    heads: int
    n_layers: int
    attention_dropout: float
    relu_dropout: float
    residual_dropout: float
    embed_dropout: float
    causal: bool

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        source: jax.Array | None = None,
        source_mask: jax.Array | None = None,
        train: bool = False,
        last_only: bool = False,
    ) -> jax.Array:
        """Encodes x [B, Tq, D] with mask [B, Tq]. Padding is not read, but it must be finite.

        Args:
          x: the stream.
          mask: its real steps.
          source: [B, Tk, D] that x reads from; None: x itself.
          source_mask: the source's real steps, [B, Tk]; None with it.
          train: whether dropout is on.
          last_only: compute of the last layer only what the clips' last real steps need.

        Returns:
          [B, Tq, D], unspecified at padding; with ``last_only`` [B, 1, D].
        """
        embed, scale = Dropout(self.embed_dropout), x.shape[-1] ** 0.5
        x = embed(x * scale, train)
        source = None if source is None else embed(source * scale, train)
        lengths = mask.sum(axis=1)
        source_lengths = lengths if source_mask is None else source_mask.sum(axis=1)
        reach = key_reach(lengths, source_lengths, x.shape[1], self.causal)
        for layer in range(self.n_layers):
            keys = x if source is None else source
            if last_only and layer == self.n_layers - 1:
                x, reach = last_step(x, mask)[:, None], source_lengths[:, None]
            x = CrossModalLayer(
                self.heads,
                self.attention_dropout,
                self.relu_dropout,
                self.residual_dropout,
                name=f"layer_{layer}",
            )(x, keys, reach, train, query_mask=mask)
        return layer_norm("norm")(x)


def encoded_end(
    stack: CrossModalEncoder, x: jax.Array, mask: jax.Array, train: bool, in_full: bool
) -> jax.Array:
    """What a stack of self-attention makes of the clips' last real steps.

    Args:
      stack: the stack.
      x: [B, T, D].
      mask: the real steps, [B, T].
      train: whether dropout is on.
      in_full: compute every step and read one, as the public code does, with its count of operations.

    Returns:
      [B, D]; 0 for a clip without a step.
    """
    encoded = stack(x, mask, train=train, last_only=not in_full)
    last = last_step(encoded, mask) if in_full else encoded[:, 0]
    return jnp.where(mask.any(axis=1)[:, None], last, 0)
