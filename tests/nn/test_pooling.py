"""Pooling by worked numbers; clips of length 0; NaN in padding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.nn.pooling import AttentionPooling, last_step, masked_max, masked_mean

X = np.array([[-1, -3, np.nan], [np.nan] * 3, [4, 5, 9]], np.float32)[..., None]
MASK = np.array([[True, True, False], [False] * 3, [True] * 3])


def attention_pool(x, mask):
    params = {
        "params": {"score": {"kernel": jnp.full((1, 1), math.log(2), x.dtype), "bias": jnp.zeros(1, x.dtype)}}
    }
    return AttentionPooling().apply(params, x, mask)


POOLS = {
    "mean": jax.jit(masked_mean),
    "max": jax.jit(masked_max),
    "last": jax.jit(last_step),
    "attention": jax.jit(attention_pool),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", [-2, 0, 6]),
        ("max", [-1, 0, 9]),
        ("last", [-3, 0, 9]),
        # weights 2^x: 1/2 and 1/8; 16, 32, 512
        ("attention", [(-1 / 2 - 3 / 8) / (5 / 8), 0, (4 * 16 + 5 * 32 + 9 * 512) / 560]),
    ],
)
def test_worked_numbers(name, expected):
    np.testing.assert_allclose(np.asarray(POOLS[name](X, MASK))[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", POOLS)
def test_padding_changes_nothing_and_gradients_are_finite(name):
    longer = np.pad(X, ((0, 0), (0, 4), (0, 0)), constant_values=np.nan)
    longer_mask = np.pad(MASK, ((0, 0), (0, 4)))
    np.testing.assert_allclose(POOLS[name](X, MASK), POOLS[name](longer, longer_mask), rtol=1e-6)
    gradient = np.asarray(jax.jit(jax.grad(lambda x: POOLS[name](x, MASK).sum()))(X))[..., 0]
    assert np.isfinite(gradient).all()
    assert not gradient[~MASK].any()
    assert gradient[MASK].any()


@pytest.mark.parametrize("name", POOLS)
def test_dtype_is_kept(name):
    assert POOLS[name](X.astype(jnp.bfloat16), MASK).dtype == jnp.bfloat16
