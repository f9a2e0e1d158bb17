"""Zheng et al. 2024, Table 8: fine-grained extraction of audio or vision alone on CH-SIMS.

msa-jax study --study=configs/studies/zheng_table8.py:synthetic,tiny --workdir=runs/zheng8
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
    "self_mm",
    "tetfn",
    "almt",
    "tmt",
)
VARIANTS = {"base": "", "-a": "fg=audio", "-v": "fg=vision", "-fg": "fg=both"}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("sims",), encoder=True)
    return Study(
        title=f"{printed.ZHENG}, Table 8: fine-grained extraction of audio or vision alone on CH-SIMS",
        cells=grid(
            asked.data, models(*MODELS, encoder=asked.encoder), words(VARIANTS), seeds(5), tiny=asked.tiny
        ),
        base={"variant": "base"},
        targets=printed.figures("zheng_table8"),
        source=printed.ZHENG,
    )
