"""Cai et al. 2025, Table 8: which tasks are learned together. All three modalities stay inputs.

msa-jax study --study=configs/studies/cai_table8.py:synthetic,tiny --workdir=runs/table8
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, variants

#: As printed: M is the two multimodal losses, which are always there.
SUBSETS = ("M,A,T,V", "M", "M,A", "M,T", "M,V", "M,A,T", "M,A,V", "M,T,V")


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, and tiny."""
    asked = read_argument(argument, data=("mosi", "sims"))
    tasks = variants({name: {"model.loss_tasks": _letters(name)} for name in SUBSETS}, axis="tasks")
    return Study(
        title=f"{printed.CAI}, Table 8: tasks learned together",
        cells=grid(asked.data, models("ufen_mtfn"), tasks, seeds(5), tiny=asked.tiny),
        base={"tasks": "M,A,T,V"},
        targets=printed.of_model("cai_table8", "ufen_mtfn"),
        source=printed.CAI,
    )


def _letters(subset: str) -> str:
    return "".join(letter for letter in "TAV" if letter in subset)
