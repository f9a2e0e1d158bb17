"""Cleaning and statistics, against worked numbers and a plain float64 computation."""

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from msa_jax.data import clean

NAN, INF = np.nan, np.inf


def test_finite_zeroes_every_broken_value_in_a_copy():
    values = np.array([[[NAN, INF, -INF, 2.5]]], np.float32)
    np.testing.assert_array_equal(clean.finite(values), [[[0, 0, 0, 2.5]]])
    assert clean.finite(values).dtype == np.float32
    assert np.isnan(values[0, 0, 0])


@pytest.mark.parametrize(("modality", "expected"), [("audio", 0), ("vision", -INF), ("text", -INF)])
def test_as_mmsa_mends_only_minus_infinity_in_audio(modality, expected):
    values = np.array([[[NAN, INF, -INF, 2.5]]], np.float32)
    np.testing.assert_array_equal(clean.as_mmsa(values, modality), [[[NAN, INF, expected, 2.5]]])
    assert clean.as_mmsa(values, modality).dtype == np.float32


def test_time_mean_reads_real_steps_only():
    values = np.array([[[1, 2], [3, 4], [NAN, INF]], [[NAN, NAN]] * 3], np.float32)
    mean = clean.time_mean(values, np.array([2, 0]))
    np.testing.assert_array_equal(mean, [[[2, 3]], [[0, 0]]])
    assert mean.dtype == np.float32


def test_time_mean_compat_counts_padding_and_drops_columns_with_nan():
    values = np.array([[[1, 2, NAN], [3, 4, 5], [0, 0, 0], [0, 0, 0]]], np.float32)
    np.testing.assert_array_equal(clean.time_mean(values, np.array([2]), compat=True), [[[1, 1.5, 0]]])


def test_standardise():
    values = np.array([[[1.0, 10.0], [3.0, 30.0]]], np.float32)
    scaled = clean.standardise(values, np.array([2.0, 10.0]), np.array([0.5, 20.0]))
    np.testing.assert_array_equal(scaled, [[[-2, 0], [2, 1]]])
    assert scaled.dtype == np.float32


def test_summary_by_hand():
    values = np.zeros((2, 3, 4), np.float32)
    values[0] = [[1, 5, NAN, -INF], [3, 5, 7, 2], [99, 99, NAN, INF]]  # two real steps
    values[1] = [[8, 5, NAN, INF], [99, 99, 99, 99], [NAN] * 4]  # one real step
    found = clean.summarise(values, np.array([2, 1]))
    assert found.steps == 3
    np.testing.assert_allclose(found.mean, [4, 5, 7, 2])
    np.testing.assert_allclose(found.std, [np.sqrt(26 / 3), 1, 1, 1])
    np.testing.assert_array_equal(found.low, [1, 5, 7, 2])
    np.testing.assert_array_equal(found.high, [8, 5, 7, 2])
    np.testing.assert_array_equal(found.nan, [0, 0, 2, 0])
    np.testing.assert_array_equal(found.infinite, [0, 0, 0, 2])
    np.testing.assert_array_equal(found.constant, [False, True, True, True])


def test_columns_without_finite_values():
    found = clean.summarise(np.full((2, 2, 1), NAN, np.float32), np.array([2, 0]))
    assert (found.mean[0], found.std[0], found.nan[0]) == (0, 1, 2)
    assert np.isnan(found.low[0])
    assert found.constant[0]


@hypothesis.given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3)),
        elements=st.floats(-1e4, 1e4, width=32) | st.sampled_from([NAN, INF, -INF]),
    ),
    data=st.data(),
)
@hypothesis.settings(max_examples=100)
def test_summary_equals_the_plain_computation_for_any_blocks(values, data):
    lengths = np.array(data.draw(st.lists(st.integers(0, values.shape[1]), min_size=9, max_size=9)))[
        : len(values)
    ]
    block = data.draw(st.integers(1, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean, "_BLOCK_VALUES", block)
        seen = []
        found = clean.summarise(values, lengths, seen.append)
    assert sum(seen) == values.nbytes
    real = values[np.arange(values.shape[1]) < lengths[:, None]].astype(np.float64)
    for c in range(values.shape[2]):
        good = real[np.isfinite(real[:, c]), c]
        assert found.nan[c] == np.isnan(real[:, c]).sum()
        assert found.infinite[c] == np.isinf(real[:, c]).sum()
        assert found.mean[c] == pytest.approx(good.mean() if len(good) else 0, rel=1e-12, abs=1e-9)
        constant = len(set(good.tolist())) < 2
        assert found.std[c] == pytest.approx(1 if constant else good.std(), rel=1e-9)


def test_a_large_offset_costs_no_digits(monkeypatch):
    monkeypatch.setattr(clean, "_BLOCK_VALUES", 64)
    values = (1e6 + np.random.default_rng(0).normal(size=(500, 4, 2))).astype(np.float32)
    found = clean.summarise(values, np.full(500, 4))
    np.testing.assert_allclose(found.std, values.astype(np.float64).std((0, 1)), rtol=1e-10)


def test_constant_columns_are_found_exactly(monkeypatch):
    """0.1 has no exact sum, yet its deviation must be that of a constant."""
    monkeypatch.setattr(clean, "_BLOCK_VALUES", 7)
    mean, std = clean.statistics(np.full((1000, 3, 1), 0.1, np.float32), np.full(1000, 3))
    assert mean == pytest.approx((np.float32(0.1),), rel=1e-15)
    assert std == (1.0,)


def test_group_statistics_pool_the_columns_of_a_group():
    rng = np.random.default_rng(0)
    values = rng.normal([1, 20, -3, 4], [1, 5, 0.1, 2], size=(400, 3, 4)).astype(np.float32)
    mean, std = (np.array(x) for x in clean.statistics(values, np.full(400, 3)))
    pooled_mean, pooled_std = clean.group_statistics(mean, std, {"a": (0, 1), "b": (3,)})
    both = values[..., :2].astype(np.float64)
    np.testing.assert_allclose(pooled_mean, [both.mean(), both.mean(), 0, mean[3]], rtol=1e-6)
    np.testing.assert_allclose(pooled_std, [both.std(), both.std(), 1, std[3]], rtol=1e-6)
