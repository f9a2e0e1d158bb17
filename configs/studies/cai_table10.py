"""Cai et al. 2025, Table 10: learning rate, batch size, epochs and patience, one changed at a time.

msa-jax study --study=configs/studies/cai_table10.py:synthetic,tiny --workdir=runs/table10
"""

from msa_jax.studies import printed
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, variants

#: As printed -> our setting and value.
CHANGES = {
    "as configured": {},
    "learning rate 1e-3": {"train.learning_rate": 1e-3},
    "learning rate 5e-3": {"train.learning_rate": 5e-3},
    "learning rate 1e-4": {"train.learning_rate": 1e-4},
    "batch size 16": {"train.batch_size": 16},
    "batch size 32": {"train.batch_size": 32},
    "batch size 64": {"train.batch_size": 64},
    "epochs 30": {"train.epochs": 30},
    "epochs 50": {"train.epochs": 50},
    "epochs 100": {"train.epochs": 100},
    "early stop 4": {"train.patience": 4},
    "early stop 8": {"train.patience": 8},
    "early stop 10": {"train.patience": 10},
}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, and tiny."""
    asked = read_argument(argument, data=("mosi", "sims"))
    changes = dict(CHANGES)
    if asked.tiny:  # a try is over in two epochs, whatever is printed
        changes = {name: {k: v for k, v in c.items() if k != "train.epochs"} for name, c in changes.items()}
    return Study(
        title=f"{printed.CAI}, Table 10: settings of the training",
        cells=grid(asked.data, models("ufen_mtfn"), variants(changes), seeds(5), tiny=asked.tiny),
        base={"variant": "as configured"},
        targets=printed.of_model("cai_table10", "ufen_mtfn"),
        source=printed.CAI,
        note="Table 10 prints two metrics of one run each.",
    )
