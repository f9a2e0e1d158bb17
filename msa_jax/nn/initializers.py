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

from msa_jax.nn.bits import hashed_normal, hashed_uniform

Initializer = Callable[..., jax.Array]


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Uniform within +-1/sqrt(fan in), for kernels [..., in, out]."""
    return hashed_uniform(key, shape, math.prod(shape[:-1]) ** -0.5).astype(dtype)


def symmetric_uniform(bound: float) -> Initializer:
    """Uniform within +-``bound``: biases (1/sqrt(fan in)) and recurrent weights (1/sqrt(H))."""

    def init(key, shape, dtype=jnp.float32):
        return hashed_uniform(key, shape, bound).astype(dtype)

    return init


def xavier_normal(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Normal with variance 2 / (fan in + fan out), for kernels [in, out]."""
    return hashed_normal(key, shape, (2 / sum(shape)) ** 0.5).astype(dtype)


class Dense(nn.Module):
    """Affine map of the last axis, [..., D] to [..., features], with PyTorch's initial values.

    Attributes:
      features: output width.
      use_bias: whether a bias is added.
      fan_in: what the initial range is computed from, where this is one part of a wider map that is
        applied in parts; None: D.
      kernel_init: other initial values of the kernel.
      bias_init: the same for the bias.
    """

    features: int
    use_bias: bool = True
    fan_in: int | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to [..., features]."""
        init = symmetric_uniform((self.fan_in or x.shape[-1]) ** -0.5)
        y = product(x, self.param("kernel", self.kernel_init or init, (x.shape[-1], self.features)))
        if self.use_bias:
            bias = self.param("bias", self.bias_init or init, (self.features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, [..., D] by [D, features], as a product of two matrices.

    With more axes the kernel's gradient sums over several at once, and XLA for CPUs then transposes
    whole copies of its operands, which takes about as long as the product.
    """
    rows = x.reshape(-1, x.shape[-1]) @ kernel
    return rows.reshape(*x.shape[:-1], kernel.shape[-1])
