"""Parameters, operations and memory of what a configuration builds; needs no data.

msa-jax summarize --config=configs/sims.py:ufen_mtfn,fg=both [--json] [--count=thop]
"""

import json
import math
from typing import Any

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser

MEMORY_PARTS = {"state_and_batch_bytes": "state and batch", "intermediates_bytes": "intermediates"}


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
    parser = Parser(
        "summarize",
        "Parameters, operations and memory of what a configuration builds; needs no data.",
        ["summarize --config=configs/sims.py:mult"],
        configured=True,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--count",
        choices=("all", "thop"),
        default="all",
        help="all: every trainable number and product; thop: as the profiler of published tables counts",
    )
    arguments, config = configuration.parse_command(parser, argv)
    messages.set_up(arguments, answers=True)
    from msa_jax.summary import counting  # here, not at the top: --help need not wait for JAX to start

    count = counting.summarise if arguments.count == "all" else counting.summarise_as_thop
    summary = count(config)
    if arguments.json:
        print(json.dumps(summary))
    else:
        show(summary)
