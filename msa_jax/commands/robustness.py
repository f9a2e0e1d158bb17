"""Finished runs under a protocol of missing data.

    msa-jax robustness --workdir=RUN --protocol=frames [--rates=0,0.25,0.5] [--each]

RUN is a run's folder, several, or a study's; runs that differ in the seed alone become one row with its
deviation.
"""

import pathlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from msa_jax import messages
from msa_jax.commands.usage import Parser, add_compile_cache
from msa_jax.data.spec import SPLITS
from msa_jax.errors import ConfigError
from msa_jax.messages import LOGGER

if TYPE_CHECKING:
    from msa_jax.studies.robustness_tables import Sheet

#: A run's page, which gets a section.
_REPORT = "report.html"
_EXAMPLES = [
    "robustness --workdir=runs/first --protocol=frames --each",
    "robustness --workdir runs/a runs/b runs/c --protocol=subsets",
    "robustness --workdir=runs/study --protocol=tfrnet --rates=0,0.1,0.2,0.3,0.4,0.5",
]


def main(argv: list[str]) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    messages.set_up(options)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.robust import protocols, table
    from msa_jax.studies import robustness, robustness_tables
    from msa_jax.training import build

    asked = robustness.Asked(
        protocols.protocol_of(options.protocol),
        _rates(options.rates),
        options.each,
        options.compat,
        options.split,
        options.input,
    )
    runs = robustness.find_runs(options.workdir)
    if options.out is None and len(options.workdir) > 1:
        raise ConfigError("several folders have no common place for the tables; name one with --out.")
    robustness.check(runs, asked)
    build.use_compile_cache(options.compile_cache)
    count = sum(len(seeds) for seeds in runs.values())
    with _bar() as bar:
        task = bar.add_task(options.protocol, total=robustness.evaluations(asked, count))
        rows = [
            robustness.measure_row(label, seeds, asked, lambda: bar.advance(task))
            for label, seeds in runs.items()
        ]
    out = options.out or options.workdir[0] / table.FOLDER / options.protocol
    paths = robustness_tables.write(rows, asked, out)
    _print(robustness_tables.sheets(rows, asked)[0], robustness_tables.notes(rows, asked))
    LOGGER.info("wrote %s", ", ".join(map(str, paths)))
    if options.out is None and (options.workdir[0] / _REPORT).exists():
        from msa_jax.reports import page

        LOGGER.info("report: %s", page.write_report(options.workdir[0]))


def _parser() -> Parser:
    parser = Parser(
        "robustness",
        "Measures finished runs when words, frames or whole modalities of the clips are missing, under a "
        "published protocol by name.",
        _EXAMPLES,
    )
    parser.add_argument(
        "--workdir",
        required=True,
        nargs="+",
        type=pathlib.Path,
        metavar="RUN",
        help="folders of finished runs, or of a study",
    )
    parser.add_argument(
        "--protocol",
        required=True,
        metavar="NAME",
        help="tfrnet, emt, lnln, openvna_random, openvna_structural, gcnet, imder, subsets, frames, blocks, "
        "noise or exchange",
    )
    parser.add_argument(
        "--rates", default="", metavar="R,R", help="in place of the published ones; of noise in decibels"
    )
    parser.add_argument("--each", action="store_true", help="a curve for every modality alone too")
    parser.add_argument(
        "--compat", action="store_true", help="lose what the public code does, with its faults"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument(
        "--input", type=pathlib.Path, metavar="FILE", help="labelled clips in place of the runs' own data"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="DIR", help="default: robustness/NAME in the run's folder"
    )
    add_compile_cache(parser)
    return parser


def _rates(text: str) -> tuple[float, ...]:
    """The rates, ascending and without repetition."""
    if not text:
        return ()
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise ConfigError(f"--rates={text} is not a list of numbers; write it like 0,0.1,0.5.") from None


def _bar() -> Progress:
    console = Console(quiet=messages.quiet(), highlight=False)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True,
        disable=not console.is_terminal or messages.quiet(),
    )  # fmt: skip


def _print(sheet: "Sheet", notes: list[str]) -> None:
    if messages.quiet():
        return
    table = Table(title=sheet.title, title_justify="left")
    for number, name in enumerate(sheet.header):
        table.add_column(name, justify="right" if number else "left")
    for line in sheet.lines:
        table.add_row(
            *(text.partition(" ±")[0] for text in line)
        )  # deviations would wrap; the files have them
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(f"- {note}", markup=False)
