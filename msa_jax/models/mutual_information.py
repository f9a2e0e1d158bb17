"""Bounds on mutual information that MMIM is trained by (Han et al. 2021).

All losses are means over the clips of a batch, by their weight [B]: clips of weight 0 only fill the
batch. They enter no mean, covariance or denominator.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from msa_jax.models.objectives import clip_mean
from msa_jax.nn.attention import MASKED

#: Added to every variance before a log-determinant: spread below a deviation of 0.01 (the samples lie
#: within +-1) counts as no spread, and the entropy's gradient stays bounded.
RIDGE = 1e-4
#: Below this length a vector has no direction; it becomes 0.
_SHORTEST = 1e-12


def log_likelihood(y: jax.Array, mean: jax.Array, log_variance: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean over the clips of sum_d -(y_d - mean_d)^2 / (2 exp(log_variance_d)), all [B, D].

    That is a Gaussian's log-density without the term -log_variance / 2, as in the public code: it has
    the upper bound 0. With the term there would be none, and the main pass, which moves ``y`` to raise
    this, could do so without end by letting a modality's vectors collapse.
    """
    return clip_mean(jnp.sum(-((y - mean) ** 2) / (2 * jnp.exp(log_variance)), axis=1), weight)


class Moments(NamedTuple):
    """What a set of n vectors of width d says of their covariance.

    Attributes:
      count: n, a float.
      mean: [d].
      scatter: sum over the vectors of (x - mean)(x - mean)^T, [d, d].
    """

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


def no_moments(width: int) -> Moments:
    """Of an empty set."""
    return Moments(jnp.zeros(()), jnp.zeros((width,)), jnp.zeros((width, width)))


def moments(samples: jax.Array, weight: jax.Array) -> Moments:
    """Of the samples [B, d] whose weight [B] is 1."""
    count = jnp.sum(weight)
    mean = weight @ samples / jnp.maximum(count, 1)
    away = jnp.where(weight[:, None] > 0, samples - jnp.broadcast_to(mean, samples.shape), 0)
    return Moments(count, mean, away.T @ away)


def union(a: Moments, b: Moments) -> Moments:
    """Of two sets together."""
    count = a.count + b.count
    some = jnp.maximum(count, 1)
    apart = b.mean - a.mean
    between = jnp.outer(apart, apart) * (a.count * b.count / some)
    return Moments(count, (a.mean * a.count + b.mean * b.count) / some, a.scatter + b.scatter + between)


def log_determinant(samples: Moments, wanted: jax.Array, ridge: float) -> jax.Array:
    """log det of the covariance (divided by n, not n - 1) plus ``ridge`` on its diagonal.

    Args:
      samples: their moments.
      wanted: bool; where false the result is 0 without a gradient.
      ridge: 0 gives NaN or -inf where there are fewer samples than columns.
    """
    width = samples.mean.shape[0]
    # What goes in is chosen, not what comes out: the gradient of an unwanted NaN would be NaN too.
    covariance = samples.scatter / jnp.where(wanted, samples.count, 1) + ridge * jnp.eye(width)
    sign, value = jnp.linalg.slogdet(jnp.where(wanted, covariance, jnp.eye(width)))
    return value + jnp.log(sign)


def entropy(positive: Moments, negative: Moments, wanted: jax.Array, ridge: float) -> jax.Array:
    """Entropy of a mixture of two Gaussians, up to a constant: 1/4 of each one's log-determinant.

    With a ``ridge`` a class without samples adds 0; with ``ridge`` 0, the public code's arithmetic, NaN.
    """
    parts = []
    for samples in (positive, negative):
        there = wanted & (samples.count > 0) if ridge else wanted
        parts.append(log_determinant(samples, there, ridge))
    return 0.25 * (parts[0] + parts[1])


def _direction(x: jax.Array) -> jax.Array:
    """Rows of x [B, D] with length 1."""
    square = jnp.sum(x**2, axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, _SHORTEST**2))


def contrast(x: jax.Array, predicted: jax.Array, weight: jax.Array) -> jax.Array:
    """InfoNCE: how badly each clip's vector tells its own prediction from those of its batch.

    Mean over clips i of log sum_j exp(x_i . p_j) - x_i . p_i, on directions of x and p, both [B, D].
    """
    scores = _direction(x) @ _direction(predicted).T
    others = jax.nn.logsumexp(scores + jnp.where(weight > 0, 0, MASKED)[None], axis=1)
    return clip_mean(others - jnp.diagonal(scores), weight)
