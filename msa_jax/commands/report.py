"""Writes the report of a finished run again, and a page over its test clips.

msa-jax report --workdir=DIR [--media=FOLDER]
"""

import pathlib

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.messages import LOGGER


def main(argv: list[str]) -> None:
    """The command; it reads the run's files and writes ``explorer.html`` and ``report.html`` beside them."""
    parser = Parser(
        "report",
        "Writes the report page of a finished run again, from the files in its folder, and a page over its "
        "test clips to sort, search and filter.",
        ["report --workdir=runs/first"],
    )
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, metavar="DIR", help="folder of a finished run"
    )
    parser.add_argument(
        "--media",
        type=pathlib.Path,
        metavar="FOLDER",
        help="of the clips themselves, ID.mp4, to play them; default: where msa-jax extract read them",
    )
    arguments = parser.parse_args(argv)
    messages.set_up(arguments)
    # Here, not at the top: --help need not wait for the plotting library.
    from msa_jax.reports import explorer, page
    from msa_jax.reports.run import read_run

    # First, so that the report finds it there and points to it.
    LOGGER.info(explorer.write(arguments.workdir, read_run(arguments.workdir), arguments.media))
    LOGGER.info(page.write_report(arguments.workdir))
