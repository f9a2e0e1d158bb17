"""Batch normalisation: PyTorch's running statistics, and only real entries (numbers: test_parity)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.nn.batch_norm import BatchNorm


def run(x, real, axis=-1, channels=0, train=True):
    module: Any = BatchNorm(axis=axis, channels=channels)
    variables = module.init(jax.random.key(0), x, real, False)
    return module.apply(variables, x, real, train, mutable=["batch_stats"])


def test_worked_numbers():
    x = jnp.array([[1.0], [3.0], [8.0], [1e9]])
    y, updated = run(x, jnp.array([[True], [True], [True], [False]]))
    mean, var = 4.0, 26 / 3
    np.testing.assert_allclose(y[:3, 0], (np.array([1, 3, 8]) - mean) / np.sqrt(var + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.4], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9 + 0.1 * 13], rtol=1e-6)  # unbiased


def test_without_scale_and_shift_there_is_no_parameter():
    x = jnp.array([[1.0], [3.0], [8.0]])
    real = jnp.ones((3, 1), bool)
    plain: Any = BatchNorm(affine=False)
    variables = plain.init(jax.random.key(0), x, real, False)
    assert variables.keys() == {"batch_stats"}
    y, _ = plain.apply(variables, x, real, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, run(x, real)[0])


def test_channels_without_entries_keep_their_statistics():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    real = jnp.array([[True, True, False], [True, False, False]])[..., None]
    _, updated = run(x, real, axis=1, channels=5)
    mean, var = updated["batch_stats"]["mean"], updated["batch_stats"]["var"]
    np.testing.assert_allclose(mean, [0.1 * 3.5, 0.1 * 2.5, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(var[2:], 1)


def test_one_entry_moves_the_mean_only():
    y, updated = run(jnp.array([[5.0]]), jnp.array([[True]]))
    np.testing.assert_allclose(y, 0)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.5])
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.0])


@pytest.mark.extras
@pytest.mark.parametrize("train", [False, True])
def test_equals_pytorch(train):
    torch: Any = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(3, 2, size=(6, 4)).astype(np.float32)
    layer = torch.nn.BatchNorm1d(4).train(train)
    y, updated = run(jnp.asarray(x), jnp.ones((6, 1), bool), train=train)
    np.testing.assert_allclose(y, layer(torch.tensor(x)).detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], layer.running_var.numpy(), rtol=1e-5)


def test_a_batch_over_several_devices_has_one_mean():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)
    real = jnp.asarray(np.arange(8) < 7)[:, None]
    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = jax.device_put((x, real), NamedSharding(mesh, P("data")))
    one, many = jax.jit(run)(x, real), jax.jit(run)(*spread)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, many)
