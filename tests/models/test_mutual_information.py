"""MMIM's bounds against NumPy; clips that only fill a batch change none of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.models import mutual_information as mi


def array(values: Any) -> Any:
    return np.array(values, np.float32)


def drawn(rows: int, width: int = 3, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, size=(rows, width)).astype(np.float32)


def ones(rows: int) -> Any:
    return np.ones(rows, np.float32)


def log_determinant(x: np.ndarray, ridge: float) -> Any:
    x = x.astype(np.float64)
    return np.linalg.slogdet(np.cov(x.T, bias=True) + ridge * np.eye(x.shape[1]))[1]


def test_likelihood_by_hand():
    y, mean = array([[1.0, 0]]), array([[0.0, 2]])
    log_variance = np.log(array([[2.0, 4]]))
    # -(1 / 4) - (4 / 8)
    np.testing.assert_allclose(mi.log_likelihood(y, mean, log_variance, ones(1)), -0.75, rtol=1e-6)


def test_contrast_by_hand():
    x = array([[2.0, 0], [0, 5]])
    right, wrong = x * 3, x[::-1].copy()
    one = np.log(np.e + 1) - 1  # the own score is 1, the other 0
    np.testing.assert_allclose(mi.contrast(x, right, ones(2)), one, rtol=1e-6)
    np.testing.assert_allclose(mi.contrast(x, wrong, ones(2)), one + 1, rtol=1e-6)
    assert float(mi.contrast(x[:1], right[:1], ones(1))) == 0


def test_contrast_is_that_of_numpy():
    x, predicted = drawn(6).astype(np.float64), drawn(6, seed=1).astype(np.float64)
    directions = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, predicted)]
    scores = directions[0] @ directions[1].T
    expected = np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))
    value = mi.contrast(jnp.asarray(x, jnp.float32), jnp.asarray(predicted, jnp.float32), ones(6))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_vector_without_direction_has_a_finite_gradient():
    x = array([[0.0] * 3] * 2)
    value, gradient = jax.jit(jax.value_and_grad(mi.contrast))(jnp.asarray(x), drawn(2), ones(2))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_moments_of_a_union_are_those_of_all_samples():
    a, b = drawn(5), 3 + drawn(8, seed=1)
    whole = mi.moments(jnp.concatenate([a, b]), ones(13))
    for x, y in zip(mi.union(mi.moments(a, ones(5)), mi.moments(b, ones(8))), whole, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)
    for x, y in zip(mi.union(mi.no_moments(3), mi.moments(b, ones(8))), mi.moments(b, ones(8)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, mi.RIDGE])
def test_entropy_is_that_of_numpy(ridge):
    positive, negative = drawn(9), 0.5 * drawn(7, seed=1)
    value = mi.entropy(mi.moments(positive, ones(9)), mi.moments(negative, ones(7)), jnp.asarray(True), ridge)
    expected = 0.25 * (log_determinant(positive, ridge) + log_determinant(negative, ridge))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@functools.partial(jax.jit, static_argnums=(2, 3))
def entropy_of(x, weight, ridge=mi.RIDGE, wanted=True):
    moments = mi.moments(x, weight)
    return mi.entropy(moments, mi.no_moments(x.shape[1]), jnp.asarray(wanted), ridge)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_too_few_samples_give_a_finite_entropy_with_a_ridge(rows):
    weight = (np.arange(4) < rows).astype(np.float32)
    value, gradient = jax.value_and_grad(entropy_of)(jnp.asarray(drawn(4)), weight)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (float(value) == 0) == (rows == 0)
    # The public arithmetic has no finite value here, and an unwanted one must do no harm.
    assert not np.isfinite(entropy_of(jnp.asarray(drawn(4)), weight, ridge=0.0))
    value, gradient = jax.value_and_grad(entropy_of)(jnp.asarray(drawn(4)), weight, 0.0, False)
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, 0)


def test_rows_that_fill_a_batch_change_nothing():
    weight = array([1, 0, 1, 1, 0, 1, 1])
    real = weight > 0
    x, p, v = drawn(7), drawn(7, seed=1), drawn(7, seed=2)
    contrast, likelihood = jax.jit(mi.contrast), jax.jit(mi.log_likelihood)
    for part in (x, p, v):
        part[~real] = 9
    for whole, alone in (
        (contrast(x, p, weight), contrast(x[real], p[real], ones(5))),
        (likelihood(x, p, v, weight), likelihood(x[real], p[real], v[real], ones(5))),
        (entropy_of(x, weight), entropy_of(x[real], ones(5))),
    ):
        np.testing.assert_allclose(whole, alone, rtol=1e-6)
