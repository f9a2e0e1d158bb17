"""Runs a declared study and writes its tables and its page."""

import argparse
import pathlib
from typing import TYPE_CHECKING

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser, add_compile_cache

if TYPE_CHECKING:
    from msa_jax.studies.run import Execution


def main(argv: list[str]) -> int:
    """The command; returns 1 where a cell failed. The same command goes on with the cells that are left."""
    parser = Parser(
        "study",
        "Trains every cell of a declared grid (data sets x models x variants x seeds) and writes its tables "
        "and a page. The same command goes on with a study that was stopped.",
        ["study --study=configs/studies/cai_table9.py:synthetic,tiny --workdir=runs/table9"],
    )
    parser.add_argument(
        "--study",
        required=True,
        metavar="PATH.py[:ARGUMENT]",
        help="study file; behind the colon other data sets, and tiny for a try. Any setting of all cells is "
        "changed with --config.KEY=VALUE",
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the study; made if absent")
    add_execution(parser)
    arguments, rest = parser.parse_known_args(argv)
    overrides = configuration.read_overrides(parser, rest)
    messages.set_up(arguments)
    from msa_jax.studies.run import run_study

    execution = execution_of(arguments)
    failed = run_study(arguments.study, pathlib.Path(arguments.workdir), overrides, execution)
    return 1 if failed else 0


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say where and how a study's cells are trained."""
    parser.add_argument(
        "--executor",
        default="local",
        metavar="WHERE",
        help="local, this machine (default), or ray, a Ray cluster that exists, named by RAY_ADDRESS",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        metavar="N",
        help="how many cells at once on this machine (default: as many as memory and cores bear)",
    )
    parser.add_argument(
        "--resources",
        default="",
        metavar="NAME=N,...",
        help="what a cell takes of the Ray cluster, such as CPU=4,GPU=1 (default: CPU=1)",
    )
    parser.add_argument(
        "--how",
        default="auto",
        metavar="HOW",
        help="how several seeds of one configuration are trained: vmap, by one program; processes, by one "
        "each; auto (default), by one program where there is an accelerator",
    )
    add_compile_cache(parser)


def execution_of(arguments: argparse.Namespace) -> "Execution":
    """What the arguments of :func:`add_execution` say."""
    from msa_jax.studies.run import Execution

    fields = ("executor", "processes", "how", "resources", "compile_cache")
    return Execution(**{name: getattr(arguments, name) for name in fields})
