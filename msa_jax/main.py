"""Trains and evaluates one model: ``python -m msa_jax.main --config=configs/mosi.py --workdir=DIR``."""

from msa_jax.commands.train import main
from msa_jax.errors import run_command

if __name__ == "__main__":
    run_command(main)
