"""Class labels of a feature file: numbers, names, rows with a single one, or what is none of them."""

import pathlib

import numpy as np
import pytest

USELESS = {
    "fractions": [0.5, 0, 1],
    "negative": [-1, 0, 1],
    "nan": [np.nan, 0, 1],
    "rows with two ones": np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
    "rows of scores": [[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]],
    "rows of unequal length": [[0, 1], [0, 1, 0], [1, 0]],
    "dates": np.array(["2020", "2021", "2022"], "M8[Y]"),
    "nothing": None,
    "texts and numbers": ["positive", 1, 2],
    "paths": [pathlib.PurePosixPath("a")] * 3,
}


@pytest.mark.parametrize("kind", USELESS)
def test_useless_classes_are_left_out_everywhere(read, data, kind):
    data["valid"]["classification_labels"] = USELESS[kind]
    splits, notes = read(data)
    assert all(split.classes == {} for split in splits.values())
    assert notes == [
        "valid classification_labels: neither class numbers (0, 1, 2, ...), names nor rows with a single "
        "one, and so ignored."
    ]


@pytest.mark.parametrize("form", [np.array, list, lambda rows: [list(map(int, row)) for row in rows]])
def test_class_labels_as_rows_with_a_single_one(read, data, form):
    expected = {name: part["classification_labels"] for name, part in data.items()}
    for part in data.values():
        part["classification_labels"] = form(np.eye(3)[part["classification_labels"].astype(int)])
    splits, notes = read(data)
    assert notes == []
    for name, split in splits.items():
        np.testing.assert_array_equal(split.classes["M"], expected[name])


@pytest.mark.parametrize("form", [list, np.array, lambda x: np.array(x, object), lambda x: np.array(x, "S")])
def test_class_labels_as_names(read, data, form):
    names = np.array(["sad", "angry", "glad"])
    for part in data.values():
        part["names"] = names[part["classification_labels"].astype(int)].tolist()
        part["classification_labels"] = form(part["names"])
    for name, split in read(data)[0].items():
        assert split.classes["M"].tolist() == data[name]["names"]
