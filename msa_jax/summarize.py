"""What a configuration builds: ``python -m msa_jax.summarize --config=configs/sims.py:ufen_mtfn,fg=both``.

Needs no data: shapes are those of the public files. MACs count matrix products and convolutions of a
prediction at full length (see :mod:`msa_jax.macs`); the memory is what XLA plans for one training
step at full length on this machine.
"""

import argparse
import functools
import json
import math
from typing import Any

import numpy as np

from msa_jax import config as configuration
from msa_jax.errors import run_command

MEMORY_PARTS = {"state_and_batch_bytes": "state and batch", "intermediates_bytes": "intermediates"}


def summarise_as_thop(config: configuration.Config) -> dict[str, Any]:
    """Counts a configuration as published tables do, see :mod:`msa_jax.thop`.

    Returns:
      "model", "dataset", "count" ("thop"), "parameters", "macs_per_sample", "macs_per_batch" (at
      train.batch_size), "batch_size".
    """
    import jax

    from msa_jax import models, thop
    from msa_jax.data.batch import example_batch

    spec, rows = configuration.expected_spec(config), config.train.batch_size
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


def summarise(config: configuration.Config) -> dict[str, Any]:
    """Counts a configuration.

    Returns:
      "model", "dataset", "parameters", "parameter_shapes" {path: shape}, "parameter_groups" {path:
      optimiser group}, "groups" {group: {"parameters", "learning_rate", "weight_decay"}},
      "macs_per_sample", "macs_per_batch" (at train.batch_size), "batch_size", "step_memory_bytes", and
      its parts "state_and_batch_bytes" and "intermediates_bytes".

    Raises:
      ConfigError: for settings that cannot work, a group that matches no parameter among them.
    """
    import jax

    from msa_jax import models
    from msa_jax.data.batch import example_batch
    from msa_jax.macs import count_macs
    from msa_jax.train import optim, pretrained, setup, state, step

    setup.check_train_block(config.train)
    config = pretrained.with_sizes(config, need_folder=False)
    spec = configuration.expected_spec(config)
    learner = setup.build_learner(config, spec, steps_per_epoch=1, mesh=setup.build_mesh(1))

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


def _flat(tree: Any) -> dict[str, Any]:
    """A tree's leaves by path, "a/b/c"."""
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def show(summary: dict[str, Any]) -> None:
    """Prints the parameter tree and the totals."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    totals = [
        f"parameters           {summary['parameters']:,}",
        f"MACs of one sample   {summary['macs_per_sample']:,}",
        f"MACs of one batch    {summary['macs_per_batch']:,} ({summary['batch_size']} samples)",
    ]
    if summary.get("count") == "thop":
        console.print(f"{summary['model']} on {summary['dataset']}, counted as thop does", *totals, sep="\n")
        return
    table = Table(title=f"{summary['model']} on {summary['dataset']}")
    table.add_column("parameter")
    table.add_column("shape")
    table.add_column("count", justify="right")
    table.add_column("group")
    for path, shape in summary["parameter_shapes"].items():
        group = summary["parameter_groups"][path]
        table.add_row(path, "x".join(map(str, shape)), f"{math.prod(shape):,}", group)
    console.print(table)
    for name, group in summary["groups"].items():
        rates = f"learning rate {group['learning_rate']:g}, weight decay {group['weight_decay']:g}"
        console.print(f"group {name:14} {group['parameters']:>13,} parameters, {rates}")
    console.print(*totals, sep="\n")
    parts = ", ".join(f"{words} {summary[key] / 2**20:,.1f}" for key, words in MEMORY_PARTS.items())
    console.print(f"memory of a step     {summary['step_memory_bytes'] / 2**20:,.1f} MiB ({parts})")


def main(argv: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m msa_jax.summarize", allow_abbrev=False)
    configuration.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--count",
        choices=("all", "thop"),
        default="all",
        help="all: every trainable number and product; thop: as the profiler of published tables counts",
    )
    arguments, config = configuration.parse_command(parser, argv)
    summary = summarise(config) if arguments.count == "all" else summarise_as_thop(config)
    if arguments.json:
        print(json.dumps(summary))
    else:
        show(summary)


if __name__ == "__main__":
    run_command(main)
