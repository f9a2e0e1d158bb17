"""From the model block of a configuration to a model's settings, and what all baselines read alike."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from msa_jax.config import Config, require_choice
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.nn.fine_grained import ATTEND_OVER_CHOICES, FG_CHOICES, QKV_CHOICES

S = TypeVar("S")

TASKS = ("regression", "classification")
_CHOICES = {"task": TASKS, "fg": FG_CHOICES, "qkv": QKV_CHOICES, "attend_over": ATTEND_OVER_CHOICES}


def read_settings(kind: type[S], model: Config, choices: Mapping[str, tuple[str, ...]] | None = None) -> S:
    """Checks the model block and fills the dataclass ``kind``, whose fields are keys of the block.

    Whole numbers must be at least 1, rates of dropout (keys that end in "dropout") in [0, 1), words
    one of ``choices``.

    Raises:
      ConfigError: for a value that is none of that.
    """
    values: dict[str, Any] = {f.name: model[f.name] for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = {**_CHOICES, **(choices or {})}
    for key, value in values.items():
        name = f"model.{key}"
        if key in known:
            require_choice(name, value, known[key])
        elif key.endswith("dropout"):
            if not 0 <= value < 1:
                raise ConfigError(f"{name}={value} must be at least 0 and below 1.")
        elif type(value) is int and value < 1:
            raise ConfigError(f"{name}={value} must be at least 1.")
    return kind(**values)


def n_outputs(model: Config) -> int:
    """Width of the prediction: 1 score, or a logit per class (3 where ``classes`` says nothing)."""
    return 1 if model.task == "regression" else model.get("classes", 0) or model.get("n_classes", 3)


def scores(y: jnp.ndarray) -> jnp.ndarray:
    """A head's output [B, C] as a prediction: [B] for one score, [B, C] for logits."""
    return y[:, 0] if y.shape[1] == 1 else y


def read_inputs(batch: Batch, compat: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Features [B, T, D] and masks [B, T] per modality as a model reads them.

    By default padding is zero and masked. With ``compat`` every step counts as real and padding is
    read as it stands, as the MMSA toolkit does.
    """
    values, masks = {}, {}
    for m in MODALITIES:
        mask = batch.mask[m]
        masks[m] = jnp.ones_like(mask) if compat else mask
        values[m] = jnp.where(masks[m][..., None], batch.values[m], 0)
    return values, masks
