"""Settings that cannot change what was trained may change between starts; all others are refused."""

import datetime
import json
import pathlib

import jax
import numpy as np
import pytest
from toy import squared_error, toy_spec
from toy_run import metric_rows, start

from msa_jax.configuration import flatten, load
from msa_jax.errors import RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import changes
from msa_jax.training.best import read_best
from msa_jax.training.run_folder import RunFolder

ROOT = pathlib.Path(__file__).resolve().parents[2]
MISA = f"{ROOT}/configs/mosi.py:misa"
PLAIN = Objective(squared_error)
CONSTANT = "train.schedule=constant"
#: Another value of each type that a configuration has.
OTHER = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 0.5, str: lambda v: v + "x"}


def history(folder):
    path = folder / "config_history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trained_folder(path, config):
    """A folder that says it has trained ``config``."""
    folder = RunFolder(path)
    folder.claim(config, toy_spec(), toy_spec())
    (path / "checkpoints" / "1").mkdir(parents=True)
    return folder


def changed(config, key):
    """The configuration with another value of ``key``."""
    other = config.copy_and_resolve_references().unlock()
    *blocks, last = key.split(".")
    inner = other
    for name in blocks:
        inner = inner[name]
    value = inner[last]
    with inner.ignore_type():
        inner[last] = OTHER[type(value)](value) if type(value) in OTHER else (*value, 9)
    return other.lock()


@pytest.mark.parametrize("key", sorted(flatten(load(MISA))))
def test_each_setting_is_free_or_refused(tmp_path, key):
    config = load(MISA)
    folder = trained_folder(tmp_path, config)
    before = (tmp_path / "config.json").read_bytes()
    other = changed(config, key)
    if key not in changes.FREE:
        with pytest.raises(RunError, match=rf"another config\.json.*\n  {key}: "):
            folder.claim(other, toy_spec(), toy_spec())
        assert (tmp_path / "config.json").read_bytes() == before
        assert history(tmp_path) == []
        return
    folder.claim(other, toy_spec(), toy_spec())
    assert flatten(json.loads((tmp_path / "config.json").read_text()))[key] == flatten(other)[key]
    (row,) = history(tmp_path)
    assert row["changes"] == {key: [flatten(config)[key], flatten(other)[key]]}
    moment = datetime.datetime.fromisoformat(row["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(hours=1)
    folder.claim(other, toy_spec(), toy_spec())
    assert len(history(tmp_path)) == 1, "the same again is no change"


def test_every_free_setting_is_one_of_some_configuration():
    assert [key for key in changes.FREE if key not in flatten(load(MISA))] == []


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_ends_with_the_last_epoch_cannot_be_extended(tmp_path, schedule):
    settings = [f"train.schedule={schedule}", "train.epochs=2"]
    folder = trained_folder(tmp_path, load(MISA, settings))
    with pytest.raises(RunError, match=rf"from 2 to 4: train\.schedule={schedule} ends with the last epoch"):
        folder.claim(load(MISA, [*settings, "train.epochs=4"]), toy_spec(), toy_spec())
    assert history(tmp_path) == []


def test_a_warm_up_that_the_epochs_cut_short_cannot_be_extended(tmp_path):
    settings = [CONSTANT, "train.warmup_epochs=3"]
    folder = trained_folder(tmp_path, load(MISA, [*settings, "train.epochs=2"]))
    with pytest.raises(RunError, match=r"train\.warmup_epochs=3\.0 is longer"):
        folder.claim(load(MISA, [*settings, "train.epochs=4"]), toy_spec(), toy_spec())


def test_more_epochs_end_where_so_many_at_once_do(monkeypatch, tmp_path):
    whole = start(monkeypatch, tmp_path / "whole", PLAIN, CONSTANT, "train.epochs=4")
    start(monkeypatch, tmp_path / "parts", PLAIN, CONSTANT, "train.epochs=2")
    more = ["train.epochs=4", "data.path=moved.pkl", "train.devices=2", "data.resident=never"]
    parts = start(monkeypatch, tmp_path / "parts", PLAIN, CONSTANT, *more)
    for a, b in zip(jax.tree.leaves(parts.state.params), jax.tree.leaves(whole.state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)
    assert [row["epoch"] for row in metric_rows(tmp_path / "parts")] == [1, 2, 3, 4]
    assert history(tmp_path / "parts")[0]["changes"].keys() == {m.partition("=")[0] for m in more}
    # Whoever reads the best model finds the data where it is now.
    assert read_best(tmp_path / "parts" / "best").config.data.path == "moved.pkl"


def test_fewer_epochs_than_are_done_end_the_run(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path, PLAIN, CONSTANT, "train.epochs=3")
    start(monkeypatch, tmp_path, PLAIN, CONSTANT, "train.epochs=2")
    assert len(metric_rows(tmp_path)) == 3


def test_a_run_that_ended_by_patience_stays_ended_until_it_gets_more(monkeypatch, tmp_path):
    stuck = [CONSTANT, "train.min_delta=9"]
    start(monkeypatch, tmp_path, PLAIN, *stuck, "train.patience=2", "train.epochs=9")
    assert len(metric_rows(tmp_path)) == 3
    start(monkeypatch, tmp_path, PLAIN, *stuck, "train.patience=2", "train.epochs=12")
    assert len(metric_rows(tmp_path)) == 3
    start(monkeypatch, tmp_path, PLAIN, *stuck, "train.patience=4", "train.epochs=12")
    assert len(metric_rows(tmp_path)) == 5
