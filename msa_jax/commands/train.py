"""Trains and evaluates one model, and writes its report."""

import pathlib
from typing import Any

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser
from msa_jax.messages import LOGGER

#: What a first run on generated clips says at its end.
NEXT = """
These clips are generated. What to do next:
  your own data   msa-jax check-data FILE.pkl, then docs/guides/own_data.md
  another model   msa-jax train --config=configs/synthetic.py:lf_dnn --workdir=runs/lf_dnn
  compare         msa-jax study --study=configs/studies/cai_tables3to5.py:synthetic,tiny --workdir=runs/study
  score clips     msa-jax predict --workdir={workdir} --input=FILE.pkl
msa-jax train alone lists models, data sets and settings."""


def main(argv: list[str]) -> None:
    """The command; the same one goes on with a run that was stopped or killed."""
    parser = Parser(
        "train",
        "Trains and evaluates one model, and writes its report. The same command goes on with a run that was "
        "stopped.",
        [
            "train --config=configs/synthetic.py --workdir=runs/first",
            "train --config=configs/mosi.py:tfn --config.data.path=unaligned_50.pkl --workdir=runs/tfn",
        ],
        configured=True,
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of this run; made if absent")
    parser.add_argument(
        "--compile-cache",
        default="",
        metavar="DIR",
        help="where compiled programs are kept between runs (default: the user's cache folder; off: nowhere)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="this is one of several processes, named by Slurm, a TPU slice, or JAX_COORDINATOR_ADDRESS, "
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    parser.add_argument(
        "--profile",
        default="",
        metavar="DIR",
        help="write a JAX trace of some steps, after those that compile, into this folder",
    )
    arguments, config = configuration.parse_command(parser, argv)
    messages.set_up(arguments)
    # Here, not at the top: --help need not wait for JAX to start.
    from msa_jax.training import build, processes

    if arguments.distributed:
        processes.join()
    build.use_compile_cache(arguments.compile_cache)
    train_and_report(config, arguments.workdir, arguments.profile)


def train_and_report(
    config: configuration.Config, workdir: str | pathlib.Path, profile: str = ""
) -> dict[str, Any]:
    """Trains, or goes on with, a run, and writes its report.

    Args:
      config: of the run.
      workdir: its folder.
      profile: folder for a trace of some steps; "" for none.

    Returns:
      What ``result.json`` holds.

    Raises:
      MsaJaxError: for anything that the user can fix.
    """
    import jax

    from msa_jax.training import loop

    result = loop.train_and_evaluate(config, workdir, profile)
    if jax.process_index() == 0:
        show(config, workdir, result)
    return result


def show(config: configuration.Config, workdir: str | pathlib.Path, result: dict[str, Any]) -> None:
    """Writes the report of a finished run and prints its table."""
    from msa_jax.reports import page, targets
    from msa_jax.reports.run import read_run
    from msa_jax.training import watched
    from msa_jax.training.display import print_scores

    path = page.write_report(workdir)
    spec = read_run(path.parent).spec
    columns = {"test": result["test"], "valid": result["valid"]}
    if best := result.get(watched.RESULT):
        columns[watched.LABEL] = best["test"]
    if target := targets.target_for(spec, config.model):
        columns["paper"] = target
    if result.get("best_reachable"):
        columns["best reachable"] = dict(result["best_reachable"])
    if not messages.quiet():
        print_scores(f"{config.model.name} on {spec.name}", columns)
    LOGGER.info("report: %s", path)
    if config.data.source == "synthetic":
        LOGGER.info(NEXT.format(workdir=workdir))
