"""A run stopped on one machine goes on with the same clips on another, whatever runs them there."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from toy_run import OBJECTIVE, PRELUDE, metric_rows, start

from msa_jax.errors import RunError

#: As on a CPU and as on an accelerator.
ONE, MANY = "train.chunk_steps=1", "train.chunk_steps=8"
CLIPS = 61
SETTINGS = (
    "train.epochs=2",
    "train.batch_size=4",
    "data.buckets=2",
    "train.checkpoint_steps=0",
    "train.schedule=constant",
)
WITH_PRELUDE = dataclasses.replace(OBJECTIVE, prelude=PRELUDE)


def end(monkeypatch, workdir, objective, *overrides, stop_at=None):
    return start(monkeypatch, workdir, objective, *SETTINGS, *overrides, clips=CLIPS, stop_at=stop_at)


@pytest.mark.parametrize(
    ("before", "after", "stops", "objective"),
    [
        (ONE, MANY, 5, OBJECTIVE),
        (MANY, ONE, 21, OBJECTIVE),
        (ONE, MANY, 5, WITH_PRELUDE),  # inside the prelude of 8
        (MANY, ONE, 11, WITH_PRELUDE),  # behind it
    ],
    ids=["1 to 8", "8 to 1", "1 to 8 in a prelude", "8 to 1 after a prelude"],
)
def test_a_stopped_run_ends_as_one_that_went_through(monkeypatch, tmp_path, before, after, stops, objective):
    through = end(monkeypatch, tmp_path / "through", objective, before)
    stopped = end(monkeypatch, tmp_path / "stopped", objective, before, stop_at=stops)
    assert 0 < int(stopped.state.step) < int(through.state.step)
    again = end(monkeypatch, tmp_path / "stopped", objective, after)
    assert int(again.state.step) == int(through.state.step)
    np.testing.assert_array_equal(again.state.memory["seen"], 2.0)  # every clip, in both epochs
    for a, b in zip(jax.tree.leaves(again.best), jax.tree.leaves(through.best), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)
    for a, b in zip(metric_rows(tmp_path / "stopped"), metric_rows(tmp_path / "through"), strict=True):
        assert a["train"] == pytest.approx(b["train"], abs=1e-5)


def as_written_by_7c667cb(workdir, chunk, finished):
    """Rewrites the progress of every checkpoint as that version had it."""
    for path in (workdir / "checkpoints").glob("*/meta/metadata"):
        meta = json.loads(path.read_text())
        del meta["progress"]["batch"], meta["seal"]
        meta["progress"] |= {"chunk": chunk, "finished": finished}
        path.write_text(json.dumps(meta))


def test_a_place_that_an_earlier_version_counted_is_refused_and_left(monkeypatch, tmp_path):
    end(monkeypatch, tmp_path, OBJECTIVE, stop_at=5)
    as_written_by_7c667cb(tmp_path, 5, False)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=r"inside epoch 1, where an earlier version.*another --workdir"):
        end(monkeypatch, tmp_path, OBJECTIVE)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_between_epochs_a_run_of_an_earlier_version_goes_on(monkeypatch, tmp_path, caplog):
    end(monkeypatch, tmp_path, OBJECTIVE, "train.epochs=1")
    as_written_by_7c667cb(tmp_path, 0, False)
    assert caplog.messages == []
    done = end(monkeypatch, tmp_path, OBJECTIVE)
    assert "batches come in another order" in caplog.text
    np.testing.assert_array_equal(done.state.memory["seen"], 2.0)
