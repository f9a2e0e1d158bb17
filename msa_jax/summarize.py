"""What a configuration builds: ``python -m msa_jax.summarize --config=configs/sims.py:ufen_mtfn,fg=both``.

Needs no data: shapes are those of the public files. MACs count matrix products and convolutions of a
prediction at full length (see :mod:`msa_jax.macs`); the memory is what XLA plans for one training
step at full length on this machine.
"""

import argparse
import json
import math
from typing import Any

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
      "model", "dataset", "parameters", "parameter_shapes" {path: shape}, "macs_per_sample",
      "macs_per_batch" (at train.batch_size), "batch_size", "step_memory_bytes", and its parts
      "state_and_batch_bytes" and "intermediates_bytes".
    """
    import jax

    from msa_jax.data.batch import example_batch
    from msa_jax.macs import count_macs
    from msa_jax.train import setup, state, step

    setup.check_train_block(config.train)
    spec = configuration.expected_spec(config)
    learner = setup.build_learner(config, spec, steps_per_epoch=1, mesh=setup.build_mesh(1))

    def abstract(rows: int) -> Any:
        return jax.eval_shape(lambda: example_batch(spec, rows))

    one, many = abstract(1), abstract(config.train.batch_size)
    fresh = jax.eval_shape(lambda b: state.create_state(learner.model, b, learner.optimizer, 0), one)

    def predict(s: state.TrainState, batch: Any) -> Any:
        return step.forward(learner, s.params, s, batch, train=False)[0].predictions

    train = jax.jit(lambda s, b: step.train_step(learner, s, b), donate_argnums=0)
    planned = train.lower(fresh, many).compile().memory_analysis()
    assert planned is not None
    paths = jax.tree_util.tree_leaves_with_path(fresh.params)
    return {
        "model": config.model.name,
        "dataset": spec.name,
        "parameters": state.count_parameters(fresh.params),
        "parameter_shapes": {
            jax.tree_util.keystr(p, simple=True, separator="/"): list(x.shape) for p, x in paths
        },
        "macs_per_sample": count_macs(predict, fresh, one),
        "macs_per_batch": count_macs(predict, fresh, many),
        "batch_size": config.train.batch_size,
        "step_memory_bytes": planned.argument_size_in_bytes + planned.temp_size_in_bytes,
        "state_and_batch_bytes": planned.argument_size_in_bytes,
        "intermediates_bytes": planned.temp_size_in_bytes,
    }


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
    for path, shape in summary["parameter_shapes"].items():
        table.add_row(path, "x".join(map(str, shape)), f"{math.prod(shape):,}")
    console.print(table)
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
