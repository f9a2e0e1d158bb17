"""Every mistake in a feature file gives one sentence that says where it is and what to do."""

import datetime
import itertools
import pathlib

import feature_files
import numpy as np
import pytest
from peak_memory import grows_by_at_most

from msa_jax.data import mmsa
from msa_jax.errors import DataError


def change(**changes):
    """Replaces keys of the valid split (3 clips)."""
    return lambda data: data["valid"].update(changes)


def drop(*keys):
    def mistake(data):
        for key in keys:
            del data["valid"][key]

    return mistake


def cut(key):
    def mistake(data):
        data["valid"][key] = data["valid"][key][:2]

    return mistake


def hole(data):
    data["valid"]["text_bert"][1, 1, :4] = [1, 0, 1, 1]


def misspell(data):
    data["valid"]["visual"] = data["valid"].pop("vision")


def empty(data):
    data["valid"] = {key: value[:0] for key, value in data["valid"].items()}


def nan_label(data):
    data["valid"]["regression_labels"][2] = np.nan


MISTAKES = {
    "no split": (
        lambda data: data.pop("test"),
        r"splits 'train', 'valid' and 'test', found 'train', 'valid'",
    ),
    "split is a list": (lambda data: data.update(valid=[1]), r"split 'valid': found no dict"),
    "no audio": (drop("audio"), r"key 'audio': found only .* expected this key; add it"),
    "no labels": (drop("regression_labels"), r"'regression_labels': found only"),
    "misspelt": (misspell, r"Did you mean 'visual'\?"),
    "rank 2": (change(audio=np.ones((3, 5))), r"found shape \(3, 5\), expected .*\(3, steps, columns\)"),
    "rank 4": (change(vision=np.ones((3, 2, 2, 2))), r"key 'vision': found shape \(3, 2, 2, 2\)"),
    "no steps": (change(vision=np.ones((3, 0, 3))), r"key 'vision': found shape \(3, 0, 3\)"),
    "too few audio": (cut("audio"), r"key 'audio': found shape \(2, 9, 5\), .*as many clips as 'id'"),
    "too few labels": (
        cut("regression_labels"),
        r"'regression_labels': found float32 \(2,\), expected 3 numbers",
    ),
    "too few lengths": (cut("audio_lengths"), r"'audio_lengths': found 2 values, expected 3 numbers"),
    "too few texts": (cut("raw_text"), r"'raw_text': found 2 texts, expected 3"),
    "too few ids": (cut("id"), r"'text': found shape \(3, 6, 4\), expected .*\(2, steps"),
    "too few classes": (cut("classification_labels"), r"'classification_labels': found float32 \(2,\)"),
    "empty split": (empty, r"key 'id': found no clips"),
    "other width": (change(audio=np.ones((3, 9, 4))), r"'audio': found 4 columns, expected 5 as in 'train'"),
    "text features": (
        change(audio=np.full((3, 9, 5), "x")),
        r"'audio': found an array of <U1, expected numbers",
    ),
    "complex": (
        change(audio=np.ones((3, 9, 5), complex)),
        r"'audio': found an array of complex128, expected",
    ),
    "objects": (
        change(audio=np.ones((3, 9, 5), object)),
        r"'audio': found an array of object, expected numbers",
    ),
    "ragged": (
        change(audio=[np.ones((n, 5)) for n in (2, 3, 4)]),
        r"'audio': found clips of unequal shapes.*pad",
    ),
    "nested lists": (
        change(audio=np.ones((3, 9, 5)).tolist()),
        r"found a value of type list, expected numbers",
    ),
    "a number": (change(audio=3), r"'audio': found a value of type int"),
    "nothing": (change(audio=None), r"'audio': found something else"),
    "empty list": (change(audio=[]), r"'audio': found shape \(0,\)"),
    "object labels": (
        change(regression_labels=np.array([1, "good", 2], object)),
        r"'regression_labels': found a value of type str at position 1, .* NumPy array of numbers\.",
    ),
    "text array labels": (
        change(regression_labels=np.array(["1", "2", "3"])),
        r"'regression_labels': found <U1 \(3,\), expected 3 numbers, .* save it as a NumPy array of numbers",
    ),
    "text labels": (change(regression_labels=["a", "b", "c"]), r"type str at position 0, expected 3 numbers"),
    "wide labels": (
        change(regression_labels=np.ones((3, 2))),
        r"'regression_labels': found float64 \(3, 2\), .*keep one number a clip",
    ),
    "huge labels": (change(regression_labels=[2**80] * 3), r"type int at position 0"),
    "nan label": (
        nan_label,
        r"'regression_labels': found nan for clip 'valid2\$_\$1', expected a finite score",
    ),
    "too few unimodal": (
        change(regression_labels_T=[0.0]),
        r"'regression_labels_T': found 1 values, expected 3 numbers",
    ),
    "negative length": (
        change(vision_lengths=[1, -1, 2]),
        r"found -1.0 for clip 'valid1\$_\$1'.*correct the length",
    ),
    "half length": (change(vision_lengths=[1, 1.5, 2]), r"'vision_lengths': found 1.5"),
    "nan length": (change(vision_lengths=[1, np.nan, 2]), r"'vision_lengths': found nan"),
    "infinite length": (change(vision_lengths=[1, np.inf, 2]), r"'vision_lengths': found inf"),
    "hole in mask": (hole, r"'text_bert': found holes in the mask of clip 'valid1\$_\$1'"),
    "token shape": (
        change(text_bert=np.ones((3, 6, 3))),
        r"found shape \(3, 6, 3\), expected shape \(3, 3, 6\)",
    ),
    "odd tokens": (change(text_bert=np.full((3, 3, 6), 0.5)), r"'text_bert': found other numbers"),
    "odd mask": (change(text_bert=np.full((3, 3, 6), 2)), r"'text_bert': found other numbers"),
    "no tokens": (
        drop("text_bert"),
        r"the splits 'train' and 'valid' must both have 'text_bert', or neither",
    ),
    "no raw text": (drop("raw_text"), r"must both have 'raw_text', or neither"),
    "fractions as ids": (change(id=np.ones(3)), r"'id': found float64 \(3,\), expected one text for every"),
    "mixed ids": (
        change(id=["a", 3.5, "c"]),
        r"'id': found a value of type float at position 1, expected only texts",
    ),
    "truths as ids": (change(id=[True, False, True]), r"'id': found a value of type bool at position 0"),
    "number texts": (change(raw_text=np.arange(3)), r"'raw_text': found int64 \(3,\), expected one text"),
    "masked labels": (
        change(regression_labels=np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])),
        r"'regression_labels': found nan for clip 'valid1\$_\$1', expected a finite score",
    ),
    "masked ids": (change(id=np.ma.array([1, 2, 3], mask=[0, 1, 0])), "masked array of int64 hides values"),
    "path ids": (
        change(id=[pathlib.PurePosixPath("a"), "b", "c"]),
        r"'id': found a pathlib object \(PurePosixPath\) at position 0, .* \(str\(path\)\)\.",
    ),
    "date ids": (
        change(id=[datetime.date(2020, 1, 1), "b", "c"]),
        r"'id': found a datetime object \(date\) at position 0, .* \(str\(date\)\)\.",
    ),
    "date labels": (
        change(regression_labels=np.array(["2020", "2021", "2022"], "M8[Y]")),
        r"'regression_labels': found datetime64 \(3,\), expected 3 numbers",
    ),
    "set of ids": (change(id={1.5}), r"'id': found a value of type float at position 0"),
    "record features": (
        change(audio=np.ones((3, 9), [("a", "f4"), ("b", "f4")])),
        r"'audio': found an array of \|V8, expected numbers",
    ),
    "other bytes": (change(id=[b"a", b"\xff", b"c"]), r"'id': found a value of type bytes at position 1"),
    "id of lists": (change(id=np.array([["a"], ["b"], ["c"]])), r"'id': found <U1 \(3, 1\)"),
    "ids a text": (change(id="abc"), r"'id': found a value of type str"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(tmp_path, name):
    mistake, match = MISTAKES[name]
    data = feature_files.content()
    mistake(data)
    with pytest.raises(DataError, match=match) as caught:
        mmsa.read(feature_files.write(tmp_path / "data.pkl", data))
    message = str(caught.value)
    assert "data.pkl" in message
    assert "\n" not in message
    assert message[-1] in ".?"
    assert len(message) < 500


def test_other_contents(tmp_path):
    for content in ([1], {"text": np.ones((6, 4))}, {}, None, "train"):
        with pytest.raises(DataError, match="must hold a dict of the splits"):
            mmsa.read(feature_files.write(tmp_path / "data.pkl", content))


def test_a_table_of_pandas_is_named_with_the_way_out(tmp_path):
    data = feature_files.content()
    data["valid"]["audio"] = datetime.date(2020, 1, 1)
    path = feature_files.write(tmp_path / "data.pkl", data, protocol=2)
    path.write_bytes(path.read_bytes().replace(b"cdatetime\ndate\n", b"cpandas\nDataFrame\n"))
    with pytest.raises(
        DataError, match=r"split 'valid', key 'audio': found a pandas object \(DataFrame\), "
    ) as e:
        mmsa.read(path)
    assert str(e.value).endswith("save its values as a NumPy array (.to_numpy()).")


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    """One array or text that is named again and again takes a few bytes each time."""
    clips = 20_000
    clip = np.ones((100, 100), np.float32)  # 800 MB if all were its own
    part = {
        "id": ["clip"] * clips,
        "text": [clip] * clips,
        "audio": [clip] * clips,
        "vision": [clip] * clips,
        "regression_labels": [0.0] * clips,
    }
    path = feature_files.write(tmp_path / "bomb.pkl", dict.fromkeys(("train", "valid", "test"), part))
    assert path.stat().st_size < 1_000_000
    with grows_by_at_most(60e6), pytest.raises(DataError, match="'text': found the same array again"):
        mmsa.read(path)
    for text in ("x" * 100_000, "x" * 2000):  # in the file and in memory
        part["id"] = [text] * clips
        feature_files.write(path, dict.fromkeys(("train", "valid", "test"), part))
        match = rf"'id': found a text of {len(text)} characters, expected short"
        with grows_by_at_most(300e6), pytest.raises(DataError, match=match):
            mmsa.read(path)


def test_a_wide_label_list_is_not_unfolded(tmp_path):
    """Lists of lists of the same list: ten levels stand for 10**10 numbers."""
    bomb: list = [0.0] * 10
    for _ in range(9):
        bomb = [bomb] * 10
    data = feature_files.content()
    loop: list = []
    loop.append(loop)
    keys = ("regression_labels", "audio", "text_bert", "audio_lengths", "id")
    for key, value in itertools.product(keys, (bomb, [loop] * 3)):
        broken = {**data, "valid": {**data["valid"], key: value}}
        with pytest.raises(DataError, match=f"key '{key}'"):
            mmsa.read(feature_files.write(tmp_path / "bomb.pkl", broken))
