"""``python -m msa_jax NAME`` runs the command NAME; without a name it lists them."""

from msa_jax.commands import run

if __name__ == "__main__":
    run()
