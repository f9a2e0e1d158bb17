"""The text encoder of a run: its sizes, its weights, and the tokens it reads."""

import dataclasses
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from msa_jax.config import Config
from msa_jax.data.dataset import Dataset, Split
from msa_jax.errors import ConfigError, DataError

#: The folder's name that stands for untrained weights.
RANDOM = "random"


def is_tuned(model: Config) -> bool:
    """Whether the model trains a text encoder along."""
    return model.get("text_encoder", "frozen") == "finetune"


def _has_folder(model: Config) -> bool:
    return model.encoder.folder not in ("", RANDOM)


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
    if not _has_folder(config.model):
        if need_folder and config.model.encoder.folder != RANDOM:
            raise ConfigError(
                f"{config.model.name} trains its text encoder and needs its weights: give the folder of one "
                "(config.json, model.safetensors, vocab.txt) with --config.model.encoder.folder=DIR, or read "
                "the stored text features with --config.model.text_encoder=frozen."
            )
        return config
    from msa_jax.interop import huggingface

    sizes = dataclasses.asdict(huggingface.read_config(config.model.encoder.folder))
    chosen = config.copy_and_resolve_references()
    with chosen.unlocked():  # how it is trained is the configuration's affair
        chosen.model.encoder.update({k: v for k, v in sizes.items() if k not in ("remat",)})
    return chosen


def load(params: Any, model: Config) -> Any:
    """Fresh parameters with the encoder's weights in their place, on the same devices.

    Raises:
      DataError: if the folder lacks weights, or holds others.
    """
    if not is_tuned(model) or not _has_folder(model):
        return params
    from msa_jax.interop import huggingface

    flat = flax.traverse_util.flatten_dict(params, sep="/")
    arrays = huggingface.read_weights(model.encoder.folder, huggingface.read_config(model.encoder.folder))
    for path, array in arrays.items():
        place = f"text_encoder/bert/{path}"
        flat[place] = jax.device_put(np.asarray(array, np.float32), flat[place].sharding)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def with_tokens(dataset: Dataset, model: Config) -> Dataset:
    """The data set as a model with an encoder reads it: tokens, and no text features.

    Raises:
      DataError: if there are no tokens, or they are of another vocabulary.
    """
    if not is_tuned(model):
        return dataset
    spec = dataset.spec
    if not spec.has_tokens:
        raise DataError(f"{spec.name} has no token ids (text_bert), which model.text_encoder=finetune reads.")
    largest = max(int(np.max(split.tokens[:, 0], initial=0)) for split in dataset.splits.values())  # type: ignore[index]
    if largest >= model.encoder.vocab:
        raise DataError(
            f"{spec.name} holds token id {largest}, but the encoder's vocabulary has {model.encoder.vocab} "
            "entries; take the encoder whose tokenizer made the ids."
        )

    def bare(split: Split) -> Split:
        empty = np.zeros((*split.values["text"].shape[:2], 0), np.float32)
        return dataclasses.replace(split, values={**split.values, "text": empty})

    text = dataclasses.replace(spec.modalities["text"], width=0, groups={}, mean=(), std=())
    spec = dataclasses.replace(spec, modalities={**spec.modalities, "text": text})
    splits = {name: bare(split) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, spec=spec, splits=splits)
