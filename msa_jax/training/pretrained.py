"""The text encoder of a run: its sizes, its weights, and where the tokens that it reads come from."""

import dataclasses
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from msa_jax.configuration import Config
from msa_jax.data.tokenize import TokenSource
from msa_jax.errors import ConfigError
from msa_jax.weights.encoder_config import read_config
from msa_jax.weights.huggingface import read_weights

#: The folder's name that stands for untrained weights.
RANDOM = "random"
#: How an encoder is trained, which its folder does not decide.
_TRAINING = ("dropout", "attention_dropout", "remat", "layers")


def is_tuned(model: Config) -> bool:
    """Whether the model trains a text encoder along."""
    return model.get("text_encoder", "frozen") == "finetune"


def has_folder(model: Config) -> bool:
    """Whether the model trains an encoder along that has a folder of its own."""
    return is_tuned(model) and model.encoder.folder not in ("", RANDOM)


def with_folder(model: Config, folder: pathlib.Path) -> Config:
    """The model block with the encoder's files taken from ``folder``, if it is there."""
    if not folder.is_dir():
        return model
    moved = model.copy_and_resolve_references()
    with moved.unlocked():
        moved.encoder.folder = str(folder)
    return moved


def with_sizes(config: Config, need_folder: bool = True) -> Config:
    """The configuration with the sizes that the encoder's folder states.

    Args:
      config: of a run.
      need_folder: refuse an encoder without weights.

    Raises:
      ConfigError: if a folder is needed and none is given.
      DataError: if the folder holds no encoder.
    """
    if not is_tuned(config.model):
        return config
    if not has_folder(config.model):
        if need_folder and config.model.encoder.folder != RANDOM:
            raise ConfigError(
                f"{config.model.name} trains its text encoder and needs its weights: give the folder of one "
                "(config.json, model.safetensors, its tokenizer) with --config.model.encoder.folder=DIR, or "
                "read the stored text features with --config.model.text_encoder=frozen."
            )
        return config
    sizes = dataclasses.asdict(read_config(config.model.encoder.folder))
    chosen = config.copy_and_resolve_references()
    with chosen.unlocked():
        chosen.model.encoder.update({k: v for k, v in sizes.items() if k not in _TRAINING})
    return chosen


def load(params: Any, model: Config) -> Any:
    """Fresh parameters with the encoder's weights in their place, on the same devices.

    Raises:
      DataError: if the folder lacks weights, or holds others.
    """
    if not has_folder(model):
        return params
    flat: dict[str, Any] = dict(flax.traverse_util.flatten_dict(params, sep="/"))
    folder, inside = model.encoder.folder, "text_encoder/bert"
    pooler = f"{inside}/pooler/kernel" in flat
    for path, array in read_weights(folder, read_config(folder), pooler).items():
        place = f"{inside}/{path}"
        flat[place] = jax.device_put(np.asarray(array, np.float32), flat[place].sharding)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def token_source(model: Config) -> TokenSource | None:
    """Where a model's tokens come from; None for one that reads text features."""
    if not is_tuned(model):
        return None
    encoder = model.encoder
    folder = encoder.folder if has_folder(model) else ""
    return TokenSource(folder, encoder.vocab, encoder.positions, encoder.get("kind", "bert"))
