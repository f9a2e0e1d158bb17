"""The cross-modal transformer: its mask, its stacks, what it keeps for the backward pass."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from msa_jax.nn.crossmodal import CrossModalEncoder, key_reach
from msa_jax.nn.pooling import last_step

RNG = np.random.default_rng(0)
SEED = jax.random.key(3)


def test_reach_follows_each_clips_own_lengths():
    reach = functools.partial(key_reach, steps=4)
    # Lq, Lk = 3, 2: one step ahead; 2, 4: two ahead; 4, 0: nothing to read.
    queries, sources = jnp.array([3, 2, 4]), jnp.array([2, 4, 0])
    np.testing.assert_array_equal(reach(queries, sources, causal=True), [[2] * 4, [3, 4, 4, 4], [0] * 4])
    np.testing.assert_array_equal(reach(queries, sources, causal=False), [[2] * 4, [4] * 4, [0] * 4])
    own = reach(jnp.array([3]), jnp.array([3]), causal=True)
    np.testing.assert_array_equal(own, [[1, 2, 3, 3]])


def encoder(layers: int, **changes: Any) -> Any:
    settings = {"heads": 2, "n_layers": layers, "attention_dropout": 0.0, "relu_dropout": 0.0}
    settings |= {"residual_dropout": 0.0, "embed_dropout": 0.0, "causal": True}
    return CrossModalEncoder(**{**settings, **changes})


@pytest.mark.parametrize("cross", [False, True])
def test_the_last_step_alone_is_the_last_of_all_steps(cross):
    module = encoder(2)
    x = jnp.asarray(RNG.normal(size=(3, 5, 4)), jnp.float32)
    mask = jnp.arange(5)[None] < jnp.array([5, 2, 1])[:, None]
    other = (x[:, :4] * 2, mask[:, :4]) if cross else ()
    params = {"params": random_params(module, x, mask, *other)}
    every = jax.jit(module.apply)(params, x, mask, *other)
    alone = jax.jit(functools.partial(module.apply, last_only=True))(params, x, mask, *other)
    np.testing.assert_allclose(alone[:, 0], last_step(every, mask), atol=1e-6)


def test_no_step_sees_further_ahead_than_it_may():
    module = encoder(1)
    x = jnp.asarray(RNG.normal(size=(1, 4, 4)), jnp.float32)
    mask = jnp.ones((1, 4), bool)
    params = {"params": random_params(module, x, mask)}
    # By how much each output step moves with each input step.
    moves = jax.jit(jax.jacobian(lambda x: module.apply(params, x, mask).sum(axis=(0, 2)) ** 2))(x)
    np.testing.assert_array_equal(np.abs(moves[:, 0]).max(axis=-1) > 0, np.tril(np.ones((4, 4), bool)))


def test_attention_weights_are_not_kept_for_the_backward_pass():
    """A further layer adds less memory than half a copy of its attention weights takes."""
    x, mask = jax.ShapeDtypeStruct((2, 128, 4), jnp.float32), jax.ShapeDtypeStruct((2, 128), jnp.bool_)

    def peak(layers: int) -> int:
        module = encoder(layers, heads=4, attention_dropout=0.2)
        params = jax.eval_shape(lambda x, mask: module.init(jax.random.key(0), x, mask), x, mask)

        def loss(params, x, mask):
            return module.apply(params, x, mask, train=True, rngs={"dropout": SEED}).sum()

        compiled = jax.jit(jax.grad(loss)).lower(params, x, mask).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    weights = 2 * 4 * 128 * 128 * 4
    assert (peak(3) - peak(1)) / 2 < weights / 2


def test_more_than_one_key_of_dropout_is_drawn():
    module = encoder(1, attention_dropout=0.5)
    x = jnp.asarray(RNG.normal(size=(1, 4, 4)), jnp.float32)
    mask = jnp.ones((1, 4), bool)
    params = {"params": random_params(module, x, mask)}

    @jax.jit
    def run(key):
        return module.apply(params, x, mask, train=True, rngs={"dropout": key})

    first = run(jax.random.key(0))
    np.testing.assert_array_equal(first, run(jax.random.key(0)))
    assert np.abs(first - run(jax.random.key(1))).max() > 1e-3
