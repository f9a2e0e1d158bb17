"""All models, by name. A model's file declares it (:mod:`msa_jax.models.declare`); a line here lists it.

The functions take the model block of a configuration and read it with the settings of the model that it
names, so that every value is checked wherever a block is used.
"""

import importlib
from typing import TYPE_CHECKING

from msa_jax import typed_settings
from msa_jax.configuration import Config
from msa_jax.errors import ConfigError, nearest

if TYPE_CHECKING:  # a configuration imports its own model and no other
    import flax.linen as nn

    from msa_jax.data.spec import DatasetSpec
    from msa_jax.models.declare import Declaration, Preset
    from msa_jax.models.objectives import Objective
    from msa_jax.models.settings import BaseSettings

#: A model's name -> the module that declares it, as MODEL.
MODELS: dict[str, str] = {
    "ufen_mtfn": "msa_jax.models.ufen_mtfn",
    "ef_lstm": "msa_jax.models.ef_lstm",
    "lf_dnn": "msa_jax.models.lf_dnn",
    "tfn": "msa_jax.models.tfn",
    "lmf": "msa_jax.models.lmf",
    "mfn": "msa_jax.models.mfn",
    "graph_mfn": "msa_jax.models.graph_mfn",
    "mfm": "msa_jax.models.mfm",
    "mlf_dnn": "msa_jax.models.mlf_dnn",
    "mtfn": "msa_jax.models.mtfn",
    "mlmf": "msa_jax.models.mlmf",
    "mult": "msa_jax.models.mult",
    "mctn": "msa_jax.models.mctn",
    "tmt": "msa_jax.models.tmt",
    "misa": "msa_jax.models.misa",
    "mmim": "msa_jax.models.mmim",
    "self_mm": "msa_jax.models.self_mm",
    "tetfn": "msa_jax.models.tetfn",
    "almt": "msa_jax.models.almt",
    "mag_bert": "msa_jax.models.mag_bert",
    "cenet": "msa_jax.models.cenet",
    "emt_dlfr": "msa_jax.models.emt_dlfr",
    "tfr_net": "msa_jax.models.tfr_net",
    "lnln": "msa_jax.models.lnln",
    "dlf": "msa_jax.models.dlf",
}


def declaration(name: str) -> "Declaration":
    """What is known of the model ``name``.

    Raises:
      ConfigError: if there is none of that name.
    """
    if name not in MODELS:
        raise ConfigError(
            f"model.name={name!r} is unknown; there are {', '.join(MODELS)}.{nearest(name, MODELS)}"
        )
    return importlib.import_module(MODELS[name]).MODEL


def preset(name: str, key: str) -> "Preset":
    """The hyper-parameters of the model ``name`` that were found on the data set ``key``.

    Raises:
      ConfigError: for an unknown model, or a preset that it does not have.
    """
    known = declaration(name).presets
    if key not in known:
        raise ConfigError(f"{name} has no preset {key!r}; it has {', '.join(known)}.{nearest(key, known)}")
    return known[key]


def block(name: str, key: str) -> Config:
    """The model block of a configuration: the settings of the model ``name`` with the preset ``key``.

    Raises:
      ConfigError: as :func:`preset`.
    """
    made = typed_settings.block_of(preset(name, key).settings)
    made.name = name
    return made


def read(model: Config) -> "BaseSettings":
    """A model block as the settings of the model that ``model.name`` asks for.

    Raises:
      ConfigError: for an unknown name or key, or values that the model cannot use on any data.
    """
    return typed_settings.read(declaration(model.name).settings, model, "model")


def check(model: Config) -> None:
    """Raises ConfigError for a model block that no data could make right; see :func:`read`."""
    read(model)


def build(model: Config, spec: "DatasetSpec") -> "nn.Module":
    """The Linen module that ``model.name`` asks for.

    Raises:
      ConfigError: as :func:`read`, and for values that do not go with the data.
    """
    return declaration(model.name).build(read(model), spec)


def objective(model: Config, spec: "DatasetSpec") -> "Objective":
    """How the model that ``model.name`` asks for is trained.

    Raises:
      ConfigError: as :func:`build`.
    """
    return declaration(model.name).objective(read(model), spec)


def frozen(model: Config) -> tuple[str, ...]:
    """Paths of parameters (patterns as in a shell) that the model named ``model.name`` does not train."""
    return declaration(model.name).frozen(read(model))


def steps_read(model: Config) -> tuple[int, int, int] | None:
    """How many first steps of text, audio and vision the model named ``model.name`` reads; None: all."""
    return declaration(model.name).steps_read(read(model))
