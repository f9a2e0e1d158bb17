r"""Is training on clips with losses worth it? Models trained on whole clips and on others, five seeds each.

    msa-jax study --study=configs/studies/robust_training.py:configs/mine.py,frozen \
      --workdir=runs/robust-training
    msa-jax robustness --workdir=runs/robust-training --protocol=subsets

Rates go up to all frames, and up to two of three modalities of a clip.
"""

from msa_jax.studies.grid import Choice, Study, grid, models, read_argument, seeds

MODELS = ("lf_dnn", "self_mm", "ufen_mtfn")
FRAMES = {"train.corrupt": "frames", "train.corrupt_rates": (0.0, 1.0)}
WHOLE = {"train.corrupt": "modalities", "train.corrupt_rates": (0.0, 0.667)}
TRAINED = [
    Choice("trained on", "whole clips"),
    Choice("trained on", "lost frames", settings=FRAMES),
    Choice("trained on", "lost modalities", settings=WHOLE),
    Choice("trained on", "lost modalities, learned", settings={**WHOLE, "train.placeholder": "learned"}),
]


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosi",), encoder=True)
    everyone = models(*MODELS, encoder=asked.encoder)
    return Study(
        title="Is training on clips with losses worth it?",
        cells=grid(asked.data, everyone, TRAINED, seeds(5), tiny=asked.tiny),
        base={"trained on": "whole clips"},
        note="learned: a vector per modality stands where it was lost, else zeros do.",
    )
