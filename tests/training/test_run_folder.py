"""The run folder: whole files, readable contents, and no second run in the same place."""

import csv
import json
import os
import pathlib
import sys

import numpy as np
import pytest
from toy import toy_spec, toy_split

from msa_jax.configuration import load
from msa_jax.errors import RunError
from msa_jax.files import write_whole
from msa_jax.training.run_folder import RunFolder

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")


def test_claiming_twice_with_the_same_settings_is_a_resume(tmp_path):
    for _ in range(2):
        RunFolder(tmp_path / "run").claim(load(CONFIG), toy_spec(), toy_spec())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["name"] == "mosi"


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(load(CONFIG), toy_spec(), toy_spec())
    (folder.path / "checkpoints" / "1").mkdir(parents=True)
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"train\.seed: 1111 -> 3"):
        folder.claim(load(CONFIG, ["train.seed=3"]), toy_spec(), toy_spec())
    assert (folder.path / "config.json").read_bytes() == before


def test_another_data_set_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(load(CONFIG), toy_spec(), toy_spec())
    (folder.path / "best").mkdir()
    other = type(toy_spec())(**{**vars(toy_spec()), "counts": {"train": 3}})
    with pytest.raises(RunError, match=r"another spec\.json"):
        folder.claim(load(CONFIG), other, other)


def test_what_has_not_trained_can_be_claimed_anew(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(load(CONFIG), toy_spec(), toy_spec())
    folder.claim(load(CONFIG, ["train.learning_rate=0.5"]), toy_spec(), toy_spec())
    assert json.loads((folder.path / "config.json").read_text())["train"]["learning_rate"] == 0.5


@pytest.mark.parametrize("name", ["config.json", "spec.json"])
@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_record_that_is_damaged_is_one_sentence(tmp_path, name, text):
    folder = RunFolder(tmp_path / "run")
    folder.claim(load(CONFIG), toy_spec(), toy_spec())
    (folder.path / "checkpoints" / "1").mkdir(parents=True)
    (folder.path / name).write_text(text)
    with pytest.raises(RunError, match=rf"{name} cannot be read .*another --workdir"):
        folder.claim(load(CONFIG), toy_spec(), toy_spec())


def test_numbers_that_are_not_finite_are_null(tmp_path):
    """Strict JSON has no NaN: browsers, jq and most languages refuse a file that has."""
    folder = RunFolder(tmp_path)
    scores = {"mae": 0.5, "corr": float("nan"), "loss": np.float64("inf"), "rows": [(1, float("-inf"))]}
    folder.write_result({"test": scores, "best_epoch": 1})
    folder.write_history([{"epoch": 1, "valid": scores}])

    def refuse(word):
        raise AssertionError(word)

    for name in ("result.json", "metrics.jsonl"):
        read = json.loads((tmp_path / name).read_text(), parse_constant=refuse)
        found = read.get("test") or read["valid"]
        assert found == {"mae": 0.5, "corr": None, "loss": None, "rows": [[1, None]]}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    refused = pytest.raises(RunError, match=r"another process trains in .* choose another --workdir")
    with first.held(), refused, second.held():
        pytest.fail("both hold it")
    with second.held():
        pass


def test_a_lock_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(RunError, match=r"cannot write .*lock: .*; choose another"),
        RunFolder(tmp_path).held(),
    ):
        pytest.fail("held without a lock")


def test_predictions_read_back_exactly(tmp_path):
    folder = RunFolder(tmp_path)
    split = toy_split(7)
    rng = np.random.default_rng(0)
    predicted = {task: rng.normal(size=7).astype(np.float32) for task in ("M", "T")}
    folder.write_predictions({"test": split}, {"test": predicted})
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["split", "id", "label", "prediction", "prediction_T"]
    assert [r["id"] for r in rows] == split.ids.tolist()
    for column, expected in (
        ("label", split.labels["M"]),
        ("prediction", predicted["M"]),
        ("prediction_T", predicted["T"]),
    ):
        np.testing.assert_array_equal(np.array([r[column] for r in rows], np.float32), expected)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "result.json", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_whole(tmp_path / "result.json", b"new")
    assert (tmp_path / "result.json").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_that_cannot_be_made_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make"):
        RunFolder(tmp_path / "file" / "run")
