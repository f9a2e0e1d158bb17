"""Batch normalisation over real rows only, with PyTorch's running statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5
#: Share of the new batch in a running statistic.
MOMENTUM = 0.1


class BatchNorm(nn.Module):
    """Normalises each channel over the real entries of a batch, then scales and shifts it.

    A batch is normalised with its biased variance, while the running variance takes the unbiased
    one, as PyTorch does. What is not real (padding steps, rows that only fill a batch) enters
    neither. A channel with no real entry keeps its running statistics, and one with a single entry
    only moves its mean.

    Attributes:
      axis: the channels' axis of x.
      channels: number of channels; 0 takes the size of the axis. With more channels than the axis
        is long, its first ones are used (time positions of a shorter batch).
      affine: whether it scales and shifts.
    """

    axis: int = -1
    channels: int = 0
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array, train: bool) -> jax.Array:
        """x of any shape, and ``real``, bool and broadcastable to it; the result is like x."""
        axis = self.axis % x.ndim
        size = x.shape[axis]
        channels = self.channels or size
        others = tuple(i for i in range(x.ndim) if i != axis)
        shape = [size if i == axis else 1 for i in range(x.ndim)]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        scale, bias = jnp.ones(channels), jnp.zeros(channels)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (channels,))
            bias = self.param("bias", nn.initializers.zeros, (channels,))
        centre, spread = mean.value[:size], var.value[:size]
        if train:
            exact, real = x.astype(jnp.float32), jnp.broadcast_to(real, x.shape)
            count = jnp.sum(real, axis=others, dtype=jnp.float32)
            some = jnp.maximum(count, 1)
            centre = jnp.sum(jnp.where(real, exact, 0), axis=others) / some
            away = jnp.where(real, exact - centre.reshape(shape), 0)
            spread = jnp.sum(away**2, axis=others) / some
            if not self.is_initializing():
                unbiased = spread * count / jnp.maximum(count - 1, 1)
                mean.value = _moved(mean.value, centre, count > 0)
                var.value = _moved(var.value, unbiased, count > 1)
        gain = scale[:size] * jax.lax.rsqrt(spread + EPSILON)
        return ((x - centre.reshape(shape)) * gain.reshape(shape) + bias[:size].reshape(shape)).astype(
            x.dtype
        )


def _moved(old: jax.Array, new: jax.Array, counts: jax.Array) -> jax.Array:
    """Running statistics [C] after a batch's [size], where ``counts``; channels beyond stay."""
    size = new.shape[0]
    moved = jnp.where(counts, (1 - MOMENTUM) * old[:size] + MOMENTUM * new, old[:size])
    return jnp.concatenate([moved, old[size:]])
