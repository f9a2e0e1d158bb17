"""A small data set and a small model, to test the training machinery without a real model."""

import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax import models
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Plan, Source, bucket_shapes, clip_lengths
from msa_jax.data.preprocess import Preprocess
from msa_jax.data.spec import MODALITIES, DatasetSpec, ModalitySpec
from msa_jax.models.declare import Declaration, Preset
from msa_jax.models.objectives import Objective
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings
from msa_jax.training.accumulate import Optimizer
from msa_jax.training.state import create_state
from msa_jax.training.step import Learner, Programs

WIDTHS = {"text": 4, "audio": 3, "vision": 2}
LONGEST = (6, 12, 8)


class Toy(nn.Module):
    """Masked means of the three modalities, dropout, a linear score."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> Outputs:
        means = []
        for m in MODALITIES:
            real = batch.mask[m][..., None]
            total = jnp.where(real, batch.values[m], 0).sum(1)
            means.append(total / jnp.maximum(real.sum(1), 1).astype(total.dtype))
        fusion = nn.Dropout(self.dropout, deterministic=not train)(jnp.concatenate(means, -1))
        fusion = nn.tanh(nn.Dense(5)(fusion))
        return Outputs(predictions={"M": nn.Dense(1)(fusion)[:, 0]}, features={"fusion": fusion})


def register(monkeypatch, objective: Objective, dropout: float = 0.0, frozen: tuple[str, ...] = ()) -> None:
    """Makes ``configs/mosi.py:toy`` a configuration of this model."""
    presets = {"mosi": Preset(BaseSettings(), {"schedule": "cosine"})}
    module: Any = types.ModuleType("toy_model")
    module.MODEL = Declaration(
        BaseSettings,
        presets,
        lambda _s, _spec: Toy(dropout),
        lambda _s, _spec: objective,
        frozen=lambda _s: frozen,
    )
    monkeypatch.setitem(sys.modules, "toy_model", module)
    monkeypatch.setitem(models.MODELS, "toy", "toy_model")


def squared_error(outputs, batch, _memory):
    error = (outputs.predictions["M"] - batch.labels["M"]) ** 2
    loss = (batch.weight * error).sum() / jnp.maximum(batch.weight.sum(), 1)
    return loss, {"M": loss}


def toy_split(n: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, np.array(LONGEST) + 1, size=(n, 3))
    lengths[0] = LONGEST
    values = {
        m: rng.normal(size=(n, t, WIDTHS[m])).astype(np.float32)
        for m, t in zip(MODALITIES, LONGEST, strict=True)
    }
    label = values["text"][:, 0, 0] + 0.1 * rng.normal(size=n)
    return Split(
        ids=np.array([f"clip{i}" for i in range(n)]),
        values=values,
        lengths={m: lengths[:, i].astype(np.int32) for i, m in enumerate(MODALITIES)},
        labels={"M": label.astype(np.float32)},
    )


def toy_spec() -> DatasetSpec:
    modalities = {
        m: ModalitySpec(width=WIDTHS[m], length=t) for m, t in zip(MODALITIES, LONGEST, strict=True)
    }
    return DatasetSpec("toy", modalities, (-1.0, 1.0), "mosi")


def toy_training(
    optimizer,
    *,
    devices=1,
    clips=40,
    batch_size=8,
    chunk_steps=3,
    buckets=2,
    dropout=0.0,
    resident=True,
    dtype=jnp.float32,
    model=None,
    objective=squared_error,
    corrupt=None,
):
    """Returns (programs, state, source, plan) of a training on toy clips."""
    split = toy_split(clips)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    model = model or Toy(dropout)
    learner = Learner(
        model, Objective(objective), Optimizer(optimizer), dtype=dtype, mesh=mesh, corrupt=corrupt
    )
    lengths = clip_lengths(split)
    plan = Plan(lengths, bucket_shapes(lengths, buckets, batch_size), batch_size, chunk_steps, devices)
    source = Source(split, Preprocess(toy_spec(), "none"), mesh, resident)
    example = example_batch(toy_spec(), 1)
    create = jax.jit(
        lambda: create_state(model, example, learner.optimizer, 5), out_shardings=NamedSharding(mesh, P())
    )
    return Programs(learner), create(), source, plan


def run_steps(programs, state, source, plan, epochs):
    """Trains for whole epochs; returns the state and every step's loss, in order."""
    losses = []
    for epoch in range(epochs):
        for chunk, items in source.items(plan.epoch(0, epoch, True)):
            steps = jnp.int32(chunk.steps)
            state, scalars = programs.train_chunk(state, source.table, items, steps, shape=chunk.shape)
            losses.extend(np.asarray(scalars["loss"])[: chunk.steps])
    return state, np.array(losses)
