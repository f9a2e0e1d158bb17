"""train.watch_test: it tells the best test epoch, and changes nothing else."""

import json

import numpy as np
import pytest
from toy_run import OBJECTIVE, metric_rows, start

from msa_jax.commands.train import show
from msa_jax.errors import RunError
from msa_jax.training import loop, watched
from msa_jax.training.best import read_best

WATCH = "train.watch_test=true"
#: What takes time differs from run to run.
TIMES = ("seconds", "step_seconds")


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def without(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


def assert_same_model(first, second):
    one, two = read_best(first / "best"), read_best(second / "best")
    assert (one.record["epoch"], one.record["score"]) == (two.record["epoch"], two.record["score"])
    for layer, arrays in one.params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, two.params[layer][name])


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    with pytest.MonkeyPatch.context() as patch:
        start(patch, folder, OBJECTIVE)
    return folder


def test_it_changes_neither_model_nor_history_nor_result(monkeypatch, tmp_path, usual):
    asked = []
    real = loop.Loop.evaluate
    monkeypatch.setattr(loop.Loop, "evaluate", lambda self, split: asked.append(split) or real(self, split))
    start(monkeypatch, tmp_path / "watched", OBJECTIVE, WATCH)
    assert asked == ["valid", "test"] * 3 + ["train", "valid", "test"]
    rows, watched_rows = metric_rows(usual), metric_rows(tmp_path / "watched")
    assert all(row[watched.ROW].keys() >= {"mae", "loss"} for row in watched_rows)
    assert [without(row, watched.ROW, *TIMES) for row in watched_rows] == [without(r, *TIMES) for r in rows]
    result = result_of(tmp_path / "watched")
    block = result.pop(watched.RESULT)
    assert without(result, "seconds") == without(result_of(usual), "seconds")
    assert_same_model(usual, tmp_path / "watched")
    for name in ("predictions.csv", "features.npz"):
        assert (usual / name).read_bytes() == (tmp_path / "watched" / name).read_bytes()
    best = min(watched_rows, key=lambda row: row[watched.ROW]["mae"])
    assert block == {
        "label": "best test epoch (as published tables; not a fair estimate)",
        "epoch": best["epoch"],
        "picked_by": "mae",
        "test": best[watched.ROW],
    }
    assert watched_rows[result["best_epoch"] - 1][watched.ROW]["mae"] == pytest.approx(result["test"]["mae"])


def test_off_it_costs_nothing(monkeypatch, tmp_path):
    asked = []
    real = loop.Loop.evaluate
    monkeypatch.setattr(loop.Loop, "evaluate", lambda self, split: asked.append(split) or real(self, split))
    start(monkeypatch, tmp_path, OBJECTIVE, "train.epochs=2")
    assert asked == ["valid"] * 2 + ["train", "valid", "test"]
    assert watched.RESULT not in result_of(tmp_path)
    assert not any(watched.ROW in row for row in metric_rows(tmp_path))


def test_a_run_that_was_stopped_tells_the_same(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path / "whole", OBJECTIVE, WATCH)
    for stop_at in (3, 9, None):  # inside the first epoch and inside the third
        start(monkeypatch, tmp_path / "parts", OBJECTIVE, WATCH, stop_at=stop_at)
    whole, parts = (metric_rows(tmp_path / name) for name in ("whole", "parts"))
    assert [without(row, *TIMES) for row in parts] == [without(row, *TIMES) for row in whole]
    results = [without(result_of(tmp_path / name), "seconds") for name in ("whole", "parts")]
    assert results[0] == results[1]
    assert_same_model(tmp_path / "whole", tmp_path / "parts")


def test_test_predictions_that_are_not_finite_stop_nothing(monkeypatch, tmp_path, usual):
    """They would only be noticed at the end otherwise, if the best epoch had them."""
    real = loop.Loop.evaluate

    def broken_in_the_first(self, split):
        if split == "test" and self.progress.epoch == 0:
            raise RunError("the predictions are not finite")
        return real(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "evaluate", broken_in_the_first)
        start(monkeypatch, tmp_path / "watched", OBJECTIVE, WATCH)
    assert [bool(row[watched.ROW]) for row in metric_rows(tmp_path / "watched")] == [False, True, True]
    assert result_of(tmp_path / "watched")[watched.RESULT]["epoch"] > 1
    assert_same_model(usual, tmp_path / "watched")


def test_it_is_on_for_a_whole_run_or_not_at_all(monkeypatch, tmp_path, usual):
    with pytest.raises(RunError, match=r"train.watch_test: False -> True"):
        start(monkeypatch, usual, OBJECTIVE, WATCH, "train.epochs=4")


def rows_with(key, *values):
    return [{"epoch": number, watched.ROW: {key: value}} for number, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("key", "values", "epoch"),
    [
        ("mae", (3.0, 1.0, 2.0), 2),
        ("loss", (1.0, 1.0), 1),
        ("corr", (0.1, float("nan"), 0.3, 0.3), 3),
        ("mae", (float("nan"), 2.0), 2),
        ("mae", (None, 2.0), 2),
        ("corr", (float("nan"), float("nan")), 1),
    ],
)
def test_the_best_test_epoch(key, values, epoch):
    history = rows_with(key, *values)
    best = watched.best_test_epoch(history, key)
    assert (best["epoch"], best["picked_by"]) == (epoch, key)
    assert best["test"] is not history[epoch - 1][watched.ROW]


def test_the_table_of_a_run_has_its_column(monkeypatch, tmp_path, capsys):
    made = start(monkeypatch, tmp_path / "run", OBJECTIVE, WATCH, "train.epochs=1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("msa_jax.messages.quiet", lambda: False)
    result = result_of(tmp_path / "run")
    show(made.config, tmp_path / "run", result)
    assert watched.LABEL in capsys.readouterr().out
    assert watched.LABEL in (tmp_path / "run" / "report.html").read_text()
    del result[watched.RESULT]
    show(made.config, tmp_path / "run", result)
    assert watched.LABEL not in capsys.readouterr().out
