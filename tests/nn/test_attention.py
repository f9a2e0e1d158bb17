"""Attention: masks, accuracy, dropout. Its numbers are compared with PyTorch's in test_parity."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params

from msa_jax.nn.attention import MultiHeadAttention, causal_bias

RNG = np.random.default_rng(0)
QUERY, KEY = (RNG.normal(size=(5, steps, 8)).astype(np.float32) for steps in (6, 9))
#: Real keys per clip.
KEY_MASK = np.arange(9) < np.array([9, 1, 4, 8, 2])[:, None]
ATTENTION: Any = MultiHeadAttention(2)
PARAMS = random_params(ATTENTION, QUERY, KEY)


def test_padding_keys_are_never_read():
    params = PARAMS

    def loss(params, source, mask):
        return jnp.sum(ATTENTION.apply({"params": params}, QUERY, source, mask) ** 2)

    longer = np.pad(np.where(KEY_MASK[..., None], KEY, np.nan), ((0, 0), (0, 3), (0, 0)))
    longer_mask = np.pad(KEY_MASK, ((0, 0), (0, 3)))
    compute = jax.jit(jax.value_and_grad(loss))
    value, gradient = compute(params, KEY, KEY_MASK)
    value_2, gradient_2 = compute(params, longer, longer_mask)
    np.testing.assert_allclose(value, value_2, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_real_key_gives_the_same_finite_answer_at_any_padding():
    params = {"params": PARAMS}
    # Even weights over values that are all the value bias.
    p = PARAMS
    expected = p["value"]["bias"] @ p["output"]["kernel"] + p["output"]["bias"]
    for steps in (1, 7):
        source = np.full((5, steps, 8), np.nan, np.float32)
        nothing = jax.jit(ATTENTION.apply)(params, QUERY, source, np.zeros((5, steps), bool))
        np.testing.assert_allclose(nothing, np.broadcast_to(expected, nothing.shape), atol=1e-6)


def test_causal_bias_hides_the_future():
    np.testing.assert_array_equal(causal_bias(2, 4, ahead=1) == 0, [[1, 1, 0, 0], [1, 1, 1, 0]])


def test_scores_stay_accurate_in_bfloat16():
    run = jax.jit(lambda p, q, k: ATTENTION.apply({"params": p}, q, k, KEY_MASK))
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, QUERY, KEY))
    out = run(*half)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(out, np.float32), run(PARAMS, QUERY, KEY), atol=0.02 * float(np.abs(out).max())
    )
    jaxpr = str(jax.make_jaxpr(run)(*half))
    assert "f32[5,2,6,9] = exp" in jaxpr.replace(":", "")


def test_dropout_acts_on_the_weights():
    """With identity values and output, a dropped weight shows as a missing key and the rest grow."""
    eye = {"kernel": np.eye(4, dtype=np.float32), "bias": np.zeros(4, np.float32)}
    flat = {"kernel": np.zeros((4, 4), np.float32), "bias": np.zeros(4, np.float32)}
    params = {"params": {"query": flat, "key": flat, "value": eye, "output": eye}}
    source = np.eye(4, dtype=np.float32)[None]
    layer: Any = MultiHeadAttention(1, dropout=0.5)
    query, rngs = np.zeros((1, 300, 4), np.float32), {"dropout": jax.random.key(0)}
    out = np.asarray(
        jax.jit(lambda p, q, s: layer.apply(p, q, s, train=True, rngs=rngs))(params, query, source)
    )
    assert set(np.unique(out)) == {0.0, 0.5}
    assert 0.4 < (out == 0).mean() < 0.6


def test_weights_are_kept_only_where_asked():
    queries = np.arange(8) < np.array([6, 3, 1, 6, 2])[:, None]  # with more behind than there are queries
    arguments: Any = ({"params": PARAMS}, QUERY, KEY, KEY_MASK)
    y, kept = ATTENTION.apply(*arguments, query_mask=queries, mutable=["intermediates"])
    found = kept["intermediates"]["attention"][0]
    np.testing.assert_array_equal(y, ATTENTION.apply(*arguments))
    np.testing.assert_array_equal(found.queries, queries[:, :6])
    np.testing.assert_array_equal(found.keys, KEY_MASK)
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, atol=1e-6)
    hidden = np.broadcast_to(~KEY_MASK[:, None, None], found.weights.shape)
    assert (np.asarray(found.weights)[hidden] == 0).all()


def test_a_module_that_nobody_asks_traces_nothing_for_it():
    arguments: Any = ({"params": PARAMS}, QUERY, KEY, KEY_MASK)
    plain = str(jax.make_jaxpr(ATTENTION.apply)(*arguments))
    assert plain == str(jax.make_jaxpr(lambda *a: ATTENTION.apply(*a, query_mask=KEY_MASK))(*arguments))
    shapes = jax.eval_shape(ATTENTION.init, jax.random.key(0), QUERY, KEY)
    assert set(shapes) == {"params"}
