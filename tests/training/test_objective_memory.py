"""What an objective remembers between batches, and the pass that it may put before each epoch's own."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_run import OBJECTIVE, PRELUDE, STEPS, metric_rows, start


def test_every_clip_is_remembered_once_an_epoch_and_idle_rows_never(monkeypatch, tmp_path):
    done = start(monkeypatch, tmp_path, OBJECTIVE)
    np.testing.assert_array_equal(done.checkpoints.restore(done.state, done.best)[0].memory["seen"], 3.0)


def test_evaluation_knows_no_memory(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path, OBJECTIVE)
    row = metric_rows(tmp_path)[-1]
    # The mean squared error, not the one that counts clips less.
    assert row["valid"]["loss"] == pytest.approx(row["valid"]["loss_M"])
    assert row["valid"]["loss"] >= row["valid"]["mae"] ** 2 * (1 - 1e-6)


def test_a_prelude_trains_its_parameters_and_no_other(monkeypatch, tmp_path):
    whole = dataclasses.replace(OBJECTIVE, prelude=PRELUDE)
    done = start(monkeypatch, tmp_path, whole, "train.epochs=1", frozen=("Dense_1/*",))
    fresh = start(monkeypatch, tmp_path / "other", OBJECTIVE, "train.epochs=1", frozen=("Dense_1/*",))
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), done.first, done.best["params"])
    assert changed["Dense_1"]["kernel"]
    assert changed["Dense_0"]["kernel"]
    np.testing.assert_array_equal(fresh.first["Dense_1"]["kernel"], fresh.best["params"]["Dense_1"]["kernel"])
    row = metric_rows(tmp_path)[0]
    assert row["step"] == STEPS + 2, "half of the batches, and then all of them"
    assert row["train"]["prelude_away"] == row["train"]["prelude_loss"] > 0
    np.testing.assert_array_equal(done.checkpoints.restore(done.state, done.best)[0].memory["seen"], 1.0)


@pytest.mark.parametrize("stops", [1, 3])
def test_a_run_goes_on_inside_either_pass(monkeypatch, tmp_path, stops):
    whole = dataclasses.replace(OBJECTIVE, prelude=PRELUDE)
    through = start(monkeypatch, tmp_path / "through", whole, "train.epochs=2")
    stopped = start(monkeypatch, tmp_path / "stopped", whole, "train.epochs=2", stop_at=stops)
    assert int(stopped.state.step) == stops
    again = start(monkeypatch, tmp_path / "stopped", whole, "train.epochs=2")
    for a, b in zip(jax.tree.leaves(again.best), jax.tree.leaves(through.best), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r["train"] for r in metric_rows(tmp_path / "stopped")] == [
        r["train"] for r in metric_rows(tmp_path / "through")
    ]
