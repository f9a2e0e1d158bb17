"""Zheng et al. 2024, Table 7: fine-grained extraction on CH-SIMS, classes.

msa-jax study --study=configs/studies/zheng_table7.py:synthetic,tiny --workdir=runs/zheng7
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
    "mlf_dnn",
    "mtfn",
    "mlmf",
)
VARIANTS = {"base": "task=classification", "-fg": "fg=both,task=classification"}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, and tiny."""
    asked = read_argument(argument, data=("sims",))
    return Study(
        title=f"{printed.ZHENG}, Table 7: fine-grained extraction on CH-SIMS, classes",
        cells=grid(asked.data, models(*MODELS), words(VARIANTS), seeds(5), tiny=asked.tiny),
        base={"variant": "base"},
        targets=printed.figures("zheng_table7"),
        source=printed.ZHENG,
        note="Non0 as printed counts no positive clip as right: compare the columns named compat.",
    )
