"""Weights as a safetensors file with flat names, for any framework."""

import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.errors import DataError
from msa_jax.inference import Trained

FILE, CONFIG = "model.safetensors", "config.json"


def variables_of(run: Trained) -> dict[str, Any]:
    """What a model's ``apply`` takes: "params" and, where it has any, "batch_stats", as NumPy arrays."""
    variables = {"params": run.params, "batch_stats": run.batch_stats}
    return {name: jax.tree.map(np.asarray, tree) for name, tree in variables.items() if jax.tree.leaves(tree)}


def write(run: Trained, folder: pathlib.Path) -> None:
    """Writes ``model.safetensors`` (names such as "params/unimodal/text/kernel") and ``config.json``."""
    flat = flax.traverse_util.flatten_dict(variables_of(run), sep="/")
    arrays = {name: np.ascontiguousarray(x) for name, x in flat.items()}
    save_file(arrays, folder / FILE, metadata={"format": "msa_jax"})
    (folder / CONFIG).write_text(configuration.to_json(run.config))


def load_safetensors(folder: str | pathlib.Path) -> tuple[dict[str, Any], Config]:
    """What ``export --format=safetensors`` wrote.

    Args:
      folder: with ``model.safetensors`` and ``config.json``.

    Returns:
      The variables of the model, {"params": nested dictionaries of NumPy arrays, "batch_stats": ...}, the
      latter where the model has any, and the configuration of the run.

    Raises:
      DataError: if a file is missing or damaged.
    """
    folder = pathlib.Path(folder)
    try:
        flat = load_file(folder / FILE)
        config = configuration.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{folder} cannot be read ({error!s:.200}); give a folder that export --format=safetensors wrote."
        ) from error
    return flax.traverse_util.unflatten_dict(flat, sep="/"), config
