"""GELU against the definition in double precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.nn.activations import gelu

X = np.linspace(-12, 12, 4001)


def share_below(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_gelu_is_x_times_the_share_of_a_normal_distribution_below_it():
    wanted = np.array([x * share_below(x) for x in X])
    np.testing.assert_allclose(gelu(jnp.asarray(X, jnp.float32)), wanted, rtol=2e-7, atol=1e-6)


def test_gelus_gradient_is_right_and_finite_far_out():
    far = np.concatenate([X, [-1e4, 1e4]])
    wanted = [share_below(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in far]
    found = jax.vmap(jax.grad(gelu))(jnp.asarray(far, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
