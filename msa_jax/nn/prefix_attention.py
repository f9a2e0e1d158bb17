"""Attention in which a query sees a prefix of the keys, without ever holding all of its weights.

The weights [B, K, Tq, Tk] are the bulk of MulT's memory (2.1 GB per copy for 16 full clips of MOSI if
all layers keep theirs for the backward pass). They are not kept: the backward pass computes them again
from their normaliser, as FlashAttention does (Dao et al. 2022). On a CPU they are also computed tile by
tile, so that they stay in its caches, and tiles that no query sees are left out. Other platforms take
all of a layer at once, as one tile; so does a program for several devices (:func:`spread_over`), each for its
own clips, since the loop over tiles would have every device compute all of them. Dropout is the same
either way.

Inside, clips and heads are one axis of N rows, and time is last: [N, H, T]. On a CPU a product with the
weights of a tile that gives [N, H, T] takes down to a twelfth of the time of one that gives [N, T, H].
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from msa_jax.nn.attention import MASKED
from msa_jax.nn.dropout import drop

#: Steps of the queries, and of the keys, that a tile has at most.
TILE_STEPS = 160
#: Rows share a tile up to this many weights: smaller tiles do not pay for the loop around them.
TILE_WEIGHTS = 2**19

#: Devices that the program under way is for.
_DEVICES: contextvars.ContextVar[int] = contextvars.ContextVar("devices", default=1)

#: Dropout on a tile's weights, given the number of its first weight.
Drop = Callable[[jax.Array, jax.Array | int], jax.Array]


@contextlib.contextmanager
def spread_over(devices: int) -> Iterator[None]:
    """Within it programs are traced whose clips are spread over so many devices; else over one."""
    before = _DEVICES.set(devices)
    try:
        yield
    finally:
        _DEVICES.reset(before)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, reach: jax.Array, seed: jax.Array, rate: float
) -> jax.Array:
    """softmax(query . key) . value, with dropout on the weights; a query that sees no key gets zeros.

    Args:
      query: [B, K, Tq, H], scaled.
      key: [B, K, Tk, H].
      value: [B, K, Tk, H].
      reach: how many keys each query sees, from the first on, int [B, Tq].
      seed: random key of the dropout.
      rate: of the dropout.

    Returns:
      [B, K, Tq, H].
    """
    batch, heads, steps, width = query.shape
    rows = [x.swapaxes(2, 3).reshape(batch * heads, width, x.shape[2]) for x in (query, key, value)]
    reach = jnp.broadcast_to(reach[:, None], (batch, heads, steps)).reshape(batch * heads, steps)
    out: jax.Array = _attend(*rows, reach, jax.random.key_data(seed), rate)
    return out.reshape(batch, heads, width, steps).swapaxes(2, 3)


def weights_in_full(query: jax.Array, key: jax.Array, reach: jax.Array) -> jax.Array:
    """The weights of :func:`attend` as an array, to be looked at: [B, K, Tq, Tk], float32.

    Args:
      query: [B, K, Tq, H], scaled.
      key: [B, K, Tk, H].
      reach: how many keys each query sees, int [B, Tq]; where none, its weights are 0.
    """
    scores = jnp.einsum("bkqh,bkth->bkqt", query, key, preferred_element_type=jnp.float32)
    seen = (jnp.arange(key.shape[2])[None, None] < reach[:, :, None])[:, None]
    return jnp.where(seen, jax.nn.softmax(jnp.where(seen, scores, MASKED), axis=-1), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(query, key, value, reach, seed, rate):
    """:func:`attend` for rows: query, key and value [N, H, T], reach [N, Tq], the seed's words."""
    return _forward(query, key, value, reach, seed, rate)[0]


def _forward(query, key, value, reach, seed, rate):
    operands = (query, key, value, reach, seed)
    out, normaliser = _by_platform(_forward_at_once, _forward_in_tiles, operands, rate)
    return out, (*operands, out, normaliser)


def _backward(rate, saved, gradient):
    *operands, out, normaliser = saved
    mean = jnp.sum((gradient * out).astype(jnp.float32), axis=1)
    operands = (*operands, normaliser, gradient, mean)
    return *_by_platform(_backward_at_once, _backward_in_tiles, operands, rate), None, None


_attend.defvjp(_forward, _backward)


class Tiles(NamedTuple):
    """Sizes of a tile: rows (a divisor of N), steps of the queries and of the keys."""

    rows: int
    queries: int
    keys: int


def tiles_of(rows: int, queries: int, keys: int) -> Tiles | None:
    """How attention over so many rows and steps is divided; None: not at all."""
    if not all(isinstance(n, int) for n in (rows, queries, keys)):
        return None  # sizes that are not known yet, in a program for export
    if rows * queries * keys <= TILE_WEIGHTS:
        return None
    steps = [math.ceil(n / math.ceil(n / TILE_STEPS)) for n in (queries, keys)]
    fitting = max(1, TILE_WEIGHTS // math.prod(steps))
    return Tiles(max(n for n in range(1, min(rows, fitting) + 1) if rows % n == 0), *steps)


def _by_platform(at_once, in_tiles, operands, rate):
    query, key, *_ = operands
    at_once = functools.partial(at_once, rate=rate)
    tiles = tiles_of(query.shape[0], query.shape[2], key.shape[2])
    if tiles is None or _DEVICES.get() > 1:
        return at_once(*operands)
    return lax.platform_dependent(
        *operands, cpu=functools.partial(in_tiles, rate=rate, tiles=tiles), default=at_once
    )


def _dropout(seed: jax.Array, rate: float, queries: int, keys: int) -> Drop:
    """A weight's place among all [N, Tq, Tk] decides whether it is dropped."""
    key = jax.random.wrap_key_data(seed)
    return lambda weights, first: drop(weights, rate, key, first, (queries * keys, keys, 1))


# --- One tile ---------------------------------------------------------------------------------------------


def _products(query: jax.Array, key: jax.Array) -> jax.Array:
    """query [N, H, Tq] and key [N, H, Tk] to [N, Tq, Tk]."""
    return jnp.einsum("nqh,nht->nqt", query.swapaxes(1, 2), key, preferred_element_type=jnp.float32)


def _apply(weights: jax.Array, keys: jax.Array) -> jax.Array:
    """weights [N, Tq, Tk] on keys [N, H, Tk] to [N, H, Tq]."""
    return jnp.einsum("nht,nqt->nhq", keys, weights.astype(keys.dtype), preferred_element_type=jnp.float32)


def _apply_back(weights: jax.Array, queries: jax.Array) -> jax.Array:
    """weights [N, Tq, Tk] on queries [N, H, Tq] to [N, H, Tk]."""
    weights = weights.astype(queries.dtype)
    return jnp.einsum("nhq,nqt->nht", queries, weights, preferred_element_type=jnp.float32)


def _scores(query: jax.Array, key: jax.Array, reach: jax.Array) -> jax.Array:
    """[N, Tq, Tk], MASKED from number ``reach`` [N, Tq] on."""
    scores = _products(query, key)
    return jnp.where(lax.broadcasted_iota(jnp.int32, scores.shape, 2) < reach[:, :, None], scores, MASKED)


def _start(query: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """No key read yet: result [N, H, Tq], largest score and sum of weights [N, Tq]."""
    rows, width, steps = query.shape
    zeros = jnp.zeros((rows, steps))
    return jnp.zeros((rows, width, steps)), zeros + MASKED, zeros


def _read(state, query, key, value, reach, dropped):
    """The softmax of query [N, H, Tq] goes on over further keys (Milakov and Gimelshein 2018).

    Of this key and value [N, H, Tk] a query sees the first ``reach`` [N, Tq]; less than 1 is none.
    """
    out, largest, total = state
    scores = _scores(query, key, reach)
    now = jnp.maximum(largest, scores.max(axis=-1))
    weights, shrink = jnp.exp(scores - now[:, :, None]), jnp.exp(largest - now)
    out = out * shrink[:, None] + _apply(dropped(weights), value)
    return out, now, total * shrink + weights.sum(axis=-1)


def _finish(state, reach: jax.Array, dtype) -> tuple[jax.Array, jax.Array]:
    """The result, and the logarithm of the sum of the exponentials [N, Tq]."""
    out, largest, total = state
    total = jnp.maximum(total, 1)  # it is at least 1, from the largest, unless nothing was read
    # With normaliser 0, MASKED scores have no weight in the backward pass.
    normaliser = jnp.where(reach > 0, largest + jnp.log(total), 0)
    return jnp.where((reach > 0)[:, None], out / total[:, None], 0).astype(dtype), normaliser


def _gradients(query, key, value, reach, normaliser, gradient, mean, dropped):
    """What a tile adds to the gradients of its query, key and value, [N, H, T] each, in float32.

    Normaliser and mean, the sum of gradient times result over H, are [N, Tq]; the gradient is [N, H, Tq].
    """
    weights = jnp.exp(_scores(query, key, reach) - normaliser[:, :, None])
    kept = dropped(weights)
    d_scores = kept * _products(gradient, value) - weights * mean[:, :, None]
    return _apply(d_scores, key), _apply_back(d_scores, query), _apply_back(kept, gradient)


# --- All at once ------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="rate")
def _forward_at_once(query, key, value, reach, seed, rate):
    dropped = _dropout(seed, rate, query.shape[2], key.shape[2])
    state = _read(_start(query), query, key, value, reach, lambda weights: dropped(weights, 0))
    return _finish(state, reach, query.dtype)


@functools.partial(jax.jit, static_argnames="rate")
def _backward_at_once(query, key, value, reach, seed, normaliser, gradient, mean, rate):
    # A zero that no compiler knows to be one. Through it the scores depend on the gradient; otherwise XLA
    # sees that the forward pass computed the same and keeps that (on a CPU it drops optimization_barrier).
    zero = 0 * gradient[0, 0, 0]
    dropped = _dropout(seed + zero.astype(seed.dtype), rate, query.shape[2], key.shape[2])
    found = _gradients(
        query + zero, key, value, reach, normaliser, gradient, mean, lambda weights: dropped(weights, 0)
    )
    return tuple(x.astype(query.dtype) for x in found)


# --- In tiles ---------------------------------------------------------------------------------------------


def _padded(x: jax.Array, steps: int) -> jax.Array:
    """x [..., T] with T a multiple of ``steps``."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % steps)])


def _cut(x: jax.Array, rows: int, row: jax.Array, steps: int, step: jax.Array) -> jax.Array:
    """Of x [N, ..., T], ``rows`` rows from ``row`` on and ``steps`` steps from ``step`` on."""
    between = x.shape[1:-1]
    return lax.dynamic_slice(x, (row, *[0] * len(between), step), (rows, *between, steps))


def _put(x: jax.Array, part: jax.Array, row: jax.Array, step: jax.Array) -> jax.Array:
    """x with ``part`` in the place that :func:`_cut` reads."""
    return lax.dynamic_update_slice(x, part.astype(x.dtype), (row, *[0] * (x.ndim - 2), step))


@functools.partial(jax.jit, static_argnames=("rate", "tiles"))
def _forward_in_tiles(query, key, value, reach, seed, rate, tiles):
    n, (queries, keys) = query.shape[0], (query.shape[2], key.shape[2])
    dropped = _dropout(seed, rate, queries, keys)
    query, reach = _padded(query, tiles.queries), _padded(reach, tiles.queries)
    key, value = _padded(key, tiles.keys), _padded(value, tiles.keys)
    across = query.shape[2] // tiles.queries

    def read_queries(tile, found):
        row, step = tile // across * tiles.rows, tile % across * tiles.queries
        some, sees = (_cut(x, tiles.rows, row, tiles.queries, step) for x in (query, reach))

        def read_keys(part, state):
            first = part * tiles.keys
            some_keys, values = (_cut(x, tiles.rows, row, tiles.keys, first) for x in (key, value))
            number = (row * queries + step) * keys + first
            return _read(state, some, some_keys, values, sees - first, lambda w: dropped(w, number))

        state = lax.fori_loop(0, -(-sees.max() // tiles.keys), read_keys, _start(some))
        done = _finish(state, sees, query.dtype)
        return tuple(_put(x, part, row, step) for x, part in zip(found, done, strict=True))

    empty = (jnp.zeros_like(query), jnp.zeros(reach.shape))
    out, normaliser = lax.fori_loop(0, n // tiles.rows * across, read_queries, empty)
    return out[..., :queries], normaliser[..., :queries]


@functools.partial(jax.jit, static_argnames=("rate", "tiles"))
def _backward_in_tiles(query, key, value, reach, seed, normaliser, gradient, mean, rate, tiles):
    n, dtype, (queries, keys) = query.shape[0], query.dtype, (query.shape[2], key.shape[2])
    dropped = _dropout(seed, rate, queries, keys)
    of_queries = [_padded(x, tiles.queries) for x in (query, reach, normaliser, gradient, mean)]
    key, value = _padded(key, tiles.keys), _padded(value, tiles.keys)
    across = of_queries[0].shape[2] // tiles.queries

    def read_queries(tile, found):
        row, step = tile // across * tiles.rows, tile % across * tiles.queries
        cut = [_cut(x, tiles.rows, row, tiles.queries, step) for x in of_queries]
        some, sees, norm, pulled, average = cut

        def read_keys(part, found):
            first = part * tiles.keys
            some_keys, values = (_cut(x, tiles.rows, row, tiles.keys, first) for x in (key, value))
            number = (row * queries + step) * keys + first
            added = _gradients(
                some, some_keys, values, sees - first, norm, pulled, average, lambda w: dropped(w, number)
            )
            d_query, *d_keys = found
            for i, part_added in enumerate(added[1:]):
                before = _cut(d_keys[i], tiles.rows, row, tiles.keys, first)
                d_keys[i] = _put(d_keys[i], before + part_added, row, first)
            return d_query + added[0], *d_keys

        d_query, *d_keys = found
        start = (jnp.zeros(some.shape), *d_keys)
        d_some, *d_keys = lax.fori_loop(0, -(-sees.max() // tiles.keys), read_keys, start)
        return _put(d_query, d_some, row, step), *d_keys

    empty = tuple(jnp.zeros(x.shape) for x in (of_queries[0], key, value))
    found = lax.fori_loop(0, n // tiles.rows * across, read_queries, empty)
    return tuple(x[..., :t].astype(dtype) for x, t in zip(found, (queries, keys, keys), strict=True))
