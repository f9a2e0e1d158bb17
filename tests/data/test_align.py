"""Alignment: order kept, every frame used, padding never; and what the MMSA toolkit does instead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.data.align import align, align_as_mmsa


def test_worked_numbers():
    values = np.arange(6, dtype=np.float32).reshape(1, 6, 1)
    out = align(values, np.array([6]), np.array([3]), 4)
    np.testing.assert_allclose(out[0, :, 0], [0.5, 2.5, 4.5, 0])
    # Five frames on three words: [0, 5/3), [5/3, 10/3), [10/3, 5) touch frames 0-1, 1-3, 3-4.
    out = align(values, np.array([5]), np.array([3]), 3)
    np.testing.assert_allclose(out[0, :, 0], [0.5, 2, 3.5])
    # Fewer frames than words repeat.
    out = align(values, np.array([2]), np.array([4]), 4)
    np.testing.assert_allclose(out[0, :, 0], [0, 0, 1, 1])


@settings(max_examples=60)
@given(st.integers(0, 9), st.integers(0, 6), st.integers(0, 4), st.integers(0, 2**31))
def test_padding_is_never_read_and_order_is_kept(frames, words, more, seed):
    rng = np.random.default_rng(seed)
    clip = np.sort(rng.normal(size=(1, frames, 2)), axis=1).astype(np.float32)
    padded = np.concatenate([clip, np.full((1, 1 + more, 2), np.nan, np.float32)], axis=1)
    out = align(padded, np.array([frames]), np.array([words]), 6 + more)
    alone = align(clip, np.array([frames]), np.array([words]), 6) if frames else np.zeros((1, 6, 2))
    np.testing.assert_allclose(out[:, :6], alone, atol=1e-6)
    assert not out[:, words:].any()
    if frames and words:
        assert (np.diff(out[0, :words], axis=0) >= -1e-6).all()
        reached = [
            align(np.eye(frames, dtype=np.float32)[None], np.array([frames]), np.array([words]), words)
        ]
        assert (reached[0].sum(axis=1) > 0).all(), "every frame counts"


def test_the_toolkit_scrambles_time_unless_asked_not_to():
    values = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    np.testing.assert_allclose(align_as_mmsa(values, 3)[0, :, 0], [1.5, 2.5, 3])  # (0,3) (1,4) (2,4)
    np.testing.assert_allclose(align_as_mmsa(values, 3, in_order=True)[0, :, 0], [0.5, 2.5, 4])
    assert align_as_mmsa(values, 5) is values


@pytest.mark.parametrize("in_order", [False, True])
def test_a_single_frame_is_repeated(in_order):
    out = align_as_mmsa(np.array([[[2.0]]], np.float32), 4, in_order)
    np.testing.assert_array_equal(out[0, :, 0], [2, 2, 2, 2])


@pytest.mark.parametrize("in_order", [False, True])
def test_infinities_of_both_signs_give_nan_without_a_warning(in_order):
    values = np.array([np.inf, 1, -np.inf, 2], np.float32).reshape(1, 4, 1)
    found = align_as_mmsa(values, 2, in_order)[0, :, 0]
    np.testing.assert_array_equal(found, [np.inf, -np.inf] if in_order else [np.nan, 1.5])
