"""All models, by name. Each module has ``build(model, spec)`` and ``objective(model, spec)``."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from msa_jax.config import Config
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError, nearest
from msa_jax.models import (
    almt,
    ef_lstm,
    graph_mfn,
    lf_dnn,
    lmf,
    mfn,
    misa,
    mlf_dnn,
    mlmf,
    mmim,
    mtfn,
    mult,
    self_mm,
    tetfn,
    tfn,
    tmt,
    ufen_mtfn,
)
from msa_jax.models.objectives import Objective


def _none(_model: Config) -> tuple[str, ...]:
    return ()


def _all(_model: Config) -> None:
    return None


class ModelEntry(NamedTuple):
    """How a model is made from the model block of a configuration and a data set.

    Attributes:
      build: gives the Linen module.
      objective: gives what it is trained by.
      frozen: gives the paths of parameters (patterns as in a shell) that are not trained.
      steps_read: gives how many first steps of text, audio and vision are read; None: all.
    """

    build: Callable[[Config, DatasetSpec], nn.Module]
    objective: Callable[[Config, DatasetSpec], Objective]
    frozen: Callable[[Config], tuple[str, ...]] = _none
    steps_read: Callable[[Config], tuple[int, int, int] | None] = _all


MODELS: dict[str, ModelEntry] = {
    "ufen_mtfn": ModelEntry(ufen_mtfn.build, ufen_mtfn.objective),
    "ef_lstm": ModelEntry(ef_lstm.build, ef_lstm.objective),
    "lf_dnn": ModelEntry(lf_dnn.build, lf_dnn.objective),
    "tfn": ModelEntry(tfn.build, tfn.objective),
    "lmf": ModelEntry(lmf.build, lmf.objective, lmf.frozen),
    "mfn": ModelEntry(mfn.build, mfn.objective),
    "graph_mfn": ModelEntry(graph_mfn.build, graph_mfn.objective, graph_mfn.frozen),
    "mlf_dnn": ModelEntry(mlf_dnn.build, mlf_dnn.objective),
    "mtfn": ModelEntry(mtfn.build, mtfn.objective),
    "mlmf": ModelEntry(mlmf.build, mlmf.objective, mlmf.frozen),
    "mult": ModelEntry(mult.build, mult.objective),
    "tmt": ModelEntry(tmt.build, tmt.objective, steps_read=tmt.steps_read),
    "misa": ModelEntry(misa.build, misa.objective),
    "mmim": ModelEntry(mmim.build, mmim.objective, mmim.frozen),
    "self_mm": ModelEntry(self_mm.build, self_mm.objective),
    "tetfn": ModelEntry(tetfn.build, tetfn.objective),
    "almt": ModelEntry(almt.build, almt.objective),
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


def objective(model: Config, spec: DatasetSpec) -> Objective:
    """How the model that ``model.name`` asks for is trained.

    Raises:
      ConfigError: for an unknown name, or values that the model cannot use.
    """
    return _entry(model.name).objective(model, spec)


def frozen(model: Config) -> tuple[str, ...]:
    """Paths of parameters (patterns as in a shell) that the model named ``model.name`` does not train."""
    return _entry(model.name).frozen(model)


def steps_read(model: Config) -> tuple[int, int, int] | None:
    """How many first steps of text, audio and vision the model named ``model.name`` reads; None: all."""
    return _entry(model.name).steps_read(model)
