"""What a configuration builds: parameters, operations and memory, without data.

Shapes are those of the public files. MACs count matrix products and convolutions of a prediction at
full length (see :mod:`msa_jax.summary.operations`); the memory is what XLA plans for one training
step at full length on this machine.
"""

import functools
from typing import Any

import jax
import numpy as np

from msa_jax import models
from msa_jax.configuration import Config
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.summary import thop
from msa_jax.summary.operations import count_macs
from msa_jax.training import build, checks, optim, pretrained, state, step


def summarise_as_thop(config: Config) -> dict[str, Any]:
    """Counts a configuration as published tables do, see :mod:`msa_jax.summary.thop`.

    Returns:
      "model", "dataset", "count" ("thop"), "parameters", "macs_per_sample", "macs_per_batch" (at
      train.batch_size), "batch_size".
    """
    spec, rows = opening.expected_spec(config), config.train.batch_size
    block = config.copy_and_resolve_references().model
    with block.unlocked():
        block.compat = True
    batch = jax.eval_shape(lambda: example_batch(spec, rows))
    counts = thop.count(models.build(block, spec), batch, block.name)
    return {
        "model": block.name,
        "dataset": spec.name,
        "count": "thop",
        "parameters": counts.parameters,
        "macs_per_sample": counts.operations // rows,
        "macs_per_batch": counts.operations,
        "batch_size": rows,
    }


def summarise(config: Config) -> dict[str, Any]:
    """Counts a configuration.

    Returns:
      "model", "dataset", "parameters", "parameter_shapes" {path: shape}, "parameter_groups" {path:
      optimiser group}, "groups" {group: {"parameters", "learning_rate", "weight_decay"}},
      "macs_per_sample", "macs_per_batch" (at train.batch_size), "batch_size", "step_memory_bytes", and
      its parts "state_and_batch_bytes" and "intermediates_bytes".

    Raises:
      ConfigError: for settings that cannot work, a group that matches no parameter among them.
    """
    checks.check_values(config)
    config = pretrained.with_sizes(config, need_folder=False)
    spec = opening.expected_spec(config)
    learner = build.build_learner(config, spec, steps_per_epoch=1, mesh=build.build_mesh(1))

    def abstract(rows: int) -> Any:
        return jax.eval_shape(lambda: example_batch(spec, rows))

    one, many = abstract(1), abstract(config.train.batch_size)
    labels = {task: np.zeros(max(spec.counts["train"], 1), np.float32) for task in spec.tasks}
    memory, prelude = learner.objective.memory(labels, 1), learner.objective.prelude
    create = functools.partial(state.create_state, learner.model)
    fresh = jax.eval_shape(lambda b, m: create(b, learner.optimizer, 0, m, prelude), one, memory)
    names = _flat(optim.group_names(config.train, models.frozen(config.model), fresh.params))
    names |= dict.fromkeys(optim.matching(names, prelude.paths if prelude else ()), "prelude")

    def predict(s: state.TrainState, batch: Any) -> Any:
        return step.forward(learner, s.params, s, batch, train=False)[0].predictions

    train = jax.jit(lambda s, b: step.train_step(learner, s, b), donate_argnums=0)
    planned = train.lower(fresh, many).compile().memory_analysis()
    assert planned is not None
    shapes = {path: x.shape for path, x in _flat(fresh.params).items()}
    return {
        "model": config.model.name,
        "dataset": spec.name,
        "parameters": state.count_parameters(fresh.params),
        "parameter_shapes": {path: list(shape) for path, shape in shapes.items()},
        "parameter_groups": names,
        "groups": optim.describe_groups(config.train, names, shapes, prelude),
        "macs_per_sample": count_macs(predict, fresh, one),
        "macs_per_batch": count_macs(predict, fresh, many),
        "batch_size": config.train.batch_size,
        "step_memory_bytes": planned.argument_size_in_bytes + planned.temp_size_in_bytes,
        "state_and_batch_bytes": planned.argument_size_in_bytes,
        "intermediates_bytes": planned.temp_size_in_bytes,
    }


def operations(config: Config, spec: DatasetSpec) -> int:
    """Multiply-accumulates of one prediction at full length; only shapes are computed.

    Args:
      config: of a run, as its folder has it.
      spec: the run's data set as its model reads it.

    Raises:
      ConfigError: for a model that the configuration does not build.
    """
    model, clip = models.build(config.model, spec), jax.eval_shape(lambda: example_batch(spec, 1))
    variables = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), clip)
    return count_macs(lambda v, b: model.apply(v, b, train=False), variables, clip)


def _flat(tree: Any) -> dict[str, Any]:
    """A tree's leaves by path, "a/b/c"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
