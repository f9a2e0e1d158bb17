"""Classes in place of scores."""

import dataclasses

import numpy as np
import pytest

from msa_jax.data.class_labels import as_classes
from msa_jax.data.dataset import Dataset, Split
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
