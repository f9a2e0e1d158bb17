"""Trains and evaluates one model: ``python -m msa_jax.main --config=configs/mosi.py --workdir=DIR``."""

import argparse

from msa_jax import config as configuration
from msa_jax.errors import run_command
from msa_jax.large_pages import restart_with_large_pages


def main(argv: list[str]) -> None:
    """The command; the same one goes on with a run that was stopped or killed."""
    parser = argparse.ArgumentParser(prog="python -m msa_jax.main", description=__doc__, allow_abbrev=False)
    configuration.add_arguments(parser)
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
    arguments, config = configuration.parse_command(parser, argv)
    # Here, not at the top: --help and misspelt keys need not wait for JAX to start.
    from msa_jax import compiler_memory
    from msa_jax.train import loop, processes, setup

    if arguments.distributed:
        processes.join()
    setup.use_compile_cache(arguments.compile_cache)
    compiler_memory.release_after_compiling()
    loop.train_and_evaluate(config, arguments.workdir)


if __name__ == "__main__":
    restart_with_large_pages("msa_jax.main")
    run_command(main)
