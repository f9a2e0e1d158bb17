"""Cai et al. 2025, Table 7: layers of convolution and self-attention in UFEN.

msa-jax study --study=configs/studies/cai_table7.py:synthetic,tiny --workdir=runs/table7
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, values


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, and tiny."""
    asked = read_argument(argument, data=("mosi", "sims"))
    layers = values("model.n_layers", 1, 2, 3, 4)
    return Study(
        title=f"{printed.CAI}, Table 7: number of layers",
        cells=grid(asked.data, models("ufen_mtfn"), layers, seeds(5), tiny=asked.tiny),
        base={"model.n_layers": "2"},
        targets=printed.of_model("cai_table7", "ufen_mtfn"),
        source=printed.CAI,
    )
