"""Losses that compare vectors by the cosine of the angle between them."""

import jax
import jax.numpy as jnp


def directions(x: jax.Array) -> jax.Array:
    """Each vector of [..., W] at length 1; 0 stays 0."""
    # The square under the root stays above 0, where its gradient is finite.
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=-1, keepdims=True), 1e-16))


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cosine of the angle between two vectors, [..., W] to [...]; 0 where one is 0."""
    return jnp.sum(directions(a) * directions(b), axis=-1)


def overlap(a: jax.Array, b: jax.Array) -> jax.Array:
    """How far two vectors point the same way, [..., W] to [...]: their cosine, 0 where it is negative."""
    return jnp.maximum(cosine(a, b), 0)


def ranking(x: jax.Array, labels: jax.Array, real: jax.Array, margin: float) -> jax.Array:
    """Vectors with the same label shall be closer to each other than to others, the more the labels differ.

    Of a vector i, one with its label p and one with another n: max(0, margin |label_i - label_n| - cos(i, p)
    + cos(i, n)); the mean over all pairs (p, n), then over the vectors that have both (DLF, Wang et al. 2025,
    from DMD, Li et al. 2023).

    Args:
      x: [N, W].
      labels: [N]; two are the same if they are exactly equal.
      real: bool [N]; the others are left out.
      margin: for labels that are 1 apart.

    Returns:
      A number; 0 if no vector has both.
    """
    units = directions(x)
    cosines = jnp.matmul(units, units.T, precision="highest")
    apart = jnp.abs(labels[:, None] - labels[None])
    others = real[:, None] & real[None] & ~jnp.eye(len(x), dtype=bool)
    same, different = others & (apart == 0), others & (apart > 0)
    short = (margin * apart + cosines)[:, None, :] - cosines[:, :, None]  # [i, p, n]
    counted = same[:, :, None] & different[:, None, :]
    total = jnp.sum(jnp.where(counted, jnp.maximum(short, 0), 0), axis=(1, 2))
    pairs = same.sum(axis=1) * different.sum(axis=1)
    return jnp.sum(total / jnp.maximum(pairs, 1)) / jnp.maximum(jnp.sum(pairs > 0), 1)
