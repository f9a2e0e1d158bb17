"""Dropout on hashed bits (see :mod:`msa_jax.nn.bits`)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.bits import hashed_bits


def drop(
    x: jax.Array,
    rate: float,
    key: jax.Array,
    first: jax.Array | int = 0,
    strides: tuple[int, ...] | None = None,
) -> jax.Array:
    """Sets each element of x to 0 with probability ``rate`` and scales the others by 1 / (1 - rate).

    ``first`` and ``strides`` say where in a larger array x lies, as in
    :func:`~msa_jax.nn.bits.hashed_bits`.
    """
    if rate == 0:
        return x
    # An element is kept where its bits are below the threshold; 2^-32 is the grain of the rate.
    threshold = jnp.uint32(min(round((1 - rate) * 2**32), 2**32 - 1))
    keep = hashed_bits(key, x.shape, first, strides) < threshold
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


class Dropout(nn.Module):
    """:func:`drop` where a model trains, with a key of its own for every call.

    Attributes:
      rate: from 0 to below 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x of any shape; unchanged where ``train`` is false."""
        if not train or self.rate == 0:
            return x
        return drop(x, self.rate, self.make_rng("dropout"))
