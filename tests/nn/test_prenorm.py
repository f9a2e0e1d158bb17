"""Pre-norm blocks: what is read and what is not. Their numbers are compared with PyTorch's in parity."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params

from msa_jax.nn.prenorm import PreNormEncoder

ENCODER: Any = PreNormEncoder(n_layers=2, heads=2, head_width=3, hidden=5, dropout=0.5)
RNG = np.random.default_rng(0)
X, SOURCE = (jnp.asarray(RNG.normal(size=(2, steps, 4)), jnp.float32) for steps in (3, 5))
MASK = jnp.arange(5)[None] < jnp.array([5, 2])[:, None]
PARAMS = {"params": random_params(ENCODER, X)}


@functools.partial(jax.jit, static_argnames="train")
def encode(x, source, mask, train=False, seed=0):
    return ENCODER.apply(PARAMS, x, source, mask, train, rngs={"dropout": jax.random.key(seed)})


def test_padding_of_the_source_is_not_read():
    filled = jnp.where(MASK[..., None], SOURCE, 7.0)
    np.testing.assert_allclose(encode(X, SOURCE, MASK), encode(X, filled, MASK), atol=1e-6)
    np.testing.assert_allclose(
        encode(X, SOURCE, MASK)[1], encode(X[1:], SOURCE[1:, :2], MASK[1:, :2])[0], atol=1e-6
    )
    assert np.abs(encode(X, SOURCE, MASK) - encode(X, SOURCE, None))[1].max() > 1e-3


def test_the_order_of_steps_does_not_matter():
    """There are no positions: of the source any order gives the same, of x the same in that order."""
    turned = encode(X[:, ::-1], SOURCE[:, ::-1], MASK[:, ::-1])
    np.testing.assert_allclose(turned[:, ::-1], encode(X, SOURCE, MASK), atol=1e-5)


def test_without_a_source_the_stream_reads_itself():
    """Also in the second layer, where the stream has changed."""
    moved = X.at[:, 0].multiply(-1.0)
    fixed = encode(X, X, None)
    itself = encode(X, None, None)
    assert np.abs(itself - fixed).max() > 1e-3
    assert np.abs(encode(moved, None, None) - itself)[:, 1:].max() > 1e-3


def test_dropout_only_in_training():
    assert np.abs(encode(X, SOURCE, MASK, True, 1) - encode(X, SOURCE, MASK, True, 2)).max() > 1e-3
    np.testing.assert_array_equal(encode(X, SOURCE, MASK, False, 1), encode(X, SOURCE, MASK, False, 2))


def test_steps_that_are_not_kept_are_read_but_not_computed():
    """Also where a layer comes before the last one."""
    first = jax.jit(functools.partial(ENCODER.apply, train=False, keep=1))
    np.testing.assert_allclose(first(PARAMS, X), encode(X, None, None)[:, :1], atol=1e-6)
    np.testing.assert_allclose(first(PARAMS, X, SOURCE, MASK), encode(X, SOURCE, MASK)[:, :1], atol=1e-6)
