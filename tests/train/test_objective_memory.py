"""What an objective remembers between batches, and the pass that it may put before each epoch's own."""

import contextlib
import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import register, squared_error, toy_spec, toy_split

from msa_jax.config import load
from msa_jax.data.dataset import Dataset
from msa_jax.errors import Interrupted
from msa_jax.models.objectives import Objective, Prelude
from msa_jax.train import loop

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
CLIPS, STEPS = 30, 4  # of 8 clips each, the last of 6


def memory(labels, steps_per_epoch):
    assert steps_per_epoch == STEPS
    return {"seen": jnp.zeros(len(labels["M"])), "labels": jnp.asarray(labels["M"])}


def remember(outputs, batch, before):
    row = jnp.where(batch.weight > 0, batch.index, CLIPS)
    return {**before, "seen": before["seen"].at[row].add(1.0, mode="drop")}


def loss(outputs, batch, remembered):
    """Clips that have been seen often count less, so that what is remembered matters."""
    error = (outputs.predictions["M"] - batch.labels["M"]) ** 2 / (1 + remembered["seen"][batch.index])
    total = (batch.weight * error).sum() / jnp.maximum(batch.weight.sum(), 1)
    return total, {"M": total}


def away(outputs, batch, remembered):
    """Drives the score to 5, whatever the label."""
    error = (outputs.predictions["M"] - 5.0) ** 2
    total = (batch.weight * error).sum() / jnp.maximum(batch.weight.sum(), 1)
    return total, {"away": total}


OBJECTIVE = Objective(loss, valid=squared_error, memory=memory, remember=remember)
PRELUDE = Prelude(away, ("Dense_1/*",), learning_rate=0.05, clip_norm=1.0, share=0.5)


def start(monkeypatch, workdir, objective, *overrides, frozen=()):
    """A loop over toy clips, at its beginning or where it was left."""
    register(monkeypatch, objective, 0.2, frozen)
    splits = {name: toy_split(n, n) for name, n in {"train": CLIPS, "valid": 9, "test": 8}.items()}
    monkeypatch.setattr(loop, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    plain = ["train.epochs=3", "train.learning_rate=0.05", "train.batch_size=8"]
    config = load(f"{CONFIG}:toy", [*plain, "data.buckets=1", "train.checkpoint_steps=1", *overrides])
    made = []

    class Kept(loop.Loop):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.first = jax.tree.map(np.asarray, self.state.params)
            made.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Loop", Kept)
        with contextlib.suppress(Interrupted):
            loop.train_and_evaluate(config, workdir)
    return made[0]


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_every_clip_is_remembered_once_an_epoch_and_idle_rows_never(monkeypatch, tmp_path):
    done = start(monkeypatch, tmp_path, OBJECTIVE)
    np.testing.assert_array_equal(done.checkpoints.restore(done.state, done.best)[0].memory["seen"], 3.0)


def test_evaluation_knows_no_memory(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path, OBJECTIVE)
    row = rows(tmp_path)[-1]
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
    row = rows(tmp_path)[0]
    assert row["step"] == STEPS + 2, "half of the batches, and then all of them"
    assert row["train"]["prelude_away"] == row["train"]["prelude_loss"] > 0
    np.testing.assert_array_equal(done.checkpoints.restore(done.state, done.best)[0].memory["seen"], 1.0)


@pytest.mark.parametrize("stops", [1, 3])
def test_a_run_goes_on_inside_either_pass(monkeypatch, tmp_path, stops):
    whole = dataclasses.replace(OBJECTIVE, prelude=PRELUDE)
    through = start(monkeypatch, tmp_path / "through", whole, "train.epochs=2")
    asked = loop.Loop._asked_to_stop
    left = [stops]

    def ask(self):
        left[0] -= 1
        return left[0] == 0 or asked(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_asked_to_stop", ask)
        stopped = start(monkeypatch, tmp_path / "stopped", whole, "train.epochs=2")
    assert int(stopped.state.step) == stops
    again = start(monkeypatch, tmp_path / "stopped", whole, "train.epochs=2")
    for a, b in zip(jax.tree.leaves(again.best), jax.tree.leaves(through.best), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r["train"] for r in rows(tmp_path / "stopped")] == [
        r["train"] for r in rows(tmp_path / "through")
    ]
