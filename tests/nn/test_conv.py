"""Convolution, its masks, and the way back: worked numbers, and independence of padding."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_params import random_params

from msa_jax.nn.conv import MaskedConv1D, conv_mask, upsample, window_centre


def prefix_mask(lengths, steps):
    return np.arange(steps)[None, :] < np.asarray(lengths)[:, None]


def convolve(x, lengths, **settings):
    """With all weights 1 and no bias, each output is the sum over its window."""
    layer: Any = MaskedConv1D(1, use_bias=False, **settings)
    kernel = np.ones((settings["kernel_size"], 1, 1), np.float32)
    return jax.jit(layer.apply)({"params": {"kernel": kernel}}, x, prefix_mask(lengths, x.shape[1]))


@pytest.mark.parametrize("steps", [5, 6, 9])
def test_windows_are_centred_whatever_the_padding(steps):
    x = np.full((1, steps, 1), np.nan, np.float32)
    x[0, :5, 0] = [1, 2, 4, 8, 16]
    y, mask = convolve(x, [5], kernel_size=3, stride=2)
    np.testing.assert_array_equal(np.asarray(y)[0, :3, 0], [3, 14, 24])
    np.testing.assert_array_equal(np.asarray(mask)[0], np.arange((steps + 1) // 2) < 3)
    y, mask = convolve(x, [5], kernel_size=4, stride=1)  # one step before, two after
    np.testing.assert_array_equal(np.asarray(y)[0, :5, 0], [7, 15, 30, 28, 24])
    y, mask = convolve(x, [5], kernel_size=3, stride=2, padding="valid")
    np.testing.assert_array_equal(np.asarray(y)[0, :2, 0], [7, 28])
    assert not np.asarray(y)[0, 2:].any()
    np.testing.assert_array_equal(np.asarray(mask)[0], np.arange(mask.shape[1]) < 2)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_a_clip_shorter_than_the_kernel_keeps_one_step(steps):
    x = np.full((2, steps, 1), np.nan, np.float32)
    x[0, 0] = 5
    y, mask = convolve(x, [1, 0], kernel_size=3, stride=1, padding="valid")
    np.testing.assert_array_equal(np.asarray(y)[:, 0, 0], [5, 0])
    np.testing.assert_array_equal(np.asarray(mask).sum(1), [1, 0])


@settings(max_examples=40)  # each new shape is compiled
@given(
    length=st.integers(0, 12),
    extra=st.integers(0, 5),
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
)
def test_mask_has_the_length_that_the_docstring_promises(length, extra, kernel_size, stride, padding):
    steps = max(length + extra, 1)
    mask = np.asarray(conv_mask(jnp.asarray(prefix_mask([length], steps)), kernel_size, stride, padding))[0]
    real = length if padding == "same" else min(max(length - kernel_size + 1, 1), length)
    assert mask.sum() == math.ceil(real / stride)
    assert mask[: mask.sum()].all()
    shape = jax.eval_shape(
        lambda x: convolve(x, [length], kernel_size=kernel_size, stride=stride, padding=padding)[0],
        jnp.zeros((1, steps, 1)),
    ).shape
    assert shape[1] == mask.size


def interpolate(coarse, length, scale, offset, method):
    """One clip by the definition: hold at both ends, read at (t - offset) / scale."""
    place = np.clip((np.arange(length) - offset) / scale, 0, len(coarse) - 1)
    if method == "linear":
        return np.interp(place, np.arange(len(coarse)), coarse)
    # Rounding comes first, as the ends hold either way.
    place = np.floor((np.arange(length) - offset) / scale + 0.5)
    return coarse[np.clip(place, 0, len(coarse) - 1).astype(int)]


@settings(max_examples=15)
@given(
    length=st.integers(1, 14),
    extra=st.integers(0, 5),
    scale=st.integers(1, 5),
    offset=st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 4.5]),
    method=st.sampled_from(["linear", "nearest"]),
)
def test_upsampling_is_interpolation_held_at_the_clips_ends(length, extra, scale, offset, method):
    real = max(math.ceil((length - offset) / scale), 1)
    steps = max(math.ceil((length + extra - offset) / scale), 1)
    coarse = np.random.default_rng(length).normal(size=real)
    x = np.full((2, steps, 1), np.nan, np.float32)
    x[0, :real, 0] = coarse
    fine = jax.jit(lambda x, mask: upsample(x, mask, length + extra, scale, offset, method))(
        x, prefix_mask([real, 0], steps)
    )
    fine = np.asarray(fine)
    assert fine.shape == (2, length + extra, 1)
    np.testing.assert_allclose(
        fine[0, :length, 0], interpolate(coarse, length, scale, offset, method), atol=1e-5
    )
    np.testing.assert_array_equal(fine[1], 0)


def test_window_centre_of_a_stack():
    assert window_centre(3, 2, "same", layers=3) == (8, 0)
    assert window_centre(3, 2, "valid", layers=2) == (4, 3)  # 1, then 2 * 1 + 1
    assert window_centre(4, 1, "same") == (1, 0.5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_ramp_comes_back_as_a_ramp(padding, stride):
    """Two averaging convolutions and linear interpolation leave a straight line where it was."""
    x = np.arange(20, dtype=np.float32)[None, :, None]
    layer: Any = MaskedConv1D(1, 3, stride, padding, use_bias=False)
    scale, offset = window_centre(3, stride, padding, layers=2)

    @jax.jit
    def there_and_back(x):
        params = {"params": {"kernel": jnp.full((3, 1, 1), 1 / 3)}}
        y, level = layer.apply(params, *layer.apply(params, x, jnp.ones((1, 20), bool)))
        return upsample(y, level, 20, scale, offset)

    np.testing.assert_allclose(np.asarray(there_and_back(x))[0, 6:14], x[0, 6:14], atol=1e-5)


def test_gradients_are_finite_with_nan_in_the_padding():
    x = np.full((2, 7, 3), np.nan, np.float32)
    x[0, :4] = 1
    mask = prefix_mask([4, 0], 7)
    layer: Any = MaskedConv1D(2, 3, stride=2)
    params = random_params(layer, x, mask)

    def loss(params, x):
        y, level = layer.apply({"params": params}, x, mask)
        return jnp.sum(upsample(y, level, 7, 2) ** 2)

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
