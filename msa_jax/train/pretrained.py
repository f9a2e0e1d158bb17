"""The text encoder of a run: its sizes, its weights, and the tokens it reads."""

import dataclasses
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from msa_jax.config import Config
from msa_jax.data.dataset import Dataset
from msa_jax.data.tokenize import Tokenizer
from msa_jax.errors import ConfigError, DataError
from msa_jax.weights import huggingface

#: The folder's name that stands for untrained weights.
RANDOM = "random"
#: How an encoder is trained, which its folder does not decide.
_TRAINING = ("dropout", "attention_dropout", "remat")


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
                "(config.json, model.safetensors, vocab.txt) with --config.model.encoder.folder=DIR, or read "
                "the stored text features with --config.model.text_encoder=frozen."
            )
        return config
    sizes = dataclasses.asdict(huggingface.read_config(config.model.encoder.folder))
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
    arrays = huggingface.read_weights(model.encoder.folder, huggingface.read_config(model.encoder.folder))
    for path, array in arrays.items():
        place = f"text_encoder/bert/{path}"
        flat[place] = jax.device_put(np.asarray(array, np.float32), flat[place].sharding)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def with_tokens(dataset: Dataset, model: Config) -> Dataset:
    """The data set as a model with an encoder reads it: with tokens, and without text features.

    Where the data has no tokens, its transcripts are made into tokens by the encoder's own vocabulary.

    Raises:
      DataError: if there are neither tokens nor transcripts, or the tokens are of another vocabulary.
    """
    if not is_tuned(model):
        return dataset
    if not dataset.spec.has_tokens:
        dataset = _tokenised(dataset, model)
    most = max(int(np.max(tokens[:, 0], initial=0)) for tokens in _tokens(dataset).values())
    if most >= model.encoder.vocab:
        raise DataError(
            f"{dataset.spec.name} holds token id {most}, but the encoder's vocabulary has "
            f"{model.encoder.vocab} entries; take the encoder whose tokenizer made the ids."
        )
    splits = {}
    for name, split in dataset.splits.items():
        empty = np.zeros((*split.values["text"].shape[:2], 0), np.float32)
        splits[name] = dataclasses.replace(split, values={**split.values, "text": empty})
    text = dataclasses.replace(dataset.spec.modalities["text"], width=0, groups={}, mean=(), std=())
    spec = dataclasses.replace(dataset.spec, modalities={**dataset.spec.modalities, "text": text})
    return dataclasses.replace(dataset, spec=spec, splits=splits)


def _tokens(dataset: Dataset) -> dict[str, np.ndarray]:
    return {name: np.asarray(split.tokens) for name, split in dataset.splits.items()}


def _tokenised(dataset: Dataset, model: Config) -> Dataset:
    name = dataset.spec.name
    if not has_folder(model) or any(split.raw_text is None for split in dataset.splits.values()):
        raise DataError(
            f"{name} has no token ids (text_bert), and transcripts (raw_text) with an encoder's folder "
            "(model.encoder.folder) are not there either; set model.text_encoder=frozen."
        )
    tokenizer = Tokenizer(model.encoder.folder)
    made = {
        name: tokenizer(list(split.raw_text), model.encoder.positions)  # type: ignore[arg-type]
        for name, split in dataset.splits.items()
    }
    steps = max(tokens.shape[2] for tokens in made.values())
    splits = {}
    for name, split in dataset.splits.items():
        tokens = np.pad(made[name], ((0, 0), (0, 0), (0, steps - made[name].shape[2])))
        lengths = {**split.lengths, "text": tokens[:, 1].sum(axis=1, dtype=np.int32)}
        values = {**split.values, "text": np.zeros((len(split), steps, 0), np.float32)}
        splits[name] = dataclasses.replace(split, values=values, lengths=lengths, tokens=tokens)
    text = dataclasses.replace(dataset.spec.modalities["text"], length=steps)
    spec = dataclasses.replace(
        dataset.spec, modalities={**dataset.spec.modalities, "text": text}, has_tokens=True
    )
    return dataclasses.replace(dataset, spec=spec, splits=splits)
