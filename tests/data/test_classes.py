"""What class labels mean: numbers, names, two or three or more classes, and classes from scores."""

import dataclasses

import feature_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msa_jax import metrics
from msa_jax.data import store
from msa_jax.data.class_labels import as_classes
from msa_jax.data.classes import classes_of_scores
from msa_jax.data.opening import Hints, open_dataset
from msa_jax.data.spec import MODALITIES, THREE_CLASSES, TWO_CLASSES, DatasetSpec, ModalitySpec
from msa_jax.errors import ConfigError, DataError

SPEC = DatasetSpec("mine", {m: ModalitySpec(1, 1) for m in MODALITIES}, (-3.0, 3.0), "mosi")
HINTS = Hints("mine", "mosi", (-3.0, 3.0), {})


def labelled(change, unimodal=False):
    """A file's content whose class labels are ``change`` of the scores."""
    data = feature_files.content(unimodal=unimodal)
    for part in data.values():
        count = len(part["id"])
        part["regression_labels"] = np.resize(np.array([-2.0, 0.5, 0.0, 3.0], np.float32), count)
        part["classification_labels"] = change(part["regression_labels"])
    return data


def opened(tmp_path, data, names=(), form="pickle"):
    path = feature_files.write(tmp_path / "data.pkl", data)
    hints = dataclasses.replace(HINTS, class_names=names)
    if form == "store":
        store.write(open_dataset(path), tmp_path / "store")
        path = tmp_path / "store"
    return open_dataset(path, hints)


def test_two_classes_are_known_by_the_signs_of_the_scores(tmp_path):
    """Files of 0 and 1 were read as negative and neutral."""
    for zero_is_positive in (True, False):
        dataset = opened(tmp_path, labelled(lambda s, z=zero_is_positive: (s >= 0) if z else (s > 0)))
        assert dataset.spec.class_names == TWO_CLASSES
        assert dataset.notes == ()
        classes = as_classes(dataset)
        assert classes.spec.class_names == TWO_CLASSES
        np.testing.assert_array_equal(classes.splits["train"].labels["M"][:4], [0, 1, zero_is_positive, 1])


def test_a_file_that_happens_to_have_no_positive_clip_has_three_classes(tmp_path):
    data = labelled(lambda s: s)
    for part in data.values():
        part["regression_labels"] = np.minimum(part["regression_labels"], 0)
        part["classification_labels"] = np.sign(part["regression_labels"]) + 1
    dataset = opened(tmp_path, data)
    assert dataset.spec.class_names == THREE_CLASSES
    assert dataset.notes == ()


@pytest.mark.parametrize("form", ["pickle", "store"])
@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda s: 1 - np.sign(s), "'train0$_$1' is positive, its score -2"),
        (lambda s: (s < 0).astype(int), "'train1$_$1' is negative, its score 0.5"),
        (lambda s: np.where(s > 0, "negative", "positive"), "'train0$_$1' is positive, its score -2"),
    ],
)
def test_classes_against_the_signs_are_told_and_stop_only_a_run_on_classes(tmp_path, change, where, form):
    dataset = opened(tmp_path, labelled(change), form=form)
    (note,) = dataset.notes
    assert note.startswith("classification_labels contradict the signs of the scores in ")
    assert where in note
    with pytest.raises(DataError, match="contradict the signs of the scores") as caught:
        as_classes(dataset)
    assert "\n" not in str(caught.value)
    # Names of one's own are the way out, and so are classes from the scores.
    if form == "pickle" and dataset.splits["train"].classes["M"].max() > 1:
        mine = opened(tmp_path, labelled(change), ("low", "middle", "high"))
        assert mine.notes == ()
        assert as_classes(mine).spec.class_names == ("low", "middle", "high")
    derived = as_classes(dataset, 5 - len(dataset.spec.class_names))
    assert derived.splits["train"].labels["M"].max() == 4 - len(dataset.spec.class_names)


def test_two_or_three_classes_as_asked_for(tmp_path):
    three = opened(tmp_path, labelled(lambda s: np.sign(s) + 1))
    two = opened(tmp_path, labelled(lambda s: s > 0))
    none = labelled(lambda s: s)
    for part in none.values():
        del part["classification_labels"]
    none = opened(tmp_path, none)
    assert none.spec.class_names == ()
    for dataset, default in ((three, [0, 2, 1, 2]), (two, [0, 1, 0, 1]), (none, [0, 2, 1, 2])):
        found = {k: as_classes(dataset, k).splits["train"].labels["M"][:4].tolist() for k in (0, 2, 3)}
        assert found[0] == default
        assert found[3] == [0, 2, 1, 2]
        # Of a file of two classes its own; of scores, as Acc-2 (Has0) counts.
        assert found[2] == ([0, 1, 0, 1] if dataset is two else [0, 1, 1, 1])
        assert as_classes(dataset, 2).spec.class_names == TWO_CLASSES
        with pytest.raises(ConfigError, match=r"model\.classes=4, but mine has"):
            as_classes(dataset, 4)


EMOTIONS = np.array(["sad", "angry", "glad", "calm"])


@pytest.mark.parametrize("form", ["pickle", "store"])
def test_names_in_the_file(tmp_path, form):
    data = labelled(lambda s: EMOTIONS[np.arange(len(s)) % 3], unimodal=True)
    data["train"]["classification_labels"][3] = "calm"
    dataset = opened(tmp_path, data, form=form)
    assert dataset.spec.class_names == ("angry", "calm", "glad", "sad")
    assert dataset.splits["train"].classes["M"].tolist() == [3, 0, 2, 1, 0]
    classes = as_classes(dataset)
    assert classes.spec.tasks == ("M",)  # the scores of single modalities have no emotions
    assert set(classes.splits["test"].labels) == {"M"}
    with pytest.raises(
        ConfigError, match=r"model\.classes=5, but mine has 4 classes \(angry, calm, glad, sad\)"
    ):
        as_classes(dataset, 5)


@pytest.mark.parametrize("form", ["pickle", "store"])
def test_names_of_the_configuration(tmp_path, form):
    data = labelled(lambda s: EMOTIONS[np.arange(len(s)) % 3])
    data["train"]["classification_labels"][3] = "calm"
    names = ("Glad", "calm", "sad", "angry", "bored")
    dataset = opened(tmp_path, data, names, form)
    assert dataset.spec.class_names == names
    assert dataset.splits["train"].classes["M"].tolist() == [2, 3, 0, 1, 3]


def test_names_of_the_configuration_that_do_not_fit(tmp_path):
    data = labelled(lambda s: EMOTIONS[np.arange(len(s)) % 3])
    for form, match in (
        ("pickle", "the class 'sad' .* is not one of data"),
        ("store", "does not name"),
    ):
        (tmp_path / form).mkdir()
        with pytest.raises(DataError, match=match):
            opened(tmp_path / form, data, ("glad", "angry"), form)
    with pytest.raises(DataError, match=r"goes up to 2, but data\.class_names has 2 names"):
        opened(tmp_path, labelled(lambda s: np.sign(s) + 1), ("a", "b"))
    for form in ("pickle", "store"):
        folder = tmp_path / f"twice in a {form}"
        folder.mkdir()
        data = labelled(lambda s: np.sign(s) + 1)
        with pytest.raises(DataError, match="has a name twice"):
            opened(folder, data, ("a", "b", "A "), form)
    nothing = labelled(lambda s: s)
    for part in nothing.values():
        del part["classification_labels"]
    with pytest.raises(DataError, match=r"has no class labels for the classes angry, glad"):
        as_classes(opened(tmp_path, nothing, ("angry", "glad", "sad", "calm")))


@pytest.mark.parametrize("form", ["pickle", "store"])
@pytest.mark.parametrize("names", [(), ("a", "b", "c", "d")])
def test_numbers_of_more_classes(tmp_path, names, form):
    dataset = opened(tmp_path, labelled(lambda s: np.arange(len(s)) % 4), names, form)
    assert dataset.spec.class_names == (names or ("0", "1", "2", "3"))
    assert dataset.splits["train"].classes["M"].tolist() == [0, 1, 2, 3, 0]
    assert as_classes(dataset).spec.class_names == dataset.spec.class_names


def test_numbers_that_may_be_no_classes_are_left_out_with_a_note(tmp_path):
    data = labelled(lambda s: np.arange(len(s)) % 3)
    data["valid"]["classification_labels"] = [7.0, 0, 1]
    dataset = opened(tmp_path, data)
    assert (dataset.spec.class_names, dataset.splits["train"].classes) == ((), {})
    assert "classification_labels go up to 7 and are not 0 to K - 1" in dataset.notes[0]
    assert opened(tmp_path, data, tuple("abcdefgh")).splits["valid"].classes["M"].tolist() == [7, 0, 1]


def test_remarks_and_mixtures_are_no_classes(tmp_path):
    data = labelled(lambda s: [f"remark {i}" for i in range(len(s))])
    data["valid"]["classification_labels"] = [0, 1, 2]
    assert opened(tmp_path, data).notes == (
        "classification_labels are texts in one split and numbers in another, and so ignored.",
    )
    rng = np.random.default_rng(0)
    many = {name: feature_files.section(rng, name, 120) for name in ("train", "valid", "test")}
    for part in many.values():
        part["classification_labels"] = [f"remark {i}" for i in range(120)]
    assert opened(tmp_path, many).notes == (
        "classification_labels are 120 different texts, too many for classes, and so ignored.",
    )


def test_names_that_differ_in_case_or_spaces_are_one(tmp_path):
    words = np.array(["sad", "Sad", "glad ", " glad", "calm"])
    dataset = opened(tmp_path, labelled(lambda s: words[: len(s)]))
    assert dataset.spec.class_names == ("Sad", "calm", "glad")
    assert dataset.splits["train"].classes["M"].tolist() == [0, 0, 2, 2, 1]


def test_sentiments_by_name(tmp_path):
    words = np.array(["Negative", "neutral ", "POSITIVE"])
    dataset = opened(tmp_path, labelled(lambda s: words[(np.sign(s) + 1).astype(int)]))
    assert dataset.spec.class_names == THREE_CLASSES
    assert dataset.splits["train"].classes["M"][:4].tolist() == [0, 2, 1, 2]
    assert (
        opened(tmp_path, labelled(lambda s: words[[0, 2]][(s >= 0).astype(int)])).spec.class_names
        == TWO_CLASSES
    )


def test_a_store_of_an_earlier_version_finds_its_classes(tmp_path):
    """Its description has no names, and its two classes were read as negative and neutral."""
    path = feature_files.write(tmp_path / "data.pkl", labelled(lambda s: s > 0))
    dataset = open_dataset(path)
    store.write(
        dataclasses.replace(dataset, spec=dataclasses.replace(dataset.spec, class_names=())), tmp_path / "s"
    )
    assert open_dataset(tmp_path / "s").spec.class_names == TWO_CLASSES


def test_classes_of_a_single_modality_that_are_others(tmp_path):
    data = labelled(lambda s: s > 0, unimodal=True)
    for part in data.values():
        part["classification_labels_T"] = np.sign(part["regression_labels_T"]) + 1
    dataset = opened(tmp_path, data)
    assert set(dataset.splits["train"].classes) == {"M"}
    assert dataset.notes == (
        "classification_labels_T hold other classes than classification_labels, and so ignored.",
    )


def test_scores_without_a_sign_give_no_classes(tmp_path):
    data = labelled(lambda s: s)
    for part in data.values():
        part["regression_labels"] = part["regression_labels"] + 3
        del part["classification_labels"]
    dataset = open_dataset(feature_files.write(tmp_path / "data.pkl", data))
    assert (dataset.spec.metrics, dataset.spec.label_range, dataset.spec.class_edges) == (
        "plain",
        (1.0, 6.0),
        None,
    )
    with pytest.raises(
        DataError, match=r"its scores \(1 to 6, metrics plain\) do not say what is negative; add"
    ):
        as_classes(dataset)


@given(st.sampled_from(["mosi", "sims"]), st.lists(st.floats(-4, 4, width=32), min_size=1))
def test_classes_from_scores(metric_set, values):
    """On CH-SIMS as its Acc-3 cuts; on CMU-MOSI only 0 is neutral, as its class labels are."""
    scores = np.array(values, np.float32)
    limit = 3.0 if metric_set == "mosi" else 1.0
    spec = dataclasses.replace(SPEC, metrics=metric_set, label_range=(-limit, limit))
    expected = np.sign(scores) + 1
    if metric_set == "sims":
        expected = metrics.sentiment_of(scores, "sims", (-0.1, 0.1))
    np.testing.assert_array_equal(classes_of_scores(scores, spec, 3), expected)
    np.testing.assert_array_equal(classes_of_scores(scores, spec, 2), scores >= 0)
