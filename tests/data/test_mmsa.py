"""What a usable feature file is read as."""

import csv
import datetime
import pathlib
import pickle
import subprocess
import sys

import feature_files
import numpy as np
import pytest
from feature_files import STEPS, WIDTHS

from msa_jax.data import clean, mmsa

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "loader_a.npz"


def same_split(split, part):
    """Compares a split with the values that were pickled."""
    assert split.ids.tolist() == list(part["id"])
    assert split.raw_text.tolist() == list(part["raw_text"])
    for m in STEPS:
        assert split.values[m].dtype == np.float32
        np.testing.assert_array_equal(split.values[m], np.asarray(part[m], np.float32))
        assert split.lengths[m].dtype == np.int32
    np.testing.assert_array_equal(split.tokens, part["text_bert"])
    np.testing.assert_array_equal(split.lengths["text"], np.asarray(part["text_bert"])[:, 1].sum(1))
    np.testing.assert_array_equal(split.lengths["audio"], part["audio_lengths"])
    np.testing.assert_array_equal(split.lengths["vision"], np.ravel(part["vision_lengths"]))
    np.testing.assert_array_equal(split.labels["M"], np.asarray(part["regression_labels"]).reshape(-1))
    np.testing.assert_array_equal(split.classes["M"], part["classification_labels"])


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_was_written(read, data, protocol):
    splits, notes = read(data, protocol)
    assert list(splits) == ["train", "valid", "test"]
    assert notes == []
    for name, split in splits.items():
        assert len(split) == feature_files.COUNTS[name]
        assert set(split.labels) == {"M"}
        same_split(split, data[name])


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i2", "u1", "?"])
def test_any_numeric_type(read, data, dtype):
    for part in data.values():
        for key in ("text", "audio", "vision", "regression_labels"):
            part[key] = np.abs(part[key]).astype(dtype)
        part["text_bert"] = part["text_bert"].astype("i8")
        part["audio_lengths"] = np.array(part["audio_lengths"], "u1")
    splits, _ = read(data)
    for name, split in splits.items():
        same_split(split, data[name])


def test_lists_and_columns_of_everything(read, data):
    for part in data.values():
        for m in STEPS:
            part[m] = list(part[m])
        part["regression_labels"] = [[float(x)] for x in part["regression_labels"]]
        part["classification_labels"] = list(part["classification_labels"])  # NumPy scalars
        part["vision_lengths"] = np.array(part["vision_lengths"])[:, None]
        part["id"] = np.array(part["id"], object)
        part["raw_text"] = [text.encode() for text in part["raw_text"]]
    data["config"] = {"audio": {"tool": "librosa"}, 3: [None]}
    splits, _ = read(data)
    for name, split in splits.items():
        data[name]["raw_text"] = [text.decode() for text in data[name]["raw_text"]]
        same_split(split, data[name])


@pytest.mark.parametrize("make", [np.array, lambda x: np.array(x, object), lambda x: [np.str_(s) for s in x]])
def test_ids_of_any_string_type(read, data, make):
    expected = {name: part["id"] for name, part in data.items()}
    for part in data.values():
        part["id"] = make(part["id"])
    splits, _ = read(data, 2)
    assert {name: split.ids.tolist() for name, split in splits.items()} == expected
    assert all(split.ids.dtype.kind == "U" for split in splits.values())


def test_byte_ids(read, data):
    for part in data.values():
        part["id"] = np.array(part["id"], "S")
    splits, _ = read(data)
    assert splits["train"].ids[0] == "train0$_$1"


def test_very_long_text_and_empty_text(read, data):
    data["train"]["raw_text"][1:3] = ["", "wort " * 3000]
    for protocol in (2, 4):
        splits, _ = read(data, protocol)
        assert splits["train"].raw_text.tolist() == data["train"]["raw_text"]


def test_unimodal_labels(read):
    data = feature_files.content(unimodal=True)
    splits, _ = read(data)
    for name, split in splits.items():
        assert list(split.labels) == ["M", "T", "A", "V"]
        for task in "TAV":
            np.testing.assert_array_equal(split.labels[task], data[name][f"regression_labels_{task}"])


def test_optional_keys_may_be_absent(read, data):
    for part in data.values():
        for key in ("raw_text", "annotations", "text_bert", "classification_labels"):
            del part[key]
    split = read(data)[0]["train"]
    assert (split.raw_text, split.tokens, split.classes) == (None, None, {})
    used = (data["train"]["text"] != 0).any(2)
    np.testing.assert_array_equal(split.lengths["text"], used.sum(1))


def test_large_features_stay_in_the_file(read, data):
    for part in data.values():
        part["audio"] = np.ones((len(part["id"]), 9, 400), np.float32)
    audio = read(data)[0]["train"].values["audio"]
    assert isinstance(audio, np.memmap)
    assert not audio.flags.writeable


def aligned(data):
    rng = np.random.default_rng(1)
    for part in data.values():
        mask = part["text_bert"][:, 1]
        for m in ("audio", "vision"):
            part[m] = rng.normal(size=(*mask.shape, WIDTHS[m])) * mask[:, :, None]
            part[m][:, 0] = 0  # a silent first word is a real step
            del part[f"{m}_lengths"]
    return data


def test_aligned_files_take_the_lengths_of_the_text(read, data):
    data = aligned(data)
    for part in data.values():
        part["audio"][0] = 0  # a silent clip
    for name, split in read(data)[0].items():
        expected = data[name]["text_bert"][:, 1].sum(1)
        for m in STEPS:
            np.testing.assert_array_equal(split.lengths[m], expected)


def test_lengths_without_any_word_of_them(read, data):
    """Not aligned and no stored lengths: up to the last step that holds something."""
    for part in data.values():
        del part["audio_lengths"], part["vision_lengths"]
        part["audio"] = np.zeros((len(part["id"]), 8, 2))
        part["audio"][0, :3] = 1
        part["audio"][1, 7] = np.nan
        part["vision"] = np.zeros((len(part["id"]), 1, 100))  # an absent modality
    for split in read(data)[0].values():
        assert split.lengths["audio"].tolist() == [3, 8] + [0] * (len(split) - 2)
        assert split.lengths["vision"].tolist() == [1] * len(split)


def test_padding_in_front_is_moved_behind(read, data):
    expected, _ = read(data)
    for part in data.values():
        for m in STEPS:
            lengths = part["text_bert"][:, 1].sum(1) if m == "text" else part[f"{m}_lengths"]
            for row, length in enumerate(np.asarray(lengths, int)):
                part[m][row] = np.roll(part[m][row], STEPS[m] - length, axis=0)
                if m == "text":
                    part["text_bert"][row] = np.roll(part["text_bert"][row], STEPS[m] - length, axis=1)
    splits, notes = read(data)
    assert any("train audio: the padding in front" in note for note in notes)
    for name, split in splits.items():
        np.testing.assert_array_equal(split.tokens, expected[name].tokens)
        for m in STEPS:
            np.testing.assert_array_equal(split.values[m], expected[name].values[m])
            np.testing.assert_array_equal(split.lengths[m], expected[name].lengths[m])


def test_aligned_padding_in_front_moves_all_modalities(read, data):
    data = aligned(data)
    expected, _ = read(data)
    for part in data.values():
        for row, length in enumerate(part["text_bert"][:, 1].sum(1).astype(int)):
            for m in STEPS:
                part[m][row] = np.roll(part[m][row], STEPS["text"] - length, axis=0)
            part["text_bert"][row] = np.roll(part["text_bert"][row], STEPS["text"] - length, axis=1)
    for name, split in read(data)[0].items():
        for m in STEPS:
            np.testing.assert_array_equal(split.values[m], expected[name].values[m])


def test_lengths_over_the_steps_are_cut_and_noted(read, data):
    data["valid"]["audio_lengths"][1:] = [9, 12]
    splits, notes = read(data)
    assert splits["valid"].lengths["audio"][1:].tolist() == [9, 9]
    assert notes == ["valid audio_lengths: 1 lengths over 9 steps were cut to 9."]


def test_shorter_splits_are_padded(read, data):
    part = data["test"]
    part["text"], part["text_bert"] = part["text"][:, :5], part["text_bert"][:, :, :5]
    part["vision"] = part["vision"][:, :4]
    part["vision_lengths"] = np.minimum(part["vision_lengths"], 4)
    splits, notes = read(data)
    assert splits["test"].values["vision"].shape == (4, 7, 3)
    assert splits["test"].tokens.shape == (4, 3, 6)
    np.testing.assert_array_equal(splits["test"].values["text"][:, :5], part["text"])
    assert not splits["test"].values["text"][:, 5:].any()
    assert notes == ["test: padded to the longest split's steps."]


SHAPES = {
    "(N, 1, 1)": lambda x: x[:, None, None],
    "objects": lambda x: x.astype(object),
    "objects (N, 1)": lambda x: x.astype(object)[:, None],
    "lists in lists": lambda x: [[[float(y)]] for y in x],
    "arrays of one": lambda x: [np.array([[y]]) for y in x],
    "masked": np.ma.array,
    "memory map": None,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("protocol", range(6))
def test_labels_of_any_shape_with_one_number_a_clip(read, data, tmp_path, shape, protocol):
    expected = {name: part["regression_labels"] for name, part in data.items()}
    for name, part in data.items():
        for key in ("regression_labels", "classification_labels"):
            change = SHAPES[shape]
            part[key] = change(part[key]) if change else as_memmap(tmp_path / f"{name}_{key}", part[key])
    splits, notes = read(data, protocol)
    assert notes == []
    for name, split in splits.items():
        np.testing.assert_array_equal(split.labels["M"], expected[name])
        np.testing.assert_array_equal(split.classes["M"], np.sign(expected[name]) + 1)


def as_memmap(path: pathlib.Path, array: np.ndarray) -> np.ndarray:
    np.save(path.with_suffix(".npy"), array)
    return np.load(path.with_suffix(".npy"), mmap_mode="r")


@pytest.mark.parametrize("protocol", range(6))
def test_memory_mapped_and_masked_features(read, data, tmp_path, protocol):
    """What is masked is NaN, which the data set counts and reports as all NaN."""
    expected, _ = read(data)
    for name, part in data.items():
        part["audio"] = as_memmap(tmp_path / name, np.repeat(part["audio"], 60, axis=2))
        mask = np.zeros(part["vision"].shape, bool)
        mask[0, 0, 1] = True
        part["vision"] = np.ma.array(part["vision"], mask=mask)
    for name, split in read(data, protocol)[0].items():
        np.testing.assert_array_equal(split.values["audio"][:, :, ::60], expected[name].values["audio"])
        assert np.isnan(split.values["vision"][0, 0]).tolist() == [False, True, False]
        assert np.isnan(split.values["vision"]).sum() == 1


def test_whole_numbers_as_ids(read, data):
    data["train"]["id"] = np.arange(5)
    data["valid"]["id"] = [7, "b", np.int32(9)]
    splits, _ = read(data)
    assert splits["train"].ids.tolist() == ["0", "1", "2", "3", "4"]
    assert splits["valid"].ids.tolist() == ["7", "b", "9"]


LEFT_OUT = ", so the scores of single modalities are left out."


def test_partial_scores_of_single_modalities_are_left_out(read):
    data = feature_files.content(unimodal=True)
    for part in data.values():
        del part["regression_labels_A"]
    splits, notes = read(data)
    assert all(list(split.labels) == ["M"] for split in splits.values())
    assert notes[0] == "train: regression_labels_A are missing or not finite" + LEFT_OUT
    data = feature_files.content(unimodal=True)
    data["test"]["regression_labels_T"][1] = np.nan
    splits, notes = read(data)
    assert all(list(split.labels) == ["M"] for split in splits.values())
    assert notes == [
        "test: regression_labels_T are missing or not finite" + LEFT_OUT,
        "not all splits have scores of single modalities, so these are left out.",
    ]


def test_unread_keys_of_any_type_are_passed_over(read, data):
    for part in data.values():
        part["when"] = np.array(["2020", "2021"], "M8[D]")
        part["how long"] = [np.timedelta64(1, "s"), datetime.timedelta(1)]
        part["tags"], part["more tags"] = {"a", "b"}, frozenset({1, 2})
        part["record"] = np.zeros(2, [("x", "f4"), ("y", "i8")])
        part["where"] = pathlib.Path("a") / "b"
        part["complex"] = [1j, np.ones(2, complex)]
    for protocol in range(2, 6):
        splits, notes = read(data, protocol)
        assert notes == []
        assert len(splits["train"]) == 5


def test_non_finite_features_pass_unchanged(read, data):
    data["train"]["audio"][0, 0] = [np.nan, np.inf, -np.inf, 0, 1]
    splits, _ = read(data)
    np.testing.assert_array_equal(splits["train"].values["audio"], data["train"]["audio"])


def test_golden_loader(tmp_path):
    """The MMSA loader's own output for a file with NaN and infinities: raw, and as a mean over time."""
    golden = np.load(GOLDEN)
    part = {
        "id": [f"clip{i}" for i in range(4)],
        **{m: golden[f"in/{m}"].astype(np.float64) for m in STEPS},
        "regression_labels": golden["in/regression_labels"],
        "audio_lengths": golden["in/audio_lengths"],
        "vision_lengths": golden["in/vision_lengths"].tolist(),
    }
    path = tmp_path / "golden.pkl"
    path.write_bytes(pickle.dumps(dict.fromkeys(("train", "valid", "test"), part)))
    split = mmsa.read(path)[0]["test"]
    np.testing.assert_array_equal(split.labels["M"], golden["out/raw/labels"])
    for m in STEPS:
        raw = clean.as_mmsa(split.values[m], m)
        np.testing.assert_array_equal(raw, golden[f"out/raw/{m}"])
        if m != "text":  # the loader leaves the text's steps
            mean, expected = clean.time_mean(raw, split.lengths[m], compat=True), golden[f"out/mean/{m}"]
            np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.isnan(golden["out/raw/vision"]).any()


@pytest.mark.parametrize("which", ["official", "video"])
def test_real_mosi(shared_data, tmp_path, which):
    """CMU-MOSI as an MMSA pickle; its labels and ids are compared with the published table."""
    tool = shared_data.parent / "tools" / "make_mosi_pickle.py"
    path = tmp_path / "mosi.pkl"
    subprocess.run([sys.executable, tool, path, "--split", which], check=True, capture_output=True)
    splits, notes = mmsa.read(path)
    assert notes == []
    counts = {"official": (1284, 229, 686), "video": (1228, 219, 752)}[which]
    assert tuple(len(split) for split in splits.values()) == counts
    with open(shared_data / "mosi" / "mosi_label.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    published = {row["id"]: float(row["label"]) for row in rows}
    for split in splits.values():
        assert split.values["text"].shape[1:] == (50, 384)
        assert set(split.lengths["audio"].tolist()) == set(split.lengths["vision"].tolist()) == {1}
        assert split.tokens is not None
        np.testing.assert_array_equal(split.lengths["text"], split.tokens[:, 1].sum(1))
        for clip, label in zip(split.ids, split.labels["M"], strict=True):
            assert published[clip.replace("$_$", "_")] == pytest.approx(label, abs=1e-6)
