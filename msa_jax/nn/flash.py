"""Attention whose weights are not kept: the backward pass computes them again (FlashAttention)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from msa_jax.nn.attention import MASKED
from msa_jax.nn.dropout import drop

#: Weights of one piece, see :func:`in_pieces`: a few arrays of as many numbers fit a core's own cache.
PIECE = 2**16


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, reach: jax.Array, seed: jax.Array, rate: float
) -> jax.Array:
    """softmax(query . key) . value, with dropout on the weights; a query that sees no key gets zeros.

    The weights [B, K, Tq, Tk] are the bulk of this model's memory (2.1 GB per copy for 16 full clips
    of MOSI if all layers keep theirs for the backward pass). They are not kept: the backward pass computes
    them again from their normaliser, as FlashAttention does (Dao et al. 2022).

    Args:
      query: [B, K, Tq, H], scaled.
      key: [B, K, Tk, H].
      value: [B, K, Tk, H].
      reach: keys that each query sees, int [B, Tq].
      seed: random key of the dropout.
      rate: of the dropout.

    Returns:
      [B, K, Tq, H].
    """
    rows = _rows(query, key, value, reach)
    return _unflat(_forward_piece(0, *rows, seed=seed, rate=rate)[0], query)


def _attend_forward(query, key, value, reach, seed, rate):
    piece = functools.partial(_forward_piece, seed=seed, rate=rate)
    weights = query.shape[2] * key.shape[2]
    out, normaliser = in_pieces(piece, weights, *_rows(query, key, value, reach))
    return _unflat(out, query), (query, key, value, reach, seed, out, normaliser)


def _attend_backward(rate, saved, gradient):
    query, key, value, reach, seed, out, normaliser = saved
    # A zero that no compiler knows to be one. Through it the scores depend on the gradient; otherwise XLA
    # sees that the forward pass computed the same and keeps that (on a CPU it drops optimization_barrier).
    zero = 0 * gradient[0, 0, 0, 0]
    seed = jax.random.wrap_key_data(jax.random.key_data(seed) + zero.astype(jnp.uint32))
    piece = functools.partial(_backward_piece, seed=seed, rate=rate)
    weights = query.shape[2] * key.shape[2]
    rows = _rows(query + zero, key, value, reach)
    found = in_pieces(piece, weights, *rows, out, normaliser, _flat(gradient))
    return *(_unflat(x, query) for x in found), None, None


attend.defvjp(_attend_forward, _attend_backward)


def _forward_piece(start, query, key, value, reach, *, seed, rate):
    """Some rows, [R, T, H], of all clips' heads: their outputs [R, Tq, H] and normalisers [R, Tq, 1]."""
    visible = _visible(reach, key)
    scores = jnp.where(visible, _scores(query, key), MASKED)
    largest = scores.max(axis=-1, keepdims=True)
    weights = jnp.where(visible, jnp.exp(scores - largest), 0)
    total = jnp.maximum(weights.sum(axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    dropped = drop(weights, rate, seed, start).astype(value.dtype)
    out = jnp.einsum("rqt,rth->rqh", dropped, value, preferred_element_type=jnp.float32) / total
    return out.astype(query.dtype), largest + jnp.log(total)


def _backward_piece(start, query, key, value, reach, out, normaliser, gradient, *, seed, rate):
    """The gradients of the same rows' queries, keys and values."""
    weights = jnp.where(_visible(reach, key), jnp.exp(_scores(query, key) - normaliser), 0)
    mean = jnp.sum((gradient * out).astype(jnp.float32), axis=-1, keepdims=True)
    d_scores = weights * (drop(_scores(gradient, value), rate, seed, start) - mean)
    d_scores, dropped = d_scores.astype(query.dtype), drop(weights, rate, seed, start).astype(query.dtype)
    return (
        jnp.einsum("rqt,rth->rqh", d_scores, key),
        jnp.einsum("rqt,rqh->rth", d_scores, query),
        jnp.einsum("rqt,rqh->rth", dropped, gradient),
    )


def _visible(reach: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.arange(key.shape[1])[None, None] < reach[:, :, None]


def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.einsum("rqh,rth->rqt", query, key, preferred_element_type=jnp.float32)


def _rows(
    query: jax.Array, key: jax.Array, value: jax.Array, reach: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """One row per clip and head: [B, K, T, H] to [B * K, T, H], and reach [B, Tq] to [B * K, Tq]."""
    return _flat(query), _flat(key), _flat(value), jnp.repeat(reach, query.shape[1], axis=0)


def _flat(x: jax.Array) -> jax.Array:
    """[B, K, T, H] to [B * K, T, H]."""
    return x.reshape(-1, *x.shape[2:])


def _unflat(x: jax.Array, query: jax.Array) -> jax.Array:
    """[B * K, T, H] to [B, K, T, H]."""
    return x.reshape(*query.shape[:2], *x.shape[1:])


def on_one_cpu() -> bool:
    """Whether the only device is a CPU."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def in_pieces(function: Callable[..., Any], weights: int, *rows: jax.Array) -> Any:
    """``function(start, *rows)``, on one CPU for a few rows after the other.

    XLA writes every intermediate result for all clips and heads to memory and reads it again. A few rows'
    stay in the cache. Accelerators, and rows that are spread over devices, are better off as a whole.

    Args:
      function: of the position of the rows' first weight, and the rows; its results have as many rows.
      weights: of a row, Tq * Tk.
      *rows: arrays [R, ...].
    """
    count = rows[0].shape[0]
    size = max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, PIECE // weights))
    if size == count or not on_one_cpu():
        return function(0, *rows)
    starts = jnp.arange(count // size, dtype=jnp.uint32) * jnp.uint32(size * weights)
    pieces = [x.reshape(count // size, size, *x.shape[1:]) for x in rows]
    found = jax.lax.map(lambda piece: function(*piece), (starts, *pieces))
    return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), found)
