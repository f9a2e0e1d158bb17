"""Writes the report of a finished run again: ``msa-jax report --workdir=DIR``."""

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.messages import LOGGER


def main(argv: list[str]) -> None:
    """The command; it reads the run's files and writes ``report.html`` beside them."""
    parser = Parser(
        "report",
        "Writes the report page of a finished run again, from the files in its folder.",
        ["report --workdir=runs/first"],
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a finished run")
    arguments = parser.parse_args(argv)
    messages.set_up(arguments)
    # Here, not at the top: --help need not wait for the plotting library.
    from msa_jax.reports import page

    LOGGER.info(page.write_report(arguments.workdir))
