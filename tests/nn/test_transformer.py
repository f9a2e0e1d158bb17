"""Parts of transformers beside the encoder layer (whose numbers test_parity compares)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.nn.transformer import FeedForward, interleaved_positions, layer_norm, sinusoidal_positions


def test_positions():
    table = np.asarray(sinusoidal_positions(3, 4))
    np.testing.assert_allclose(table[0], [0, 0, 1, 1])
    np.testing.assert_allclose(table[2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-5)
    assert sinusoidal_positions(3, 5).shape == (3, 5)


def test_interleaved_positions():
    table = np.asarray(interleaved_positions(3, 4))
    np.testing.assert_allclose(table[0], [0, 1, 0, 1])
    np.testing.assert_allclose(table[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], rtol=1e-5)
    odd = np.asarray(interleaved_positions(3, 3))  # the last cosine has no column
    np.testing.assert_allclose(odd[2], [np.sin(2), np.cos(2), np.sin(2 * 10000 ** (-2 / 3))], rtol=1e-5)


def test_layer_norm_keeps_its_statistics_in_float32():
    x = 300 + jnp.arange(8.0)[None].astype(jnp.bfloat16)  # the squares' difference is lost in bfloat16
    norm: Any = layer_norm("norm")
    params = {"scale": jnp.ones(8, jnp.bfloat16), "bias": jnp.zeros(8, jnp.bfloat16)}
    out = jax.jit(norm.apply)({"params": params}, x)
    assert out.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5)
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, atol=0.01)


def test_feed_forward():
    params = {
        "inner": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)},
        "outer": {"kernel": jnp.array([[2.0], [3.0]]), "bias": jnp.ones(1)},
    }
    out = FeedForward(2).apply({"params": params}, jnp.array([[4.0], [-5.0]]))
    np.testing.assert_array_equal(out, [[9], [16]])
