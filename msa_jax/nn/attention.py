"""Multi-head attention with key masks, equal to PyTorch's with its packed weights taken apart."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Dense, symmetric_uniform

#: Added to the scores of padding keys. Not -inf: where a clip has no real key at all, the softmax
#: must stay finite (it is then even over keys whose values are zero).
MASKED = -1e9


def causal_bias(queries: int, keys: int, ahead: int = 0) -> jax.Array:
    """Scores to add, [Tq, Tk], that let query i see the keys up to i + ``ahead``."""
    hidden = jnp.arange(keys)[None, :] > jnp.arange(queries)[:, None] + ahead
    return jnp.where(hidden, MASKED, 0.0)


def attention_weights(
    query: jax.Array, key: jax.Array, scale: float, mask: jax.Array | None, bias: jax.Array | None = None
) -> jax.Array:
    """softmax(scale * query . key), computed in float32.

    Args:
      query: [B, K, Tq, H].
      key: [B, K, Tk, H].
      scale: factor on the scores.
      mask: real keys, [B, Tk]; None: all.
      bias: [Tq, Tk] added to every clip's and head's scores.

    Returns:
      [B, K, Tq, Tk], in the dtype of ``query``.
    """
    scores = jnp.einsum("bkqh,bkth->bkqt", query * scale, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias[None, None].astype(jnp.float32)
    if mask is not None:
        scores = scores + jnp.where(mask, 0.0, MASKED)[:, None, None]
    return nn.softmax(scores, axis=-1).astype(query.dtype)


class Kept(NamedTuple):
    """What is kept of an attention where somebody asks.

    Attributes:
      weights: [B, K, Tq, Tk], before any dropout; a row adds up to 1 over the real keys.
      queries: bool [B, Tq], True = a real step.
      keys: bool [B, Tk], the same of what is read.
    """

    weights: jax.Array
    queries: jax.Array
    keys: jax.Array


def keep(
    module: nn.Module,
    weights: jax.Array,
    queries: jax.Array | None,
    keys: jax.Array | None,
    name: str = "attention",
) -> None:
    """Keeps weights as :class:`Kept` under ``intermediates/<name>``, if that collection is mutable.

    Else nothing is done or traced, so that a prediction is the same program as without.

    Args:
      module: whose weights they are.
      weights: [B, K, Tq, Tk].
      queries: real steps, [B, Tq] or with more behind, which are cut off; None: all.
      keys: real steps, [B, Tk]; None: all.
      name: where a module has several.
    """
    if not module.is_mutable_collection("intermediates"):
        return
    batch, _, steps, sources = weights.shape
    queries = jnp.ones((batch, steps), bool) if queries is None else queries[:, :steps]
    keys = jnp.ones((batch, sources), bool) if keys is None else keys
    module.sow("intermediates", name, Kept(weights, queries, keys))


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention over time, with K heads of width D/K.

    Attributes:
      heads: K; it must divide the width D of the queries.
      use_bias: whether the four projections have biases.
      dropout: rate on the attention weights.
      packed_init: the initial values that PyTorch gives its packed layer (Xavier uniform over query,
        key and value as one kernel, zero biases), instead of those of four affine maps.
      output_bias: whether the output's projection has a bias; None: as ``use_bias``.
    """

    heads: int
    use_bias: bool = True
    dropout: float = 0.0
    packed_init: bool = False
    output_bias: bool | None = None

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        source: jax.Array,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        train: bool = False,
        query_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Lets each query step read from the source's real steps.

        Args:
          query: [B, Tq, D].
          source: [B, Tk, Ds], keys and values alike. Its padding is not read.
          mask: real steps of the source, [B, Tk]; None: all.
          bias: added to the scores, [Tq, Tk], such as :func:`causal_bias`.
          train: whether dropout is on.
          query_mask: real steps of the queries, [B, Tq], which only :func:`keep` asks for; None: all.

        Returns:
          [B, Tq, D].
        """
        if mask is not None:
            source = jnp.where(mask[..., None], source, 0)
        width = query.shape[-1]
        kernel_init = symmetric_uniform((6 / (4 * width)) ** 0.5) if self.packed_init else None
        bias_init = nn.initializers.zeros if self.packed_init else None

        def project(x, name):
            y = Dense(width, self.use_bias, kernel_init=kernel_init, bias_init=bias_init, name=name)(x)
            return y.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)  # [B, K, T, D/K]

        queries, keys, values = project(query, "query"), project(source, "key"), project(source, "value")
        weights = attention_weights(queries, keys, (width // self.heads) ** -0.5, mask, bias)
        keep(self, weights, query_mask, mask)
        weights = Dropout(self.dropout)(weights, train)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, values)
        joined = heads.swapaxes(1, 2).reshape(query.shape)
        with_bias = self.use_bias if self.output_bias is None else self.output_bias
        return Dense(width, with_bias, bias_init=bias_init, name="output")(joined)
