"""Single test clips of finished runs, as a table: ``msa-jax cases RUN_A [RUN_B] --rule=error --k=20``.

What the table shows comes from the runs' predictions; nothing is computed again. Transcripts come from the
data, where it still lies where the first run's configuration says.
"""

import pathlib

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.errors import RunError
from msa_jax.files import check_target
from msa_jax.messages import LOGGER
from msa_jax.reports import cases

#: What to do where a file cannot be written.
_ADVICE = "make room, or name another file"


def main(argv: list[str]) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    messages.set_up(options, answers=True)
    if options.ids and options.rule:
        raise RunError("--ids and --rule both say which clips; give one of them.")
    folders = [folder for folder in (options.run_a, options.run_b) if folder is not None]
    for option, path in (("--out", options.out), ("--page", options.page)):
        if path is not None:
            check_target(option, path, *folders)
    runs = cases.read_runs(folders)
    found = cases.pick(
        runs, [str(folder) for folder in folders], options.k, options.rule or "error", _ids(options.ids)
    )
    _show(found)
    for note in found.notes:
        LOGGER.info("note: %s", note)
    if options.out is not None:
        cases.write_csv(found, options.out, _ADVICE)
        LOGGER.info("wrote %s: %d clips", options.out, len(found.rows))
    if options.page is not None:
        cases.write_page(found, options.page, f"Cases of {' and '.join(map(str, folders))}", _ADVICE)
        LOGGER.info("wrote %s", options.page)


def _parser() -> Parser:
    parser = Parser(
        "cases",
        "Single test clips of a finished run, or of two beside each other: what every head says and how far "
        "it is from the label.",
        [
            "cases runs/first --k=10",
            "cases runs/a runs/b --rule=b_right_a_wrong --out=cases.csv --page=cases.html",
        ],
    )
    parser.add_argument("run_a", type=pathlib.Path, metavar="RUN_A", help="folder of a finished run")
    parser.add_argument(
        "run_b",
        type=pathlib.Path,
        nargs="?",
        metavar="RUN_B",
        help="folder of another one, tested on the same clips",
    )
    parser.add_argument("--k", type=int, default=20, help="how many clips at most (default: 20)")
    parser.add_argument(
        "--rule",
        choices=cases.RULES,
        help="; ".join(f"{name}: {what}" for name, what in cases.RULES.items()) + " (default: error)",
    )
    parser.add_argument("--ids", default="", metavar="ID,ID", help="clips by name in place of a rule")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE.csv", help="writes the table as CSV too")
    parser.add_argument("--page", type=pathlib.Path, metavar="FILE.html", help="writes it as a page too")
    return parser


def _ids(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(found: cases.Cases) -> None:
    """Prints the table; ids and transcripts are shown as they are, whatever they hold."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print(found.how)
    for side in found.sides:
        print(f"{side.letter}: {side.name}")
    header, rows = cases.as_rows(found, ".2f")
    words = 1 + found.has_transcripts
    table = Table()
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cases.one_line(cell)) for cell in row))
    Console(highlight=False).print(table)
