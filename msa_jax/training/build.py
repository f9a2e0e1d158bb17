"""Builds everything that a run needs from its configuration and data."""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax import metrics, models
from msa_jax.configuration import Config, require_choice
from msa_jax.data.batch import example_batch
from msa_jax.data.class_labels import as_classes
from msa_jax.data.context import CONTEXT
from msa_jax.data.dataset import Dataset
from msa_jax.data.loader import (
    Plan,
    Source,
    bucket_shapes,
    clip_lengths,
    fits_on_device,
    stored_shape,
)
from msa_jax.data.preprocess import Preprocess, preprocess_for
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError, DataError
from msa_jax.files import user_cache
from msa_jax.messages import LOGGER
from msa_jax.models.placeholders import with_placeholders
from msa_jax.training import optim, pretrained
from msa_jax.training.corrupt import absent_of, corrupt_of
from msa_jax.training.state import TrainState, count_parameters, create_state
from msa_jax.training.step import Learner, Programs

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Setup(NamedTuple):
    """A run, ready to start.

    Attributes:
      programs: the jitted training and prediction programs.
      state: fresh, whole on every device.
      sources: per split, the feeder of clips.
      train_plan: cuts the training split into steps.
      eval_plans: per split, cuts it for prediction.
      groups: the optimiser's groups of parameters that are trained.
      fresh: seed -> a state like ``state``.
    """

    programs: Programs
    state: TrainState
    sources: dict[str, Source]
    train_plan: Plan
    eval_plans: dict[str, Plan]
    groups: tuple[str, ...]
    fresh: Callable[[int], TrainState]


def build_mesh(devices: int, seeds: int = 0) -> Mesh:
    """All devices (0), or the first ``devices`` of them, on one "data" axis.

    Args:
      devices: how many.
      seeds: trained at once. A "seed" axis in front takes as many devices as divide both; the clips of a
        batch are spread over the rest. 0: there is no such axis.

    Raises:
      ConfigError: if there are fewer.
    """
    found = jax.devices()
    if devices > len(found):
        raise ConfigError(f"train.devices={devices}, but there are {len(found)}; 0 uses them all.")
    chosen = np.array(found[: devices or len(found)])
    if not seeds:
        return Mesh(chosen, ("data",))
    return Mesh(chosen.reshape(math.gcd(len(chosen), seeds), -1), ("seed", "data"))


def prepare(config: Config, dataset: Dataset) -> Dataset:
    """The data set as the configuration's model reads it: reduced, with scores or classes as labels.

    Raises:
      ConfigError: for settings that cannot work.
      DataError: if the labels cannot be classified.
    """
    dataset = preprocess_of(config, dataset.spec).prepare(dataset)
    _require_context(config, dataset)
    if config.model.task == "classification":
        return as_classes(dataset, config.model.classes)
    return dataset


def _require_context(config: Config, dataset: Dataset) -> None:
    """Raises DataError if the training clips were to have utterances before them and none has."""
    if config.data.context and not (np.asarray(dataset.splits["train"].tokens)[:, 1] == CONTEXT).any():
        raise DataError(
            f"data.context={config.data.context}, but no training clip of {dataset.spec.name} has an "
            "utterance before it: ids must name video and clip as VIDEO$_$CLIP does; correct them, or set "
            "data.context=0."
        )


def with_classes(config: Config, spec: DatasetSpec) -> Config:
    """The configuration with the number of classes that the data set has.

    Args:
      config: of a run.
      spec: of its data set, see :func:`prepare`.
    """
    if config.model.task != "classification":
        return config
    chosen = config.copy_and_resolve_references()
    with chosen.unlocked():
        chosen.model.classes = len(spec.class_names)
    return chosen


def preprocess_of(config: Config, spec: DatasetSpec, model: Config | None = None) -> Preprocess:
    """What happens to a run's clips before its model sees them.

    Args:
      config: of the run.
      spec: the data set as stored.
      model: the model block, where its encoder's folder has moved.
    """
    tokens = pretrained.token_source(model or config.model)
    if tokens is not None:
        tokens = dataclasses.replace(tokens, context=config.data.context)
    return preprocess_for(config, spec, tokens)


def build_learner(config: Config, spec: DatasetSpec, steps_per_epoch: int, mesh: Mesh) -> Learner:
    """The model, objective and optimiser of a configuration."""
    frozen = models.frozen(config.model)
    return Learner(
        model=_model_of(config, spec),
        objective=models.objective(config.model, spec),
        optimizer=optim.build_optimizer(config.train, steps_per_epoch, config.model.compat, frozen),
        dtype=PRECISIONS[config.train.precision],
        mesh=mesh,
        frozen=frozen,
    )


def _model_of(config: Config, spec: DatasetSpec) -> nn.Module:
    """The Linen module of a configuration, with placeholders where clips lose something in training."""
    model, kind, absent = models.build(config.model, spec), config.train.placeholder, absent_of(config)
    if kind == "zero" and not absent:
        return model
    tuned = pretrained.is_tuned(config.model)  # whose text is tokens, and a lost word the unknown one
    preprocess = preprocess_of(config, spec)
    means = {}
    for m in MODALITIES[1 if tuned else 0 :]:
        stored = np.asarray(spec.modalities[m].mean or np.zeros(spec.modalities[m].width), np.float32)
        means[m] = preprocess(m, stored[None, None], np.array([1]))[0, 0]
    return with_placeholders(model, spec, kind, absent, means)


def metric_keys(config: Config, spec: DatasetSpec) -> tuple[str, ...]:
    """The metrics of a run, in the order of a table."""
    if config.model.task == "classification":
        return metrics.classification_keys(spec.class_names)
    return metrics.regression_keys(spec.metrics, spec.label_range)


def build(config: Config, dataset: Dataset, seeds: int = 0) -> Setup:
    """Everything from model to loader; nothing has been computed on clips yet.

    Args:
      config: the whole configuration, see :func:`msa_jax.training.checks.check`.
      dataset: see :func:`prepare`.
      seeds: trained at once, see :mod:`msa_jax.training.seeds`; 0 for a run of its own.

    Raises:
      ConfigError: for settings that cannot work.
    """
    require_choice("train.monitor", config.train.monitor, ("loss", *metric_keys(config, dataset.spec)))
    mesh = build_mesh(config.train.devices, seeds)
    data, train = config.data, config.train
    resident = fits_on_device(dataset, data.resident, data.resident_gib)
    preprocess = preprocess_of(config, dataset.spec)
    read = models.steps_read(config.model)
    lengths = {name: clip_lengths(split, read) for name, split in dataset.splits.items()}
    if config.model.compat:  # the MMSA toolkit pads every batch to the stored length
        shapes = [stored_shape(dataset.spec)]
    else:
        shapes = bucket_shapes(lengths["train"], data.buckets, train.batch_size)
        longest = np.concatenate([np.array(shapes[-1:]), *lengths.values()]).max(axis=0)
        shapes[-1] = int(longest[0]), int(longest[1]), int(longest[2])
    devices = mesh.shape["data"]
    chunk_steps = train.chunk_steps or (1 if jax.default_backend() == "cpu" else 8)
    train_plan = Plan(lengths["train"], shapes, train.batch_size, chunk_steps, devices)
    eval_plans = {name: Plan(n, shapes, train.eval_batch_size, 1, devices) for name, n in lengths.items()}
    learner = build_learner(config, dataset.spec, train_plan.steps(), mesh)
    learner = learner._replace(corrupt=corrupt_of(config))
    example = example_batch(dataset.spec, 1, shapes[0])
    objective = learner.objective
    create = jax.jit(
        lambda seed, memory: create_state(
            learner.model, example, learner.optimizer, seed, memory, objective.prelude
        ),
        out_shardings=NamedSharding(mesh, P()),
    )
    memory = objective.memory(dataset.splits["train"].labels, train_plan.steps())

    def fresh(seed: int) -> TrainState:
        state = create(seed, memory)
        return state.replace(params=pretrained.load(state.params, config.model))

    state = fresh(train.seed)
    groups = optim.trained_groups(train, learner.frozen, state.params)  # before a folder is claimed
    sources = {name: Source(split, preprocess, mesh, resident) for name, split in dataset.splits.items()}
    _describe(mesh, train_plan, resident, state.params, groups)
    return Setup(Programs(learner), state, sources, train_plan, eval_plans, groups, fresh)


def _describe(mesh: Mesh, plan: Plan, resident: bool, params: Any, groups: tuple[str, ...]) -> None:
    """Says what was built, for whoever wants to know more."""
    first = mesh.devices.flat[0]
    LOGGER.debug("%d device(s): %s, the first is %s", mesh.devices.size, first.platform, first.device_kind)
    LOGGER.debug("%s parameters in the groups %s", f"{count_parameters(params):,}", ", ".join(groups))
    where = "on the device" if resident else "with the host, which hands over every chunk"
    LOGGER.debug("the features lie %s", where)
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in plan.shapes)
    LOGGER.debug("padded steps of text x audio x vision: %s", shapes)
    LOGGER.debug(
        "%d steps an epoch, of %d clips, up to %d a chunk", plan.steps(), plan.rows, plan.chunk_steps
    )


def use_compile_cache(folder: str) -> None:
    """Keeps compiled programs on disk between runs.

    Args:
      folder: where; "off" for nowhere, "" for the user's cache folder.
    """
    if folder == "off":
        return
    if not folder:
        folder = str(user_cache() / "compiled")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", folder)
        LOGGER.debug("compiled programs are kept in %s", folder)
