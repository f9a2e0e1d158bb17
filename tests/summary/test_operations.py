"""Multiply-accumulates against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.recurrent import GRU
from msa_jax.summary.operations import count_macs

A, B = jax.ShapeDtypeStruct((5, 7), jnp.float32), jax.ShapeDtypeStruct((7, 3), jnp.float32)
PRODUCT = 5 * 7 * 3


def conv(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (2,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )


def looped(a, b):
    return jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((5, 3)), None, length=4)[0]


CASES = {
    "matmul": (lambda a, b: a @ b, PRODUCT),
    "elementwise": (lambda a, b: jnp.tanh(a).sum() + b.sum(), 0),
    "batched": (lambda a, b: jnp.einsum("ij,kjl->kil", a, jnp.stack([b] * 6)), 6 * PRODUCT),
    "scan": (looped, 4 * PRODUCT),
    "fori": (lambda a, b: jax.lax.fori_loop(0, 4, lambda _, c: c + a @ b, jnp.zeros((5, 3))), 4 * PRODUCT),
    "nested": (jax.jit(lambda a, b: jax.checkpoint(looped)(a, b)), 4 * PRODUCT),
    "while": (
        lambda a, b: jax.lax.while_loop(lambda c: c.sum() < 1, lambda c: c + a @ b, jnp.zeros((5, 3))),
        PRODUCT,
    ),
    "cond": (
        lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: (a @ b) @ jnp.ones((3, 3))),
        PRODUCT + 5 * 3 * 3,
    ),
    "gradient": (jax.grad(lambda a, b: (a @ b).sum()), 2 * PRODUCT),
}


@pytest.mark.parametrize("name", CASES)
def test_counts_by_hand(name):
    fn, expected = CASES[name]
    assert count_macs(fn, A, B) == expected


def test_custom_derivatives_are_looked_into():
    @jax.custom_jvp
    def f(a, b):
        return a @ b

    @jax.custom_vjp
    def g(a, b):
        return a @ b

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] @ primals[1]))
    g.defvjp(lambda a, b: (g(a, b), (a, b)), lambda saved, d: (d @ saved[1].T, saved[0].T @ d))
    assert count_macs(lambda a, b: f(a, b) + g(a, b), A, B) == 2 * PRODUCT


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups):
    x = jax.ShapeDtypeStruct((4, 9, 6), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 6 // groups, 8), jnp.float32)
    assert count_macs(lambda x, k: conv(x, k, groups), x, kernel) == 4 * 5 * 8 * 3 * 6 // groups


def test_layers():
    x, mask = jnp.zeros((2, 10, 6)), jnp.ones((2, 10), bool)
    gru = GRU(4, bidirectional=True)
    weights = jax.eval_shape(gru.init, jax.random.key(0), x, mask)
    assert count_macs(gru.apply, weights, x, mask) == 2 * 10 * 2 * (6 * 12 + 4 * 12)
    attention = MultiHeadAttention(3)
    weights = jax.eval_shape(attention.init, jax.random.key(0), x, x, mask)
    assert count_macs(attention.apply, weights, x, x, mask) == 2 * (4 * 10 * 6 * 6 + 2 * 10 * 10 * 6)
