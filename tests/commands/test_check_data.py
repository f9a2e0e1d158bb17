"""The check_data command: what it counts, what it warns of, and what it prints."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import feature_files
import numpy as np
import pytest

from msa_jax.commands import check_data, convert
from msa_jax.data import inspection, store
from msa_jax.data.opening import open_dataset
from msa_jax.errors import ConfigError, DataError


def sims_content():
    """Small clips with CH-SIMS's columns, and faults in columns that have a name."""
    data = feature_files.content(unimodal=True)
    rng = np.random.default_rng(0)
    for part in data.values():
        count = len(part["id"])
        part["audio"] = rng.normal(size=(count, 9, 33)).astype(np.float32)
        part["vision"] = rng.normal(size=(count, 7, 709)).astype(np.float32)
        part["regression_labels"] = np.round(rng.uniform(-1, 1, count) * 5) / 5
        part["vision"][:, :, 708] = 0
    train = data["train"]
    train["audio"][0, 0, [0, 1, 1]] = [np.nan, np.inf, np.inf]
    train["audio_lengths"] = [9, 9, 9, 0, 9]
    train["audio"][1, :2, 21] = np.nan
    return data


@pytest.fixture
def report(tmp_path):
    return inspection.check(feature_files.write(tmp_path / "sims.pkl", sims_content()))


def test_faults_are_counted_and_named(report):
    train = report["splits"]["train"]["modalities"]
    assert (train["audio"]["nan"], train["audio"]["infinite"]) == (3, 1)
    assert train["vision"]["constant_columns"] == ["AU45_c"]
    groups = train["audio"]["groups"]
    assert {name: group["nan"] for name, group in groups.items()} == {"ZCR": 1, "MFCC": 0, "CQT": 2}
    assert {name: group["infinite"] for name, group in groups.items()} == {"ZCR": 0, "MFCC": 1, "CQT": 0}
    assert train["vision"]["groups"]["AU"]["constant"] == 1
    assert groups["CQT"]["columns"] == report["groups"]["audio"]["CQT"] == "21-32"
    assert "train audio: 3 NaN, in CQT_0 (2), ZCR (1); they count as 0." in report["warnings"]
    assert "train audio: 1 infinite values, in MFCC_0 (1); they count as 0." in report["warnings"]
    assert "test vision: constant in all clips: AU45_c." in report["warnings"]
    assert "train audio: 1 clips have no real step." in report["warnings"]


def test_shapes_lengths_and_labels(report):
    data = sims_content()
    assert (report["name"], report["kind"], report["metrics"]) == ("sims", "pickle", "sims")
    assert report["tasks"] == ["M", "T", "A", "V"]
    for name, split in report["splits"].items():
        part = data[name]
        assert split["clips"] == len(part["id"])
        assert split["modalities"]["vision"]["shape"] == list(part["vision"].shape)
        assert split["modalities"]["vision"]["lengths"][::4] == [
            min(part["vision_lengths"]),
            max(part["vision_lengths"]),
        ]
        histogram = split["labels"]["M"]["histogram"]
        assert list(histogram) == ["-1", "-0.8", "-0.6", "-0.4", "-0.2", "0", "0.2", "0.4", "0.6", "0.8", "1"]
        expected = {f"{score:.3g}": 0 for score in np.arange(-5, 6) / 5}
        for score in part["regression_labels"]:
            expected[f"{score + 0.0:.3g}"] += 1
        assert histogram == expected


def test_classes_and_scores_without_a_sign(tmp_path, capsys):
    data = feature_files.content()
    for part in data.values():
        part["regression_labels"] = part["regression_labels"] + 4
        part["classification_labels"] = np.resize(["sad", "glad"], len(part["id"]))
    path = feature_files.write(tmp_path / "data.pkl", data)
    report = inspection.check(path)
    assert (report["metrics"], report["class_names"]) == ("plain", ["glad", "sad"])
    assert report["splits"]["train"]["classes"] == {"M": {"glad": 2, "sad": 3}}
    store.write(open_dataset(path), tmp_path / "store")
    assert inspection.check(tmp_path / "store")["splits"] == report["splits"]
    assert check_data.main([str(path)]) == 0
    assert "glad  sad" in capsys.readouterr().out
    opened = open_dataset(path)
    mosi = dataclasses.replace(opened, spec=dataclasses.replace(opened.spec, metrics="mosi"))
    store.write(mosi, tmp_path / "mosi")
    assert check_data.main([str(tmp_path / "mosi")]) == 0
    assert (
        "note: scores from 2 to 7 have no negative and positive side, so acc2_has0" in capsys.readouterr().out
    )


@pytest.mark.parametrize(("audio", "vision"), [(33, 709), (74, 35), (5, 20)])
def test_own_data_of_public_widths(tmp_path, capsys, audio, vision):
    """Labels that a public set can't have were an error; now nothing is taken from that set."""
    data = feature_files.content()
    for part in data.values():
        count = len(part["id"])
        part["audio"], part["vision"] = np.ones((count, 9, audio)), np.ones((count, 7, vision))
        part["regression_labels"] = np.linspace(-9, 9, count)
        del part["classification_labels"]
    path = feature_files.write(tmp_path / "mine.pkl", data)
    report = inspection.check(path)
    assert (report["name"], report["label_range"]) == ("mine", [-9.0, 9.0])
    assert "but labels of -9 to 9 are not its own" in report["notes"][0]
    assert report["groups"] == {"text": {}, "audio": {}, "vision": {}}
    assert report["splits"]["train"]["modalities"]["audio"]["constant_columns"][0] == "column 0"
    assert check_data.main([str(path)]) == 0
    assert convert.main([str(path), str(tmp_path / "store")]) == 0
    assert "are not its own" in capsys.readouterr().out
    assert store.read(tmp_path / "store").spec.name == "mine"


def test_a_clean_file_has_no_warnings(tmp_path):
    report = inspection.check(feature_files.write(tmp_path / "clean.pkl", feature_files.content()))
    assert report["warnings"] == report["notes"] == []
    assert report["public_file"] is None
    assert list(report["splits"]["train"]["labels"]["M"]["histogram"]) == [
        "-3",
        "-2",
        "-1",
        "0",
        "1",
        "2",
        "3",
    ]


def test_repeated_clips(tmp_path):
    data = feature_files.content()
    data["test"]["id"][:2] = [data["train"]["id"][0], data["train"]["id"][3]]
    data["valid"]["id"] = ["a", "a", "b"]
    report = inspection.check(feature_files.write(tmp_path / "leak.pkl", data))
    assert report["warnings"] == [
        "valid: 1 ids occur more than once: 'a'.",
        "LEAK: 2 clips are in train and in test: 'train0$_$1', 'train3$_$1'; "
        "scores on such a split are worthless.",
    ]


def test_public_files_are_recognised_by_their_sum(tmp_path, monkeypatch):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(inspection.PUBLIC_FILES, digest, "the test file")
    report = inspection.check(path)
    assert (report["sha256"], report["public_file"]) == (digest, "the test file")
    assert len({*inspection.PUBLIC_FILES} - {digest}) == 5
    assert all(len(known) == 64 and int(known, 16) for known in inspection.PUBLIC_FILES)


def test_a_store_gives_the_report_of_its_pickle(tmp_path, report):
    store.write(open_dataset(tmp_path / "sims.pkl"), tmp_path / "store")
    again = inspection.check(tmp_path / "store")
    for key in ("path", "kind", "sha256", "public_file"):
        report.pop(key)
        again.pop(key, None)
    assert again == report
    (tmp_path / "store" / "train.values.text.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.values\.text\.npy has 0 bytes"):
        inspection.check(tmp_path / "store")


def test_other_groups_than_the_public_ones_hide_the_public_names(tmp_path):
    dataset = open_dataset(feature_files.write(tmp_path / "sims.pkl", sims_content()))
    store.write(dataset, tmp_path / "store")
    spec = json.loads((tmp_path / "store" / "spec.json").read_text())
    spec["modalities"]["audio"]["groups"] = {"CQT": "0-11", "MFCC": "12-31"}
    modified = type(dataset.spec).from_json(json.dumps(spec))
    other = type(dataset)(modified, dataset.splits)
    store.write(other, tmp_path / "other")
    warnings = inspection.check(tmp_path / "other")["warnings"]
    assert "train audio: 3 NaN, in MFCC (column 21) (2), CQT (column 0) (1); they count as 0." in warnings


@pytest.mark.parametrize("unimodal", [False, True])
def test_tables_and_json(tmp_path, unimodal):
    data = sims_content() if unimodal else feature_files.content()
    path = feature_files.write(tmp_path / "data.pkl", data)
    words = [sys.executable, "-W", "error", "-m", "msa_jax", "check-data", str(path)]
    tables = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (tables.returncode, tables.stderr) == (0, "")
    assert "none of the five public files" in tables.stdout
    assert ("warning: train audio: 3 NaN" in tables.stdout) is unimodal
    assert ("nothing suspicious found" in tables.stdout) is not unimodal
    assert ("HeadPose" in tables.stdout) is unimodal
    printed = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(printed.stdout) == inspection.check(path)
    assert (printed.returncode, printed.stderr) == (0, "")


def test_unusable_data_are_one_sentence(tmp_path):
    words = [sys.executable, "-m", "msa_jax", "check-data", str(tmp_path / "none.pkl")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none.pkl'}: there is no such file.\n"


def test_real_mosi(shared_data, tmp_path, capsys):
    """CMU-MOSI's official split with its vision absent: the report says so."""
    path = tmp_path / "mosi.pkl"
    tool = shared_data.parent / "tools" / "make_mosi_pickle.py"
    subprocess.run([sys.executable, tool, path], check=True, capture_output=True)
    assert check_data.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "warning: train vision: all columns are constant; the modality says nothing." in printed
    assert "LEAK" not in printed


def speakers():
    """One block of clips of four speakers, five of each."""
    part = feature_files.section(np.random.default_rng(0), "x", 20)
    return part | {"speaker": [k // 5 for k in range(20)], "regression_labels": np.arange(20) / 10}


@pytest.mark.parametrize("folds", [0, 4])
def test_a_division_is_shown(tmp_path, capsys, folds):
    path = feature_files.write(tmp_path / "data.pkl", speakers())
    words = [str(path), "--split=by_group", "--group=speaker", *[f"--folds={folds}"] * bool(folds)]
    assert check_data.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    division = report["division"]
    assert (division["groups"], division["crossing"], division["folds"]) == (4, 0, folds)
    assert len(division["parts"]) == 3 * (folds or 1)
    for name, split in report["splits"].items():
        (part, *_) = [part for part in division["parts"] if part["split"] == name]
        assert part["clips"] == split["clips"] == 5 * part["groups"]
        assert part["label_mean"]["M"] == pytest.approx(split["labels"]["M"]["mean"])
    if folds:
        tested = [part for part in division["parts"] if part["split"] == "test"]
        assert [(part["fold"], part["groups"]) for part in tested] == [(k, 1) for k in range(4)]
        assert sorted(round(part["label_mean"]["M"], 3) for part in tested) == [0.2, 0.7, 1.2, 1.7]
    assert check_data.main(words) == 0
    shown = capsys.readouterr().out
    assert "4 groups by speaker" in shown
    assert "groups that lie in two splits: none" in shown
    assert ("fold" in shown.split("4 groups by speaker")[1].split("note:")[0]) == bool(folds)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--group=speaker"], "--group=speaker is of divided clips; add --split=by_group"),
        (["--folds=5"], "--folds=5 is of divided clips"),
        (["--split=by_group", "--folds=1"], "--folds=1 must be at least 2"),
        (["--split=by_group", "--group=a/b"], "names no column"),
    ],
)
def test_arguments_that_do_not_go_together(tmp_path, flags, says):
    with pytest.raises(ConfigError, match=says):
        check_data.main([str(tmp_path / "none.pkl"), *flags])
