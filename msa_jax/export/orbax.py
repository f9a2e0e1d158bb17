"""Weights as a plain Orbax checkpoint, which Orbax reads without this package."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp

from msa_jax import configuration
from msa_jax.export.safetensors import CONFIG, variables_of
from msa_jax.inference import Trained

FOLDER = "checkpoint"


def write(run: Trained, folder: pathlib.Path) -> None:
    """Writes ``checkpoint/`` ("params" and, where there are any, "batch_stats") and ``config.json``."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / FOLDER).resolve(), variables_of(run))
    (folder / CONFIG).write_text(configuration.to_json(run.config))


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The variables that :func:`write` wrote."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((folder / FOLDER).resolve())
