"""Runs a declared study and writes its tables and its page."""

import pathlib

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser


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
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        metavar="N",
        help="how many cells at once (default: as many as memory and cores bear)",
    )
    parser.add_argument(
        "--compile-cache",
        default="",
        metavar="DIR",
        help="where compiled programs are kept between runs (default: the user's cache folder; off: nowhere)",
    )
    arguments, rest = parser.parse_known_args(argv)
    overrides = configuration.read_overrides(parser, rest)
    messages.set_up(arguments)
    from msa_jax.studies.run import run_study

    failed = run_study(
        arguments.study,
        pathlib.Path(arguments.workdir),
        overrides,
        arguments.processes,
        arguments.compile_cache,
    )
    return 1 if failed else 0
