import fake_study
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msa_jax import metrics
from msa_jax.data.spec import THREE_CLASSES
from msa_jax.studies import bootstrap
from msa_jax.studies.bootstrap import Bootstrap

SCORES = st.floats(-4, 4, width=32) | st.sampled_from([-3.5, -0.7, -0.1, 0.0, 0.1, 0.5, 2.5])


@settings(max_examples=60)
@given(st.sampled_from(["mosi", "sims", "plain"]), st.sampled_from([None, (1.0, 5.0)]), st.data())
def test_resampled_scores_are_measured_as_repeated_clips(metric_set, label_range, data):
    count = data.draw(st.integers(1, 12))
    prediction, label = data.draw(hnp.arrays(np.float32, (2, count), elements=SCORES))
    draws = data.draw(hnp.arrays(np.int64, (4, count), elements=st.integers(0, 3)))
    draws[draws.sum(axis=1) == 0] = 1
    found = metrics.resampled_regression(metric_set, prediction, label, draws, label_range)
    assert tuple(found) == metrics.regression_keys(metric_set, label_range)
    for resample, times in enumerate(draws):
        expected = metrics.regression_metrics(
            metric_set, prediction.repeat(times), label.repeat(times), label_range
        )
        for key, value in expected.items():
            # Sums of squares of nearly equal scores lose digits in any order.
            assert found[key][resample] == pytest.approx(value, rel=1e-7, abs=1e-7, nan_ok=True), key


@settings(max_examples=60)
@given(st.sampled_from([THREE_CLASSES, ("a", "b"), ("a", "b", "c", "d")]), st.data())
def test_resampled_classes_are_measured_as_repeated_clips(names, data):
    count = data.draw(st.integers(1, 12))
    logits = data.draw(hnp.arrays(np.float32, (count, len(names)), elements=st.integers(-3, 3)))
    label = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, len(names) - 1)))
    draws = data.draw(hnp.arrays(np.int64, (4, count), elements=st.integers(0, 3)))
    draws[draws.sum(axis=1) == 0] = 1
    compat = data.draw(st.booleans())
    found = metrics.resampled_classification(logits, label, draws, compat, names)
    for resample, times in enumerate(draws):
        expected = metrics.classification_metrics(
            logits.repeat(times, axis=0), label.repeat(times), compat, names
        )
        assert tuple(found) == tuple(expected)
        for key, value in expected.items():
            assert found[key][resample] == pytest.approx(value, abs=1e-12, nan_ok=True), key


@pytest.mark.parametrize("value", [0.1, -0.7, 123456.7])
def test_constant_predictions_have_no_correlation_in_any_resample(value):
    label = np.linspace(-1, 1, 21)
    draws = next(iter(Bootstrap(50).clips(21)))
    found = metrics.resampled_regression("plain", np.full(21, value), label, draws)
    assert np.isnan(found["corr"]).all()
    assert (found["ccc"] == 0).all()
    assert np.isnan(metrics.resampled_regression("plain", label, np.full(21, value), draws)["r2"]).all()


def test_draws_are_the_same_in_blocks_of_any_size(monkeypatch):
    whole = np.concatenate(list(Bootstrap(40, seed=3).clips(17)))
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 17 * 6)
    np.testing.assert_array_equal(np.concatenate(list(Bootstrap(40, seed=3).clips(17))), whole)
    assert whole.shape == (40, 17)
    assert (whole.sum(axis=1) == 17).all()


def test_the_bootstrap_equals_a_loop_over_drawn_seeds_and_clips():
    label = fake_study.labels_of("mosi", 7)
    rng = np.random.default_rng(1)
    mine, theirs = (label + rng.normal(0, 1, (3, 7)) for _ in range(2))
    plan = Bootstrap(resamples=20, seed=5)
    sides = [plan.measure(fake_study.row(("x",), side, label)) for side in (mine, theirs)]
    of_seeds, of_clips = np.random.default_rng(5).spawn(2)
    seeds = of_seeds.integers(3, size=(20, 3))
    clips = of_clips.integers(7, size=(20, 7))
    for key in ("mae", "acc7", "f1_has0", "corr"):
        expected = []
        for s, c in zip(seeds, clips, strict=True):
            per_seed = [
                metrics.regression_metrics("mosi", mine[k, c], label[c])[key]
                - metrics.regression_metrics("mosi", theirs[k, c], label[c])[key]
                for k in s
            ]
            expected.append(np.mean(per_seed))
        found = plan.differences(sides[0][key], sides[1][key])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, err_msg=key)


def test_copies_of_a_run_know_no_more_than_the_run():
    """Clips drawn anew for every seed would make the interval of five copies less than half as wide."""
    label = fake_study.labels_of("mosi", 60)
    rng = np.random.default_rng(0)
    mine, theirs = (label + rng.normal(0, 1, (1, 60)) for _ in range(2))
    plan = Bootstrap(300)

    def differences(copies):
        sides = (fake_study.row(("x",), side.repeat(copies, axis=0), label) for side in (mine, theirs))
        return plan.differences(*(plan.measure(side)["mae"] for side in sides))

    np.testing.assert_allclose(differences(5), differences(1), atol=1e-12)
