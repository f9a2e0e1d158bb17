"""Zheng et al. 2024, Table 6: fine-grained extraction on CMU-MOSEI, classes.

msa-jax study --study=configs/studies/zheng_table6.py:synthetic,tiny --workdir=runs/zheng6
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
)
VARIANTS = {"base": "task=classification", "-fg": "fg=both,task=classification"}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosei",), encoder=True)
    return Study(
        title=f"{printed.ZHENG}, Table 6: fine-grained extraction on CMU-MOSEI, classes",
        cells=grid(
            asked.data, models(*MODELS, encoder=asked.encoder), words(VARIANTS), seeds(5), tiny=asked.tiny
        ),
        base={"variant": "base"},
        targets=printed.figures("zheng_table6"),
        source=printed.ZHENG,
        note="Non0 as printed counts no positive clip as right: compare the columns named compat.",
    )
