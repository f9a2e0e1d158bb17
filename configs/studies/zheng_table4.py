"""Zheng et al. 2024, Table 4: fine-grained extraction on CMU-MOSEI, scores.

msa-jax study --study=configs/studies/zheng_table4.py:synthetic,tiny --workdir=runs/zheng4
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, words

MODELS = (
    "lf_dnn",
    "tfn",
    "lmf",
    "mfn",
    "graph_mfn",
    "mult",
    "misa",
    "self_mm",
    "tetfn",
    "almt",
    "tmt",
)
VARIANTS = {"base": "", "-fg": "fg=both"}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosei",), encoder=True)
    return Study(
        title=f"{printed.ZHENG}, Table 4: fine-grained extraction on CMU-MOSEI, scores",
        cells=grid(
            asked.data, models(*MODELS, encoder=asked.encoder), words(VARIANTS), seeds(5), tiny=asked.tiny
        ),
        base={"variant": "base"},
        targets=printed.figures("zheng_table4"),
        source=printed.ZHENG,
    )
