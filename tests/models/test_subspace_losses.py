"""MISA's three losses against NumPy; clips that only fill a batch change none of them."""

from typing import Any

import jax
import numpy as np
import pytest

from msa_jax.models.subspace_losses import difference, moment_discrepancy, squared_distance

LOSSES = (difference, moment_discrepancy, squared_distance)


def with_gradient(loss):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def array(values: Any) -> Any:
    return np.array(values, np.float32)


def drawn(rows: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(size=(rows, 4)).astype(np.float32) for _ in range(2)]


def reference(loss, a: np.ndarray, b: np.ndarray) -> Any:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if loss is squared_distance:
        return np.mean((a - b) ** 2)
    centred = [x - x.mean(0) for x in (a, b)]
    if loss is difference:
        first, second = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6) for x in centred)
        return np.mean((first.T @ second) ** 2)
    apart = [np.linalg.norm(a.mean(0) - b.mean(0))]
    for order in (2, 3, 4, 5):
        apart.append(np.linalg.norm(np.mean(centred[0] ** order, 0) - np.mean(centred[1] ** order, 0)))
    return sum(apart)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_losses_are_those_of_numpy(loss):
    a, b = drawn(7)
    np.testing.assert_allclose(loss(a, b, array([1] * 7)), reference(loss, a, b), rtol=2e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_that_fill_a_batch_change_nothing(loss):
    a, b = drawn(7)
    weight = array([1, 1, 0, 1, 1, 0, 1])
    a[weight == 0], b[weight == 0] = 50, -70
    value, gradient = with_gradient(loss)(a, b, weight)
    real = weight > 0
    alone, alone_gradient = with_gradient(loss)(a[real], b[real], array([1] * 5))
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    for whole, part in zip(gradient, alone_gradient, strict=True):
        np.testing.assert_allclose(whole[real], part, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(whole[~real], 0)


def test_known_differences():
    # Centred, the clips are +-(1, 0) and +-(0, 1): rows of length 1, A^T B = [[0, 2], [0, 0]].
    a, b = array([[3.0, 5], [1, 5]]), array([[0.0, 4], [0, 2]])
    np.testing.assert_allclose(difference(a, b, array([1] * 2)), 1.0, rtol=1e-5)
    assert float(difference(a, 0 * b + 7, array([1] * 2))) == 0


def test_known_moments():
    # Means 0.5 and 0.25; of {0, 1} and {0.25, 0.25} the even moments differ by 1/4 and 1/16.
    a, b = array([[0.0], [1]]), array([[0.25], [0.25]])
    value = moment_discrepancy(a, b, array([1] * 2))
    np.testing.assert_allclose(value, 0.25 + 0.25 + 0.0625, rtol=1e-6)
    np.testing.assert_allclose(moment_discrepancy(a, b, array([1] * 2), moments=2), 0.5, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_vectors_and_single_clips_have_finite_gradients(loss):
    a, _ = drawn(3)
    for weight in ([1, 1, 1], [0, 1, 0], [0, 0, 0]):
        value, gradients = with_gradient(loss)(a, a, array(weight))
        assert np.isfinite(value)
        assert np.isfinite(gradients).all()


def test_lengths_carry_no_gradient_in_the_difference():
    """Moving a clip along its own direction changes nothing there, but it does move the product."""
    a, b = drawn(6)
    weight = array([1] * 6)
    centred = a - a.mean(0)
    gradient = np.asarray(with_gradient(difference)(a, b, weight)[1][0])
    along = float(np.sum(gradient * centred))
    # With lengths fixed the loss is of degree 2 in the centred rows.
    np.testing.assert_allclose(along, 2 * reference(difference, a, b), rtol=1e-4)
