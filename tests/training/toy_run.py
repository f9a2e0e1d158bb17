"""Whole runs of the toy model on toy clips, with an objective that remembers and one that has a prelude."""

import contextlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from toy import register, squared_error, toy_spec, toy_split

from msa_jax.configuration import load
from msa_jax.data.dataset import Dataset
from msa_jax.errors import Interrupted
from msa_jax.models.objectives import Objective, Prelude
from msa_jax.training import loop

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
CLIPS, STEPS = 30, 4  # of 8 clips each, the last of 6


def memory(labels, steps_per_epoch):
    return {"seen": jnp.zeros(len(labels["M"])), "labels": jnp.asarray(labels["M"])}


def remember(outputs, batch, before):
    row = jnp.where(batch.weight > 0, batch.index, len(before["seen"]))
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


def start(monkeypatch, workdir, objective, *overrides, frozen=(), clips=CLIPS, stop_at=None, profile=""):
    """Trains toy clips from the beginning, or from where the folder stands.

    Args:
      stop_at: the step at which the run is asked to stop.
      profile: folder for a trace.

    Returns:
      The loop at its end; "first" holds the parameters that it began with.
    """
    register(monkeypatch, objective, 0.2, frozen)
    splits = {name: toy_split(n, n) for name, n in {"train": clips, "valid": 9, "test": 8}.items()}
    monkeypatch.setattr(loop, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    plain = ["train.epochs=3", "train.learning_rate=0.05", "train.batch_size=8"]
    config = load(f"{CONFIG}:toy", [*plain, "data.buckets=1", "train.checkpoint_steps=1", *overrides])
    made = []

    class Kept(loop.Loop):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.first = jax.tree.map(np.asarray, self.state.params)
            made.append(self)

        def _asked_to_stop(self):
            return super()._asked_to_stop() or (stop_at is not None and int(self.state.step) >= stop_at)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Loop", Kept)
        with contextlib.suppress(Interrupted):
            loop.train_and_evaluate(config, workdir, profile)
    return made[0]


def metric_rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
