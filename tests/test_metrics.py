import csv
import math
import pathlib
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msa_jax import metrics
from msa_jax.data.spec import edges_of
from msa_jax.errors import DataError

GOLDEN = pathlib.Path(__file__).parent / "golden"
SCORES = st.floats(-4, 4, width=32)
# Values on and beside every bin edge, where float32 decides.
EDGES = [-3.5, -2.5, -1.5, -1.0, -0.7, -0.5, -0.1, -0.0, 0.0, 0.1, 0.5, 0.7, 1.0, 1.5, 2.5, 3.5]
pairs = st.lists(
    st.tuples(SCORES | st.sampled_from(EDGES), SCORES | st.sampled_from(EDGES)), min_size=1, max_size=60
)
sets = st.sampled_from(["mosi", "sims"])


def split(rows):
    prediction, label = np.array(rows, np.float32).T
    return prediction, label


def test_constant_prediction_on_the_sims_test_labels():
    """Cai et al. 2025, Table 5, row EF-LSTM: what a constant -0.4 scores on the CH-SIMS test split."""
    label = np.repeat([-0.8, -0.4, 0.0, 0.4, 0.8], [151, 97, 69, 69, 71])
    ours = metrics.regression_metrics("sims", np.full(len(label), -0.4), label)
    percent = [round(100 * ours[key], 2) for key in ("acc2", "f1", "acc3", "acc5")]
    assert percent == [69.37, 56.82, 54.27, 21.23]
    assert math.isnan(ours["corr"])


def test_constant_prediction_on_the_real_sims_labels(shared_data):
    with open(shared_data / "labels/sims_label.csv", encoding="utf-8-sig", newline="") as file:
        label = np.array([float(row["label"]) for row in csv.DictReader(file) if row["mode"] == "test"])
    ours = metrics.regression_metrics("sims", np.full(len(label), -0.4), label)
    assert len(label) == 457
    assert [round(100 * ours[key], 2) for key in ("acc2", "f1", "acc3", "acc5")] == [
        69.37,
        56.82,
        54.27,
        21.23,
    ]


@pytest.mark.parametrize(
    ("metric_set", "n", "score", "expected"),
    [
        ("sims", 2, 0.0, 0), ("sims", 2, 1e-6, 1), ("sims", 2, -5.0, 0), ("sims", 2, 5.0, 1),
        ("sims", 3, -0.1, 0), ("sims", 3, -0.0999, 1), ("sims", 3, 0.1, 1), ("sims", 3, 0.1001, 2),
        ("sims", 5, -0.7, 0), ("sims", 5, -0.6999, 1), ("sims", 5, -0.1, 1), ("sims", 5, 0.1, 2),
        ("sims", 5, 0.7, 3), ("sims", 5, 0.7001, 4), ("sims", 5, -9.0, 0), ("sims", 5, 9.0, 4),
        ("mosi", 2, -0.0, 1), ("mosi", 2, -1e-6, 0), ("mosi", 7, 0.5, 3), ("mosi", 7, 1.5, 5),
        ("mosi", 7, 2.5, 5), ("mosi", 7, -0.5, 3), ("mosi", 7, 3.9, 6), ("mosi", 5, 2.5, 4),
        ("mosi", 5, -9.0, 0), ("mosi", 3, 1.5, 2),
    ],
)  # fmt: skip
def test_bin_edges(metric_set, n, score, expected):
    matrix = metrics.confusion_matrices(metric_set, np.array([score]), np.array([score]))[n]
    assert matrix[expected, expected] == 1
    assert matrix.sum() == 1


def test_non0_drops_zero_labels_of_both_signs_and_counts_a_zero_prediction_as_negative():
    ours = metrics.regression_metrics(
        "mosi", np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, -0.0, -1.0, 2.0])
    )
    assert ours["acc2_non0"] == 0.5


def test_sims_clips_before_mae_and_corr_and_mosi_does_not():
    prediction, label = np.array([2.0, -1.0, 0.5]), np.array([1.0, -1.0, 0.5])
    assert metrics.regression_metrics("sims", prediction, label)["mae"] == 0
    assert metrics.regression_metrics("sims", prediction, label)["corr"] == pytest.approx(1)
    assert metrics.regression_metrics("mosi", prediction, label)["mae"] == pytest.approx(1 / 3)


@given(pairs)
def test_five_classes_are_never_harder_than_seven(rows):
    ours = metrics.regression_metrics("mosi", *split(rows))
    assert ours["acc3"] >= ours["acc5"] >= ours["acc7"]


@given(pairs)
def test_metrics_of_any_scale(rows):
    prediction, label = split(rows)
    ours = metrics.regression_metrics("plain", prediction, label)
    assert tuple(ours) == ("mae", "corr", "r2", "ccc")
    prediction, label = prediction.astype(np.float64), label.astype(np.float64)
    assert ours["mae"] == pytest.approx(np.abs(prediction - label).mean(), abs=1e-12)
    if np.ptp(label) > 1e-3:
        assert ours["r2"] == pytest.approx(sklearn.metrics.r2_score(label, prediction), rel=1e-9, abs=1e-9)
        covariance = ((prediction - prediction.mean()) * (label - label.mean())).mean()
        apart = prediction.var() + label.var() + (prediction.mean() - label.mean()) ** 2
        assert ours["ccc"] == pytest.approx(2 * covariance / apart, abs=1e-9)
        assert abs(ours["ccc"]) <= 1 + 1e-12
    else:
        assert math.isnan(ours["r2"]) or np.ptp(label) > 0


def test_concordance_on_worked_numbers():
    label = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for prediction, ccc, r2 in (
        (label, 1.0, 1.0),
        (label + 1, 2 * 2 / (2 + 2 + 1), 1 - 5 / 10),
        (6 - label, -1.0, 1 - 40 / 10),
        (np.full(5, 3.0), 0.0, 0.0),
    ):
        ours = metrics.regression_metrics("plain", prediction, label)
        assert (ours["ccc"], ours["r2"]) == pytest.approx((ccc, r2))
    constant = metrics.regression_metrics("plain", np.ones(3), np.ones(3))
    assert math.isnan(constant["ccc"])
    assert math.isnan(constant["r2"])


@pytest.mark.parametrize(
    ("metric_set", "label_range", "keys"),
    [
        ("mosi", (1.0, 5.0), ("acc5", "mae", "corr")), ("mosi", (0.0, 6.0), ("acc7", "mae", "corr")),
        ("mosi", (0.0, 100.0), ("mae", "corr")), ("mosi", (0.0, 1.0), ("mae", "corr")),
        ("mosi", (1.0, 4.5), ("mae", "corr")), ("sims", (1.0, 5.0), ("mae", "corr")),
        ("plain", (1.0, 5.0), ("mae", "corr", "r2", "ccc")),
        ("plain", (-1.0, 1.0), ("mae", "corr", "r2", "ccc")),
        ("mosi", (-3.0, 3.0), metrics.REGRESSION_KEYS["mosi"]),
        ("sims", (-1.0, 1.0), metrics.REGRESSION_KEYS["sims"]),
    ],
)  # fmt: skip
def test_scores_without_a_sign_have_no_metrics_of_signs(metric_set, label_range, keys):
    """All of 1 to 5 is positive, so a two-class accuracy would be 1 whatever is predicted."""
    rng = np.random.default_rng(0)
    label = rng.uniform(*label_range, 50)
    prediction = rng.uniform(*label_range, 50)
    ours = metrics.regression_metrics(metric_set, prediction, label, label_range)
    assert tuple(ours) == keys == metrics.regression_keys(metric_set, label_range)
    assert ours["mae"] == pytest.approx(np.abs(np.float32(prediction) - np.float32(label)).mean(), rel=1e-5)
    matrices = metrics.confusion_matrices(metric_set, prediction, label, label_range)
    assert set(matrices) == set(metrics.score_classes(metric_set, label_range))
    said = metrics.left_out(metric_set, label_range)
    assert (said == "") == (keys == metrics.REGRESSION_KEYS[metric_set])
    if metric_set == "mosi" and said:
        assert "acc2_has0, f1_has0, acc2_non0, f1_non0" in said
        assert "\n" not in said


def test_whole_numbers_of_a_range_are_classes():
    label, prediction = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0.2, 2.5, 3.6, 9.0])
    ours = metrics.regression_metrics("mosi", prediction, label, (1.0, 5.0))
    assert ours["acc5"] == 0.75  # 1, 2 (half to even), 4, 5
    assert metrics.score_classes("mosi", (1.0, 5.0)) == {5: ("1", "2", "3", "4", "5")}


@given(sets, pairs)
def test_what_is_called_neutral_is_neutral_in_acc3(metric_set, rows):
    score, _ = split(rows)
    edges = edges_of(metric_set, (-1.0, 1.0))
    assert edges is not None
    found = metrics.sentiment_of(score, metric_set, edges)
    for name, one in zip(found, score, strict=True):
        matrix = metrics.confusion_matrices(metric_set, np.array([one]), np.array([one]))[3]
        assert matrix[name, name] == 1
    # Runs of earlier versions call nothing but 0 neutral.
    np.testing.assert_array_equal(metrics.sentiment_of(score, metric_set, (0.0, 0.0)), np.sign(score) + 1)


@settings(max_examples=50)
@given(st.integers(2, 6), st.data())
def test_metrics_of_any_number_of_classes_equal_scikit_learn(n, data):
    count = data.draw(st.integers(1, 40))
    label = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, n - 1)))
    logits = data.draw(hnp.arrays(np.float32, (count, n), elements=st.integers(-5, 5)))
    names = tuple(f"class {k}" for k in range(n))
    ours = metrics.classification_metrics(logits, label, compat=True, names=names)
    assert tuple(ours) == metrics.classification_keys(names) == ("accuracy", "f1_weighted", "f1_macro")
    predicted = logits.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(label, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without clips
        for average in ("weighted", "macro"):
            expected = sklearn.metrics.f1_score(label, predicted, average=average)
            assert ours[f"f1_{average}"] == pytest.approx(expected, abs=1e-12)


@given(sets, pairs)
def test_all_metrics_are_in_range_and_a_perfect_prediction_is_perfect(metric_set, rows):
    prediction, label = split(rows)
    for key, value in metrics.regression_metrics(metric_set, prediction, label).items():
        low, high = {"corr": (-1, 1), "mae": (0, 8)}.get(key, (0, 1))
        assert math.isnan(value) or low <= value <= high, key
    for key, value in metrics.regression_metrics(metric_set, label, label).items():
        assert math.isnan(value) or value == pytest.approx(0 if key == "mae" else 1), key


@given(sets, pairs)
def test_mae_and_corr_equal_numpy(metric_set, rows):
    prediction, label = split(rows)
    ours = metrics.regression_metrics(metric_set, prediction, label)
    if metric_set == "sims":
        prediction, label = np.clip(prediction, -1, 1), np.clip(label, -1, 1)
    prediction, label = prediction.astype(np.float64), label.astype(np.float64)
    assert ours["mae"] == pytest.approx(np.abs(prediction - label).mean(), abs=1e-12)
    if np.ptp(prediction) > 1e-3 and np.ptp(label) > 1e-3:
        assert ours["corr"] == pytest.approx(np.corrcoef(prediction, label)[0, 1], abs=1e-9)


@given(sets, st.lists(pairs, min_size=1, max_size=5))
def test_merged_sums_equal_one_shot(metric_set, batches):
    merged = None
    for rows in batches:
        sums = metrics.RegressionSums.of(metric_set, *split(rows))
        merged = sums if merged is None else merged.merge(sums)
    assert merged is not None
    one_shot = metrics.regression_metrics(metric_set, *split([row for rows in batches for row in rows]))
    for key, value in merged.metrics().items():
        # Corr of nearly constant scores loses digits in any order of summation.
        tolerance = {"mae": 1e-12, "corr": 1e-6}.get(key, 0)
        assert value == pytest.approx(one_shot[key], abs=tolerance, nan_ok=True), key


@pytest.mark.parametrize("value", [0.1, -0.7, 1e-30, 123456.7])
def test_constant_predictions_have_no_correlation_however_they_are_merged(value):
    label = np.linspace(-1, 1, 21)
    one = metrics.RegressionSums.of("mosi", np.full(21, value), label)
    for sums in (one, one.merge(one), one.merge(one).merge(one)):
        assert math.isnan(sums.metrics()["corr"])


@settings(max_examples=50)
@given(st.integers(2, 5), st.data())
def test_weighted_f1_and_accuracy_equal_scikit_learn(n, data):
    shape = data.draw(st.integers(1, 40))
    label = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, n - 1)))
    prediction = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, n - 1)))
    counts = metrics.confusion(label, prediction, n)
    assert (counts == sklearn.metrics.confusion_matrix(label, prediction, labels=np.arange(n))).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without clips
        expected = sklearn.metrics.f1_score(label, prediction, average="weighted")
    assert metrics.weighted_f1(counts) == pytest.approx(expected, abs=1e-12)
    assert metrics.accuracy(counts) == pytest.approx(
        sklearn.metrics.accuracy_score(label, prediction), abs=1e-12
    )


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("prediction", [0, 1])
def test_f1_of_one_class_only(label, prediction):
    counts = metrics.confusion(np.full(4, label), np.full(4, prediction), 2)
    assert metrics.weighted_f1(counts) == float(label == prediction)


def test_only_neutral_labels_leave_non0_undefined_and_the_rest_defined():
    ours = metrics.regression_metrics("mosi", np.array([0.2, -0.3]), np.zeros(2))
    assert math.isnan(ours["acc2_non0"])
    assert math.isnan(ours["f1_non0"])
    assert ours["acc2_has0"] == 0.5
    neutral = metrics.classification_metrics(np.eye(3), np.ones(3, int))
    assert math.isnan(neutral["acc2_non0"])
    assert neutral["acc3"] == pytest.approx(1 / 3)


def test_right_and_compat_non0_on_a_worked_example():
    # negative right, negative wrong, positive right, positive wrong, neutral
    logits = np.array([[2, 9, 1], [1, 9, 2], [1, 0, 2], [2, 0, 1], [0, 5, 1.0]])
    ours = metrics.classification_metrics(logits, np.array([0, 0, 2, 2, 1]), compat=True)
    assert ours["acc2_non0"] == 0.5
    assert ours["acc2_non0_compat"] == 0.25  # the positive clip that is right does not count
    assert ours["acc3"] == pytest.approx(2 / 5)
    assert ours["acc2_has0"] == pytest.approx(2 / 5)  # the neutral clip is judged positive
    assert (
        tuple(metrics.classification_metrics(logits, np.array([0, 0, 2, 2, 1])))
        == metrics.CLASSIFICATION_KEYS
    )


@given(sets, pairs)
def test_confusion_matrices_agree_with_the_metrics(metric_set, rows):
    prediction, label = split(rows)
    ours = metrics.regression_metrics(metric_set, prediction, label)
    matrices = metrics.confusion_matrices(metric_set, prediction, label)
    assert {n: len(names) for n, names in metrics.CLASS_NAMES[metric_set].items()} == {n: n for n in matrices}
    for n, matrix in matrices.items():
        key = {("mosi", 2): "acc2_has0"}.get((metric_set, n), f"acc{n}")
        assert matrix.sum() == len(label)
        assert metrics.accuracy(matrix) == ours[key]


@pytest.mark.parametrize(
    ("prediction", "label", "words"),
    [
        (np.zeros(3), np.zeros(4), "shapes are (3,) and (4,)"),
        (np.zeros((3, 1)), np.zeros(3), "shapes are (3, 1)"),
        (np.zeros(0), np.zeros(0), "at least one clip"),
        (np.array([0.0, np.nan]), np.zeros(2), "predictions of 1 of 2 clips"),
        (np.zeros(2), np.array([np.inf, 0.0]), "labels of 1 of 2 clips"),
    ],
)
def test_what_has_no_metrics_is_refused(prediction, label, words):
    for function in (metrics.regression_metrics, metrics.confusion_matrices):
        with pytest.raises(DataError) as error:
            function("mosi", prediction, label)
        assert words in str(error.value)


def test_wrong_sets_and_classes_are_refused():
    with pytest.raises(DataError, match="unknown metric set 'imdb'"):
        metrics.regression_metrics("imdb", np.zeros(2), np.zeros(2))
    with pytest.raises(DataError, match="do not merge"):
        metrics.RegressionSums.of("mosi", np.zeros(2), np.zeros(2)).merge(
            metrics.RegressionSums.of("sims", np.zeros(2), np.zeros(2))
        )
    one, other = (metrics.RegressionSums.of("mosi", np.ones(2), np.ones(2), r) for r in (None, (1.0, 5.0)))
    with pytest.raises(DataError, match=r"label ranges None and .* do not merge"):
        one.merge(other)
    with pytest.raises(DataError, match="class labels must be"):
        metrics.classification_metrics(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(DataError, match="not finite"):
        metrics.classification_metrics(np.full((2, 3), np.nan), np.array([0, 1]))
    with pytest.raises(DataError, match=r"logits \[N, 3\]"):
        metrics.classification_metrics(np.zeros((2, 5)), np.array([0, 1]))
