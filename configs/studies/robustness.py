"""Models to be compared under one protocol of missing data, five seeds each.

    msa-jax study --study=configs/studies/robustness.py:configs/mine.py,frozen --workdir=runs/robust
    msa-jax robustness --workdir=runs/robust --protocol=frames --each

Training knows nothing of the protocol: the models saw whole clips.
"""

from msa_jax.studies.grid import Study, grid, models, read_argument, seeds

MODELS = ("lf_dnn", "mult", "self_mm", "ufen_mtfn")


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosi",), encoder=True)
    everyone = models(*MODELS, encoder=asked.encoder)
    return Study(
        title="Models for a comparison under missing data",
        cells=grid(asked.data, everyone, seeds(5), tiny=asked.tiny),
        base={"model": "lf_dnn"},
    )
