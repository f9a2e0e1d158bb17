"""Attention over prefixes of the keys: at once and in tiles, it is softmax(query . key) . value."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.nn import prefix_attention
from msa_jax.nn.dropout import drop
from msa_jax.nn.prefix_attention import attend, spread_over, tiles_of, weights_in_full
from msa_jax.summary.operations import count_macs

RNG = np.random.default_rng(0)
SEED = jax.random.key(3)
#: Keys that each query sees: two clips, five queries, seven keys; one query sees none.
SMALL = np.array([[1, 2, 3, 4, 7], [0, 1, 1, 7, 7]])


def operands(clips: int, queries: int, keys: int, dtype=jnp.float32) -> list[jax.Array]:
    """Query, key, value and the result's gradient, [clips, 2, steps, 4]."""
    sizes = (queries, keys, keys, queries)
    return [jnp.asarray(RNG.normal(size=(clips, 2, steps, 4)), dtype) for steps in sizes]


def by_definition(query, key, value, reach, rate):
    """The same with all weights at hand."""
    scores = jnp.einsum("bkqh,bkth->bkqt", query, key)
    seen = jnp.arange(key.shape[2])[None, None] < jnp.asarray(reach)[..., None]
    seen = jnp.broadcast_to(seen[:, None], scores.shape)
    weights = jnp.where(seen, jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1, where=seen), 0)
    return jnp.einsum("bkqt,bkth->bkqh", drop(weights, rate, SEED), value)


def with_gradients(attention: Any, query, key, value, gradient):
    """The result and the three gradients, compiled."""

    @jax.jit
    def run(query, key, value, gradient):
        out, pull = jax.vjp(attention, query, key, value)
        return out, *pull(gradient)

    return run(query, key, value, gradient)


def ours(reach, rate):
    return lambda query, key, value: attend(query, key, value, jnp.asarray(reach), SEED, rate)


@pytest.fixture
def small_tiles(monkeypatch):
    """At most 8 steps, and three rows where both sides have 8."""
    monkeypatch.setattr(prefix_attention, "TILE_STEPS", 8)
    monkeypatch.setattr(prefix_attention, "TILE_WEIGHTS", 3 * 64)


def reach_of(clips: int, queries: int, keys: int) -> np.ndarray:
    """Anything from none to all keys; a clip without keys; the last one's first eight see none."""
    reach = RNG.integers(0, keys + 1, (clips, queries))
    reach[0] = 0
    reach[-1, :8] = 0
    return reach


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_at_once_it_equals_the_definition(rate):
    assert tiles_of(4, 5, 7) is None
    values = operands(2, 5, 7)
    expected = with_gradients(functools.partial(by_definition, reach=SMALL, rate=rate), *values)
    found = with_gradients(ours(SMALL, rate), *values)
    assert np.all(np.asarray(found[0])[1, :, 0] == 0)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(3, 21, 30), (3, 8, 17), (5, 19, 3), (3, 1, 40)])
def test_in_tiles_it_equals_the_definition(small_tiles, sizes, rate):
    clips, queries, keys = sizes
    assert tiles_of(2 * clips, queries, keys) is not None
    values, reach = operands(*sizes), reach_of(*sizes)
    expected = with_gradients(functools.partial(by_definition, reach=reach, rate=rate), *values)
    found = with_gradients(ours(reach, rate), *values)
    assert np.all(np.asarray(found[0])[0] == 0)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=4e-6)


def test_keys_beyond_reach_are_not_read(small_tiles):
    """Whatever finite numbers stand there."""
    query, key, value, gradient = operands(3, 21, 30)
    reach = np.minimum(reach_of(3, 21, 30), 13)
    expected = with_gradients(ours(reach, 0.5), query, key, value, gradient)
    key, value = (x.at[:, :, 13:].set(1e6) for x in (key, value))
    for a, b in zip(with_gradients(ours(reach, 0.5), query, key, value, gradient), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_bfloat16_sums_are_still_float32(small_tiles):
    values, reach = operands(3, 21, 30, jnp.bfloat16), reach_of(3, 21, 30)
    found = with_gradients(ours(reach, 0.0), *values)
    wide = [x.astype(jnp.float32) for x in values]
    expected = with_gradients(functools.partial(by_definition, reach=reach, rate=0.0), *wide)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        scale = np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, np.float32) / scale, b / scale, atol=2e-2)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs more than one device")
def test_several_devices_compute_their_own_clips(monkeypatch):
    monkeypatch.setattr(prefix_attention, "TILE_WEIGHTS", 64)
    values, reach = operands(8, 21, 30), reach_of(8, 21, 30)
    expected = with_gradients(functools.partial(by_definition, reach=reach, rate=0.5), *values)
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    spread = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in values]
    with spread_over(2):
        for a, b in zip(with_gradients(ours(reach, 0.5), *spread), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=4e-6)
        # Nobody needs the others' queries, keys or values.
        program = jax.jit(ours(reach, 0.5)).lower(*spread[:3]).compile().as_text()
    assert "all-gather" not in program


@pytest.mark.parametrize(
    ("rows", "queries", "keys"), [(160, 371, 496), (160, 46, 496), (7, 500, 500), (1, 9000, 90)]
)
def test_tiles_divide_rows_and_steps(rows, queries, keys):
    tiles = tiles_of(rows, queries, keys)
    assert tiles is not None
    assert rows % tiles.rows == 0
    for whole, part in ((queries, tiles.queries), (keys, tiles.keys)):
        assert part <= prefix_attention.TILE_STEPS
        assert math.ceil(whole / part) * part - whole < math.ceil(whole / part)  # hardly any padding
    assert math.prod(tiles) <= prefix_attention.TILE_WEIGHTS


def test_tiles_do_not_change_the_count_of_operations(small_tiles):
    query, key, value, _ = operands(3, 21, 30)
    counted = count_macs(ours(reach_of(3, 21, 30), 0.0), query, key, value)
    assert counted == 2 * 3 * 2 * 21 * 30 * 4  # two products for each of 3 clips and 2 heads


def test_weights_in_full_are_those_that_the_result_is_made_of():
    query, key, value, _ = operands(2, 5, 7)
    weights = weights_in_full(query, key, jnp.asarray(SMALL))
    result = jnp.einsum("bkqt,bkth->bkqh", weights, value)
    np.testing.assert_allclose(result, ours(SMALL, 0.0)(query, key, value), atol=1e-6)
    sums = np.broadcast_to(SMALL[:, None] > 0, weights.shape[:3])
    np.testing.assert_allclose(weights.sum(axis=-1), sums, atol=1e-6)
    assert (np.asarray(weights)[0, :, 1, 2:] == 0).all()
