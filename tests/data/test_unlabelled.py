"""Clips to score: every form that they come in, and what is refused."""

import pathlib

import feature_files
import numpy as np
import pytest

from msa_jax.data import store, unlabelled
from msa_jax.data.opening import open_dataset
from msa_jax.errors import DataError


def read(path: pathlib.Path, data, *args, **options):
    return unlabelled.read(feature_files.write(path / "data.pkl", data), *args, **options)


def one_clip(part, row):
    """A clip of its real steps, without an axis for clips."""
    steps = {"text": int(part["text_bert"][row, 1].sum())}
    steps |= {m: part[f"{m}_lengths"][row] for m in ("audio", "vision")}
    return {m: part[m][row, :n] for m, n in steps.items()}


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("test",), ("train", "valid")])
def test_splits_without_labels(tmp_path, names):
    data = feature_files.content()
    for part in data.values():
        part["regression_labels"] = ["no", "labels"]
        del part["classification_labels"]
    splits, notes = read(tmp_path, {name: data[name] for name in names} | {"config": {}})
    assert notes == []
    assert tuple(splits) == names
    for name in names:
        assert splits[name].labels == {}
        assert splits[name].ids.tolist() == data[name]["id"]
        np.testing.assert_array_equal(splits[name].lengths["vision"], data[name]["vision_lengths"])
        np.testing.assert_array_equal(splits[name].values["audio"], data[name]["audio"])
        assert splits[name].raw_text is not None
        assert splits[name].tokens is not None


def test_what_the_layout_asks_of_a_split_holds_without_a_split_around_it(tmp_path):
    part = feature_files.content()["test"]
    splits, _ = read(tmp_path, part)
    whole, _ = read(tmp_path, {"test": part}, "test")
    assert list(splits) == [""]
    for m in feature_files.STEPS:
        np.testing.assert_array_equal(splits[""].values[m], whole["test"].values[m])
        np.testing.assert_array_equal(splits[""].lengths[m], whole["test"].lengths[m])
    part["audio_lengths"] = [99, 1, 2, 3]
    assert read(tmp_path, part)[1] == ["audio_lengths: 1 lengths over 9 steps were cut to 9."]


def test_one_clip(tmp_path):
    part = feature_files.content()["test"]
    clip = one_clip(part, 1)
    split = read(tmp_path, clip)[0][""]
    assert split.ids.tolist() == ["data"]
    for m, values in clip.items():
        np.testing.assert_array_equal(split.values[m], values[None])
        assert split.lengths[m] == len(values)
    more = {"id": "mine", "raw_text": "so it goes", "text_bert": part["text_bert"][1], "audio_lengths": 2}
    more |= {"text": part["text"][1], "vision_lengths": np.array([1]), "regression_labels": "none"}
    split = read(tmp_path, clip | more)[0][""]
    assert (split.ids.tolist(), split.raw_text.tolist()) == (["mine"], ["so it goes"])  # type: ignore
    np.testing.assert_array_equal(split.tokens, part["text_bert"][None, 1])
    assert {m: int(n[0]) for m, n in split.lengths.items()} == {
        "text": part["text_bert"][1, 1].sum(),
        "audio": 2,
        "vision": 1,
    }


@pytest.mark.parametrize("more", [{}, {"audio_lengths": 0}, {"vision_lengths": 1}])
def test_a_clip_without_frames_has_length_0(tmp_path, more):
    clip = one_clip(feature_files.content()["test"], 1)
    full = read(tmp_path, clip)[0][""]
    split = read(tmp_path, clip | {"audio": clip["audio"][:0]} | more)[0][""]
    assert split.lengths["audio"].tolist() == [0]
    assert split.values["audio"].shape == (1, 1, 5)
    assert split.lengths["vision"].tolist() == [more.get("vision_lengths", full.lengths["vision"][0])]
    for m in ("text", "vision"):
        np.testing.assert_array_equal(split.values[m], full.values[m])


def test_text_features_are_not_needed_where_the_model_encodes_text(tmp_path):
    part = feature_files.content()["test"]
    steps = part["text_bert"].shape[2]
    del part["text"]
    with pytest.raises(DataError, match="key 'text': found only"):
        read(tmp_path, part)
    split = read(tmp_path, part, needs_text=False)[0][""]
    assert split.values["text"].shape == (4, steps, 0)
    np.testing.assert_array_equal(split.lengths["text"], part["text_bert"][:, 1].sum(axis=1))
    sound = {m: part[m][0] for m in ("audio", "vision")}
    split = read(tmp_path, sound | {"raw_text": "so it goes"}, needs_text=False)[0][""]
    assert split.raw_text.tolist() == ["so it goes"]  # type: ignore[union-attr]


def test_a_store_gives_what_its_pickle_gives(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    store.write(open_dataset(path), tmp_path / "store")
    pickled, stored = unlabelled.read(path, "valid")[0], unlabelled.read(tmp_path / "store", "valid")[0]
    assert list(pickled) == list(stored) == ["valid"]
    for m in feature_files.STEPS:
        np.testing.assert_array_equal(pickled["valid"].values[m], stored["valid"].values[m])
    with pytest.raises(DataError, match="is no store"):
        unlabelled.read(tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    data = feature_files.content()
    with pytest.raises(DataError, match="no split 'valid', only train, test; ask for"):
        read(tmp_path, {name: data[name] for name in ("train", "test")}, "valid")
    for nameless in (data["test"], one_clip(data["test"], 0)):
        with pytest.raises(DataError, match="no split 'valid', clips without splits"):
            read(tmp_path, nameless, "valid")


def test_a_broken_split_that_is_not_wanted_does_no_harm(tmp_path):
    data = feature_files.content()
    del data["train"]["audio"]
    assert list(read(tmp_path, data, "test")[0]) == ["test"]
    with pytest.raises(DataError, match="split 'train', key 'audio'"):
        read(tmp_path, data)


def test_broken_values_are_counted_in_real_steps(tmp_path):
    data = feature_files.content()
    data["test"]["audio_lengths"] = [9, 9, 9, 3]
    data["test"]["audio"][0, :2, 1] = [np.nan, -np.inf]
    data["test"]["audio"][1, 8, 0] = np.inf
    data["test"]["audio"][3, 4:] = np.nan
    data["valid"]["text"][0, 0, 0] = np.nan
    splits, _ = read(tmp_path, data)
    assert list(unlabelled.broken_values(splits, ("text", "audio", "vision"))) == [
        "valid text: 1 NaN and 0 infinite values in 1 columns",
        "test audio: 1 NaN and 2 infinite values in 2 columns",
    ]
    nameless, _ = read(tmp_path, data["valid"])
    assert list(unlabelled.broken_values(nameless, ("text",))) == [
        "text: 1 NaN and 0 infinite values in 1 columns"
    ]


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


MISTAKES = {
    "a missing key": (
        lambda d: {"test": without(d["test"], "vision") | {"video": d["test"]["vision"]}},
        r"split 'test', key 'vision': found only .*Did you mean 'video'\?$",
    ),
    "no clips": (lambda d: {"test": {k: v[:0] for k, v in d["test"].items()}}, "'id': found no clips"),
    "no splits": (lambda d: {"training": d["train"]}, "holds no clips: .* found 'training'; save"),
    "no dict": (lambda d: d["test"]["id"], "holds no clips: .* found nothing of the kind"),
    "an empty dict": (lambda _: {}, "holds no clips"),
    "numbers for names": (lambda _: {1: 2}, "holds no clips"),
    "a split of no dict": (lambda _: {"test": [1]}, "split 'test': found no dict"),
    "unequal clips": (
        lambda d: {**d["test"], "audio": d["test"]["audio"][1:]},
        r"data\.pkl, key 'audio': found shape \(3, 9, 5\), expected .* \(4, steps, columns\)",
    ),
    "vectors": (
        lambda d: {**d["test"], "audio": d["test"]["audio"][:, 0]},
        "key 'audio': .* a single vector is one step",
    ),
    "a clip with another name": (
        lambda d: without(one_clip(d["test"], 0), "vision") | {"video": d["test"]["vision"][0]},
        r"one clip, but no 'vision' of it; add it\. Did you mean 'video'\?",
    ),
    "a clip without sound": (lambda d: without(one_clip(d["test"], 0), "audio"), "key 'audio': found only"),
    "a clip of words": (lambda d: one_clip(d["test"], 0) | {"audio": "a"}, "key 'audio': found a value"),
    "clips without steps": (
        lambda d: {**d["test"], "audio": d["test"]["audio"][:, :0]},
        r"key 'audio': found shape \(4, 0, 5\)",
    ),
    "a clip without columns": (
        lambda d: one_clip(d["test"], 0) | {"audio": np.zeros((0, 0))},
        r"key 'audio': found shape \(1, 0, 0\)",
    ),
    "a clip with columns beyond all memory": (
        lambda d: one_clip(d["test"], 0) | {"audio": np.zeros((0, 2**40))},
        r"key 'audio': found shape \(1, 0, 1099511627776\)",
    ),
    "a clip with ids": (lambda d: one_clip(d["test"], 0) | {"id": ["a", "b"]}, "key 'text': found shape"),
    "a clip with an array of ids": (
        lambda d: one_clip(d["test"], 0) | {"id": np.array(["a", "b"])},
        "key 'text': found shape",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(tmp_path, mistake):
    change, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, change(feature_files.content()))
    assert "\n" not in str(error.value)


def test_hostile_damaged_and_absent_files(tmp_path):
    path = tmp_path / "data.pkl"
    with pytest.raises(DataError, match="there is no such file"):
        unlabelled.read(path)
    path.write_bytes(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.")
    with pytest.raises(DataError, match=r"call 'os\.system'"):
        unlabelled.read(path)
    whole = feature_files.write(path, feature_files.content()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        unlabelled.read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="an empty file"):
        unlabelled.read(path)
