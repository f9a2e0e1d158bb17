"""Cai et al. 2025, Tables 3 (CMU-MOSI), 4 (CMU-MOSEI) and 5 (CH-SIMS): all models compared.

msa-jax study --study=configs/studies/cai_tables3to5.py:synthetic,tiny --workdir=runs/tables3to5
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds

#: In the order of the tables.
MODELS = (
    "ef_lstm",
    "lf_dnn",
    "tfn",
    "lmf",
    "mfn",
    "graph_mfn",
    "mult",
    "misa",
    "self_mm",
    "mmim",
    "ufen_mtfn",
)


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosi", "mosei", "sims"), encoder=True)
    return Study(
        title=f"{printed.CAI}, Tables 3 to 5: models compared",
        cells=grid(asked.data, models(*MODELS, encoder=asked.encoder), seeds(5), tiny=asked.tiny),
        base={"model": "ufen_mtfn"},
        targets=printed.models_of_cai(),
        source=printed.CAI,
        note="Most baselines are quoted there from other papers, which fine-tuned a BERT.",
    )
