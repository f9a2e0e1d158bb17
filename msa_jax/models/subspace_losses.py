"""How MISA keeps its subspaces apart and together (Hazarika et al. 2020).

Every loss compares two sets of clip vectors [B, H] over the clips of a batch, by their weight [B]:
clips of weight 0 only fill the batch and enter no mean.
"""

import jax
import jax.numpy as jnp

#: Added to a clip's norm in :func:`difference`.
_EPSILON = 1e-6


def _clip_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean over the clips, [B, H] to [H]."""
    return weight @ x / jnp.maximum(jnp.sum(weight), 1)


def _centred(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [B, H] minus its mean; 0 where the weight is 0."""
    away = x - jnp.broadcast_to(_clip_mean(x, weight), x.shape)
    return jnp.where(weight[:, None] > 0, away, 0)


def difference(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Soft orthogonality: mean square of A^T B, where row i of A is clip i, centred and of length 1.

    The lengths carry no gradient, as in the public code.
    """
    rows = [_centred(x, weight) for x in (a, b)]
    lengths = [jax.lax.stop_gradient(jnp.sqrt(jnp.sum(x**2, axis=1, keepdims=True))) for x in rows]
    first, second = (x / (length + _EPSILON) for x, length in zip(rows, lengths, strict=True))
    return jnp.mean((first.T @ second) ** 2)


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distance of two vectors [H]; its gradient at 0 is 0 and not NaN."""
    square = jnp.sum((a - b) ** 2)
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def moment_discrepancy(a: jax.Array, b: jax.Array, weight: jax.Array, moments: int = 5) -> jax.Array:
    """Central moment discrepancy (Zellinger et al. 2017) for values in an interval of length 1.

    The distance of the means, plus the distance of each central moment from the 2nd to that of order
    ``moments``.
    """
    total = _distance(_clip_mean(a, weight), _clip_mean(b, weight))
    first, second = _centred(a, weight), _centred(b, weight)
    for order in range(2, moments + 1):
        total += _distance(_clip_mean(first**order, weight), _clip_mean(second**order, weight))
    return total


def squared_distance(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean squared error over clips and columns."""
    return jnp.mean(_clip_mean((a - b) ** 2, weight))
