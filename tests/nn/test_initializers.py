"""Ranges of initial values, as PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.fine_grained import GroupedHeadAttention, Join
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import GRU

STEPS = jnp.ones((1, 4), bool)


@pytest.mark.parametrize(
    ("module", "args", "bound"),
    [
        (Dense(300), (jnp.zeros((1, 25)),), 1 / 5),
        (MaskedConv1D(200, 4), (jnp.zeros((1, 4, 9)), STEPS), 1 / 6),
        (GRU(100), (jnp.zeros((1, 4, 7)), STEPS), 1 / 10),
        (GroupedHeadAttention(Join("per_group")), (jnp.zeros((1, 5, 4, 64)),), 1 / 8),
    ],
)
def test_values_fill_the_range_evenly(module, args, bound):
    params = jax.jit(module.init)(jax.random.key(0), *args)["params"]
    params.pop("output", None)  # of another fan in
    for path, values in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        assert np.abs(values).max() <= bound, name
        assert np.abs(values).max() > 0.97 * bound, name
        # Standard error of a mean of n uniform values: bound / sqrt(3 n).
        assert abs(values.mean()) < 4 * bound / np.sqrt(3 * values.size), name
        np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.1, err_msg=name)


def test_dense_is_affine_and_its_bias_optional():
    x = jnp.array([[1.0, 2.0]])
    params = {"kernel": jnp.array([[1.0, 0.0], [0.0, 3.0]]), "bias": jnp.array([5.0, 7.0])}
    np.testing.assert_array_equal(Dense(2).apply({"params": params}, x), [[6, 13]])
    del params["bias"]
    np.testing.assert_array_equal(Dense(2, use_bias=False).apply({"params": params}, x), [[1, 6]])
