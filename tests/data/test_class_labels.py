"""Classes in place of scores."""

import dataclasses

import numpy as np
import pytest
from small_data import dataset

from msa_jax.data.class_labels import as_classes
from msa_jax.errors import DataError


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
