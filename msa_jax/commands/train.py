"""Trains and evaluates one model, and writes its report."""

import argparse
import pathlib
from typing import Any

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser, add_compile_cache
from msa_jax.errors import ConfigError
from msa_jax.messages import LOGGER

#: What a first run on generated clips says at its end.
NEXT = """
These clips are generated. What to do next:
  your own data   msa-jax check-data FILE.pkl, then docs/guides/own_data.md
  another model   msa-jax train --config=configs/synthetic.py:lf_dnn --workdir=runs/lf_dnn
  compare         msa-jax study --study=configs/studies/cai_tables3to5.py:synthetic,tiny --workdir=runs/study
  score clips     msa-jax predict --workdir={workdir} --input=FILE.pkl
msa-jax train alone lists models, data sets and settings."""


def main(argv: list[str]) -> int:
    """The command, which goes on with a run that was stopped or killed; returns 1 where a seed failed."""
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
    add_compile_cache(parser)
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
    parser.add_argument(
        "--seeds",
        type=int,
        default=0,
        metavar="N",
        help="train N seeds, train.seed and those that follow, and write a table of them: each is a run in "
        "a folder of its own under DIR/cells",
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="train K folds by groups (data.group), each tested once, and write a table of each and of all "
        "together; with --seeds every seed of every fold",
    )
    parser.add_argument(
        "--how", default="auto", metavar="HOW", help="how seeds are trained, see msa-jax study"
    )
    arguments, rest = parser.parse_known_args(argv)
    overrides = configuration.read_overrides(parser, rest)
    config = configuration.load(arguments.config, overrides)
    messages.set_up(arguments)
    if arguments.seeds or arguments.folds:
        return train_several(arguments, config, overrides)
    # Here, not at the top: --help need not wait for JAX to start.
    from msa_jax.training import build, processes

    if arguments.distributed:
        processes.join()
    build.use_compile_cache(arguments.compile_cache)
    train_and_report(config, arguments.workdir, arguments.profile)
    return 0


def train_several(arguments: argparse.Namespace, config: configuration.Config, overrides: list[str]) -> int:
    """Trains seeds and folds of one configuration as a study; returns 1 where one failed.

    Raises:
      ConfigError: for arguments that several runs do not go with.
    """
    from msa_jax.data import division
    from msa_jax.studies.grid import checked, of_seeds
    from msa_jax.studies.run import Execution, run_declared

    for flag, given in (("--distributed", arguments.distributed), ("--profile", arguments.profile)):
        if given:
            raise ConfigError(f"{flag} is for a single run; leave out --seeds and --folds.")
    study = of_seeds(arguments.config, config, arguments.seeds or 1, arguments.folds)
    # The seed that was given is the first of them.
    shared = [override for override in overrides if not override.startswith("train.seed=")]
    if arguments.folds:
        for key in ("data.folds", "data.fold"):
            if any(override.startswith(f"{key}=") for override in overrides):
                raise ConfigError(f"--config.{key} is for a single run; --folds sets it.")
        for _, cell in checked(study, shared).values():
            division.check_setting(cell.data)
    execution = Execution(how=arguments.how, compile_cache=arguments.compile_cache)
    return 1 if run_declared(study, arguments.config, arguments.workdir, shared, execution) else 0


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
