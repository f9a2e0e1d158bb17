"""Hashed bits are good enough for dropout and initial values; dropout itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.nn.bits import hashed_bits, hashed_uniform
from msa_jax.nn.dropout import Dropout

SHAPE = (8, 50, 64)
SIZE = int(np.prod(SHAPE))


def drop(x, key, rate=0.25) -> Any:
    return Dropout(rate).apply({}, x, True, rngs={"dropout": key})


@pytest.mark.parametrize("seed", range(4))
def test_bits_are_even_and_independent(seed):
    bits = np.asarray(hashed_bits(jax.random.key(seed), SHAPE)).astype(np.uint32)
    # Each of the 32 bits is set half of the time, within five standard errors.
    ones = np.unpackbits(bits.reshape(-1, 1).view(np.uint8), axis=1).mean(0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(SIZE)
    # The top byte has no favourite value: chi squared of 255 degrees of freedom.
    counts = np.bincount(bits.reshape(-1) >> 24, minlength=256)
    chi = ((counts - SIZE / 256) ** 2 / (SIZE / 256)).sum()
    assert abs(chi - 255) < 5 * np.sqrt(2 * 255)
    # Neighbours along each axis, and other keys, are unrelated.
    low = bits < 2**31
    others = [np.roll(low, 1, axis) for axis in range(3)]
    others += [np.asarray(hashed_bits(jax.random.key(k), SHAPE)) < 2**31 for k in range(seed + 1, seed + 4)]
    for other in others:
        assert abs((low == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(SIZE)


def test_bits_depend_on_key_and_position_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    one_by_one = [hashed_bits(key, (4, 6)) for key in keys]
    np.testing.assert_array_equal(jax.vmap(lambda key: hashed_bits(key, (4, 6)))(keys), one_by_one)
    rows = jax.sharding.NamedSharding(jax.make_mesh((2,), ("data",)), jax.sharding.PartitionSpec("data"))
    divided = jax.jit(lambda key: hashed_bits(key, (4, 6)), out_shardings=rows)(keys[0])
    np.testing.assert_array_equal(divided, one_by_one[0])


def test_uniform_values_lie_within_their_bound():
    values = np.asarray(hashed_uniform(jax.random.key(1), SHAPE, 0.5))
    assert values.dtype == np.float32
    assert -0.5 <= values.min() < -0.499
    assert 0.499 < values.max() < 0.5
    assert abs(values.mean()) < 5 * 0.5 / np.sqrt(3 * SIZE)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    out = np.asarray(drop(jnp.ones(SHAPE), jax.random.key(2), rate))
    np.testing.assert_allclose(np.unique(out), [0, 1 / (1 - rate)], rtol=1e-6)
    assert abs((out == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / SIZE)


def test_dropout_is_off_without_training_or_rate():
    x = jnp.arange(4.0)
    assert Dropout(0.5).apply({}, x, False) is x
    assert drop(x, jax.random.key(0), rate=0.0) is x


def test_dtype_is_kept():
    assert drop(jnp.ones(8, jnp.bfloat16), jax.random.key(5)).dtype == jnp.bfloat16
