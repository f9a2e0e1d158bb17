"""Cai et al. 2025, Table 9: what each part of UFEN and MTFN is worth.

msa-jax study --study=configs/studies/cai_table9.py:synthetic,tiny --workdir=runs/table9
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, variants

PARTS = {
    "complete": {},
    "UFEN without self-attention": {"model.use_self_attention": False},
    "UFEN without Conv1D": {"model.use_conv": False},
    "UFEN without Bi-GRU": {"model.use_bigru": False},
    "MTFN without cross-modal attention": {"model.use_cross_attention": False},
    "MTFN without encoder-decoder": {"model.use_encoder_decoder": False},
    "without multi-task learning": {"model.multi_task": False},
}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, and tiny."""
    asked = read_argument(argument, data=("mosi", "sims"))
    return Study(
        title=f"{printed.CAI}, Table 9: parts taken away",
        cells=grid(asked.data, models("ufen_mtfn"), variants(PARTS), seeds(5), tiny=asked.tiny),
        base={"variant": "complete"},
        targets=printed.of_model("cai_table9", "ufen_mtfn"),
        source=printed.CAI,
    )
