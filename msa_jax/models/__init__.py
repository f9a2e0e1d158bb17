"""All models, by name. Each module has ``build(model, spec)`` and ``objective(model, spec)``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from msa_jax.config import Config
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError, nearest
from msa_jax.models import lf_dnn, ufen_mtfn


class ModelEntry(NamedTuple):
    """How a model is made from the model block of a configuration and a data set.

    Attributes:
      build: gives the Linen module.
      objective: gives ``(outputs, batch, memory) -> (loss, parts)``.
    """

    build: Callable[[Config, DatasetSpec], nn.Module]
    objective: Callable[[Config, DatasetSpec], Callable[..., Any]]


MODELS: dict[str, ModelEntry] = {
    "ufen_mtfn": ModelEntry(ufen_mtfn.build, ufen_mtfn.objective),
    "lf_dnn": ModelEntry(lf_dnn.build, lf_dnn.objective),
}


def _entry(name: str) -> ModelEntry:
    if name not in MODELS:
        raise ConfigError(
            f"model.name={name!r} is unknown; there are {', '.join(MODELS)}.{nearest(name, MODELS)}"
        )
    return MODELS[name]


def build(model: Config, spec: DatasetSpec) -> nn.Module:
    """The Linen module that ``model.name`` asks for.

    Raises:
      ConfigError: for an unknown name, or values that the model cannot use.
    """
    return _entry(model.name).build(model, spec)


def objective(model: Config, spec: DatasetSpec) -> Callable[..., Any]:
    """The training loss of the model that ``model.name`` asks for.

    Raises:
      ConfigError: for an unknown name, or values that the model cannot use.
    """
    return _entry(model.name).objective(model, spec)
