"""What a model's configuration makes of the stored data: means, alignment, classes."""

import dataclasses

import numpy as np
import pytest

from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.prepare import as_classes, reduce_dataset, reduced_spec
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import DataError

SPEC = DatasetSpec(
    name="small",
    modalities={"text": ModalitySpec(2, 3), "audio": ModalitySpec(1, 6), "vision": ModalitySpec(1, 2)},
    label_range=(-1.0, 1.0),
    metrics="sims",
    tasks=("M", "T"),
)


def dataset(scores=(-0.4, 0.0, 0.6)) -> Dataset:
    n = len(scores)
    values = {
        "text": np.ones((n, 3, 2), np.float32),
        "audio": np.tile(np.array([1, 2, 3, 4, 0, 0], np.float32)[None, :, None], (n, 1, 1)),
        "vision": np.full((n, 2, 1), np.nan, np.float32),
    }
    values["audio"][0, 1] = -np.inf
    lengths = {"text": np.array([2, 3, 1][:n]), "audio": np.full(n, 4), "vision": np.array([2, 0, 1][:n])}
    labels = {t: np.array(scores, np.float32) for t in ("M", "T")}
    split = Split(np.array([f"c{i}" for i in range(n)]), values, lengths, labels)
    return Dataset(SPEC, dict.fromkeys(("train", "valid", "test"), split))


def test_the_mean_is_over_real_steps_or_over_all_as_in_the_toolkit():
    train = reduce_dataset(dataset(), "mean", compat=False).splits["train"]
    # A broken value counts as 0, by the package's rule.
    np.testing.assert_allclose(train.values["audio"][:, 0, 0], [2, 2.5, 2.5])
    np.testing.assert_array_equal(train.values["vision"], 0)
    assert {m: train.lengths[m].tolist() for m in ("audio", "vision")} == {
        "audio": [1] * 3,
        "vision": [1] * 3,
    }
    peer = reduce_dataset(dataset(), "mean", compat=True).splits["train"]
    np.testing.assert_allclose(peer.values["audio"][:, 0, 0], np.array([8, 10, 10]) / 6)


def test_aligned_modalities_have_the_texts_steps():
    reduced = reduce_dataset(dataset(), "align", compat=False)
    train = reduced.splits["train"]
    np.testing.assert_allclose(train.values["audio"][1, :, 0], [1.5, 2.5, 3.5])
    np.testing.assert_allclose(train.values["audio"][2, :, 0], [2.5, 0, 0])
    for m in ("audio", "vision"):
        np.testing.assert_array_equal(train.lengths[m], train.lengths["text"])
        assert reduced.spec.modalities[m].length == 3
    peer = reduce_dataset(dataset(), "align", compat=True).splits["train"]
    np.testing.assert_allclose(peer.values["audio"][1, :, 0], [2.5, 1, 1.5])  # (1,4) (2,0) (3,0)
    constant = reduce_dataset(dataset(), "mean_align", compat=True).splits["train"]
    np.testing.assert_allclose(constant.values["audio"][1, :, 0], [10 / 6] * 3)
    same = reduce_dataset(dataset(), "mean_align", compat=False).splits["train"]
    np.testing.assert_array_equal(same.values["audio"], train.values["audio"])


def test_nothing_changes_without_a_reduction():
    stored = dataset()
    assert reduce_dataset(stored, "none", compat=True) is stored
    assert reduced_spec(SPEC, "none") is SPEC


def test_classes_follow_from_scores_or_from_the_file():
    stored = dataset()
    derived = as_classes(stored).splits["valid"]
    np.testing.assert_array_equal(derived.labels["M"], [0, 1, 2])
    np.testing.assert_array_equal(derived.labels["T"], [0, 1, 2])
    split = dataclasses.replace(stored.splits["train"], classes={"M": np.array([1, 2, 2])})
    given = as_classes(dataclasses.replace(stored, splits={"train": split})).splits["train"]
    np.testing.assert_array_equal(given.labels["M"], [1, 2, 2])


def test_one_class_only_is_one_sentence():
    with pytest.raises(DataError, match="clips of one class only"):
        as_classes(dataset((0.2, 0.4, 0.6)))
