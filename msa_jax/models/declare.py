"""How a model is declared: its settings, their presets by data set, and what is made from them.

Every model's file ends with ``MODEL = Declaration(...)``, and the registry (:mod:`msa_jax.models`) names
the file.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from msa_jax.data.spec import DatasetSpec
from msa_jax.models.objectives import Objective
from msa_jax.models.settings import BaseSettings


class Preset(NamedTuple):
    """Hyper-parameters that were found on a data set.

    Attributes:
      settings: the model's.
      train: keys of the train block that differ from its defaults (``configs/common.py``).
    """

    settings: BaseSettings
    train: Mapping[str, Any]


def everywhere(settings: BaseSettings, train: Mapping[str, Any]) -> dict[str, Preset]:
    """The presets of a model with one set of numbers for all data sets."""
    return dict.fromkeys(("mosi", "mosei", "sims"), Preset(settings, train))


def _no_paths(_settings: Any) -> tuple[str, ...]:
    return ()


def _every_step(_settings: Any) -> None:
    return None


class Declaration(NamedTuple):
    """All that is known of a model before data is read. The functions take an instance of ``settings``.

    Attributes:
      settings: the dataclass whose fields are the keys of the model block.
      presets: by name; "mosi", "mosei" and "sims" are those of the field.
      build: gives the Linen module for a data set.
      objective: gives what it is trained by.
      data: keys of the data block that the model changes.
      tiny: keys of the model block at small widths, for trying things out.
      frozen: gives the paths of parameters (patterns as in a shell) that are not trained.
      steps_read: gives how many first steps of text, audio and vision are read; None: all.
    """

    settings: type[BaseSettings]
    presets: Mapping[str, Preset]
    build: Callable[[Any, DatasetSpec], nn.Module]
    objective: Callable[[Any, DatasetSpec], Objective]
    data: Mapping[str, Any] = {}
    tiny: Mapping[str, Any] = {}
    frozen: Callable[[Any], tuple[str, ...]] = _no_paths
    steps_read: Callable[[Any], tuple[int, int, int] | None] = _every_step


def peer_train(
    batch_size: int, learning_rate: float, weight_decay: float = 0.0, **more: Any
) -> dict[str, Any]:
    """The training protocol of the MMSA toolkit: Adam, no clipping, the epoch of least validation loss."""
    train = {"batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay}
    return train | {"epochs": 100, "patience": 8, "monitor": "loss", "clip_norm": 0.0} | more


def unimodal_decay(text: float, audio: float, vision: float) -> dict[str, dict[str, Any]]:
    """Optimiser groups: the weight decay of each unimodal network."""
    decay = {"text": text, "audio": audio, "vision": vision}
    return {m: {"paths": f"unimodal/{m}/*", "weight_decay": value} for m, value in decay.items()}


def encoder_groups(
    learning_rate: float, weight_decay: float, warmup_epochs: float = 0.0
) -> dict[str, dict[str, Any]]:
    """Optimiser groups: the encoder's matrices, and its biases and norms, which do not decay."""
    paths = {"encoder": "text_encoder/*", "encoder_no_decay": "text_encoder/*bias, text_encoder/*norm/*"}
    decays = {"encoder": weight_decay, "encoder_no_decay": 0.0}
    return {
        name: {
            "paths": paths[name],
            "learning_rate": learning_rate,
            "weight_decay": decays[name],
            "warmup_epochs": warmup_epochs,
        }
        for name in paths
    }
