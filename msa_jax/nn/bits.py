"""Random bits that cost little to compile and to draw.

JAX's own generator (threefry) is made for statistics; a model with twenty dropout layers and a
hundred parameter arrays spends most of its compilation on it. Dropout masks and initial values need
far less: here each element's bits are an integer hash of its position and the layer's key. They
depend on nothing else, so any number of devices draws the same ones.
"""

import functools
import math

import jax
import jax.numpy as jnp


# Jitted so that it is traced once a shape: Flax asks for the shape of every parameter's initial value
# whenever it traces a model, which made these lines a third of what comes before compilation.
@functools.partial(jax.jit, static_argnames=("shape", "strides"))
def hashed_bits(
    key: jax.Array,
    shape: tuple[int, ...],
    first: jax.Array | int = 0,
    strides: tuple[int, ...] | None = None,
) -> jax.Array:
    """uint32 bits of ``shape``, a function of the key and each element's position.

    Two rounds of a multiply-and-shift mixer with low bias (constants of "lowbias32", found by C.
    Wellons by search), one for each word of the key.

    Args:
      key: random key.
      shape: of the result.
      first: position of the first element, for a part of a larger array.
      strides: by how much the position grows along each axis of that array; None: those of ``shape``.
    """
    words = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)
    if strides is None:
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    bits = jnp.broadcast_to(jnp.asarray(first, jnp.uint32), shape)
    for axis, stride in enumerate(strides):
        bits = bits + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    for word in (words[0], words[-1]):
        bits = _mix(bits ^ jnp.broadcast_to(word, shape))
    return bits


@functools.partial(jax.jit, static_argnames="shape")
def hashed_uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    """float32 of ``shape``, uniform within +-``bound`` on a grid of 2^24 values."""
    unit = (hashed_bits(key, shape) >> 8).astype(jnp.float32) * 2.0**-24
    return (2 * unit - 1) * bound


@functools.partial(jax.jit, static_argnames="shape")
def hashed_normal(key: jax.Array, shape: tuple[int, ...], deviation: float) -> jax.Array:
    """float32 of ``shape``, normal with mean 0, from the quantiles of :func:`hashed_uniform`'s grid."""
    edge = 1 - 2.0**-24  # the grid's lowest value, -1, has no finite quantile
    uniform = jnp.clip(hashed_uniform(key, shape, 1.0), -edge, edge)
    return deviation * 2**0.5 * jax.lax.erf_inv(uniform)


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
