"""A small data set, batches and parameters for testing models without training or compiling much."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from random_params import random_params

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.spec import DatasetSpec, ModalitySpec

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
GROUPS = {"low": (0, 1), "high": (2, 4)}
SPEC = DatasetSpec(
    name="small",
    modalities={
        "text": ModalitySpec(6, 5),
        "audio": ModalitySpec(5, 8, GROUPS),
        "vision": ModalitySpec(7, 6, GROUPS),
    },
    label_range=(-1.0, 1.0),
    metrics="sims",
    tasks=("M", "T", "A", "V"),
)
#: Real steps of text, audio, vision for four clips: full, short, one step each, no sound at all.
LENGTHS = ((5, 8, 6), (3, 5, 2), (1, 1, 1), (4, 0, 3))


def model_block(name: str, *overrides: str):
    """The model block of a configuration at the ``tiny`` widths."""
    return configuration.load(f"{CONFIGS / 'sims.py'}:{name},tiny", [f"model.{o}" for o in overrides]).model


def small_batch(steps=(5, 8, 6), filler: float = 0.0, rows=(0, 1, 2, 3)) -> Batch:
    """The clips ``rows``, always with the same contents, padded with ``filler`` to ``steps``."""
    values, masks = {}, {}
    for k, (name, record) in enumerate(SPEC.modalities.items()):
        x = np.full((len(rows), steps[k], record.width), filler, np.float32)
        mask = np.zeros(x.shape[:2], bool)
        for place, row in enumerate(rows):
            length = LENGTHS[row][k]
            x[place, :length] = np.random.default_rng((row, k)).normal(size=(length, record.width))
            mask[place, :length] = True
        values[name], masks[name] = jnp.asarray(x), jnp.asarray(mask)
    labels = np.random.default_rng(9).uniform(-1, 1, size=(4, len(LENGTHS)))[:, list(rows)]
    return Batch(
        values=values,
        mask=masks,
        labels={t: jnp.asarray(y, jnp.float32) for t, y in zip(SPEC.tasks, labels, strict=True)},
        index=jnp.asarray(rows),
        weight=jnp.asarray(np.ones(len(rows), np.float32)),
    )


def random_model_params(module, spec: DatasetSpec = SPEC, scale: float = 0.4):
    """Random parameters of a model."""
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    return random_params(module, batch, scale=scale)


def used(fn, params) -> dict[str, bool]:
    """Per parameter (path joined by slashes) whether ``fn(params)`` depends on it; nothing is run."""
    jaxpr = jax.make_jaxpr(fn)(params).jaxpr
    _, inputs = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    paths = [
        jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(params)
    ]
    return dict(zip(paths, inputs, strict=True))


def count_parameters(argument: str, *overrides: str) -> int:
    """Parameters of a configuration such as "mosi.py:mfn" at its data set's published shapes."""
    config = configuration.load(f"{CONFIGS / argument}", overrides)
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes: Any = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))
