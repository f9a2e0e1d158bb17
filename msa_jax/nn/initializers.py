"""Initial values as in PyTorch, and the affine layer that uses them.

The published settings of every model here were tuned with PyTorch's defaults: uniform within
+-1/sqrt(fan in) for the kernel *and* the bias of affine and convolution layers, within
+-1/sqrt(H) for all weights of recurrent layers. Flax draws wider kernels and zero biases.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.bits import hashed_uniform

Initializer = Callable[..., jax.Array]


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Uniform within +-1/sqrt(fan in), for kernels [..., in, out]."""
    return hashed_uniform(key, shape, math.prod(shape[:-1]) ** -0.5).astype(dtype)


def symmetric_uniform(bound: float) -> Initializer:
    """Uniform within +-``bound``: biases (1/sqrt(fan in)) and recurrent weights (1/sqrt(H))."""

    def init(key, shape, dtype=jnp.float32):
        return hashed_uniform(key, shape, bound).astype(dtype)

    return init


class Dense(nn.Module):
    """Affine map of the last axis, [..., D] to [..., features], with PyTorch's initial values.

    Attributes:
      features: output width.
      use_bias: whether a bias is added.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to [..., features]."""
        width = x.shape[-1]
        y = x @ self.param("kernel", fan_in_uniform, (width, self.features))
        if self.use_bias:
            bias = self.param("bias", symmetric_uniform(width**-0.5), (self.features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y
