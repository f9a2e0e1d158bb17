r"""What does it bring that the text encoder reads the utterances before a clip, or gives all its layers?

    msa-jax study --study=configs/studies/text.py:configs/mine.py,encoder=minilm --workdir=runs/text

Models that train a text encoder along, three seeds each. All have one schedule, which is shorter than the
published ones, and the rates that go with it (docs/results.md); the folder is that of a small encoder.
"""

import dataclasses
from typing import Any

from msa_jax.studies.grid import Study, grid, models, read_argument, seeds, variants

_ENCODER = {"train.groups.encoder.learning_rate": 1e-4}
_WHOLE = {**_ENCODER, "train.groups.encoder_no_decay.learning_rate": 1e-4}
_WARM = {f"train.groups.{name}.warmup_epochs": 1.0 for name in ("encoder", "encoder_no_decay")}
#: The models, and what goes with the schedule; those without keep their published rates.
MODELS: dict[str, dict[str, Any]] = {
    "self_mm": _WHOLE,
    "mmim": _ENCODER,
    "ufen_mtfn": {**_WHOLE, **_WARM},
    "tetfn": _WHOLE,
    "misa": {"train.learning_rate": 5e-5},
    "almt": {"train.batch_size": 16},
    "mag_bert": {},
    "cenet": {},
    "emt_dlfr": {},
    "tfr_net": {},
    "lnln": {},
    "dlf": {},
}
SCHEDULE = {
    "data.feature_norm": "zscore_train",
    "train.epochs": 8,
    "train.warmup_epochs": 1.0,
    "train.schedule": "linear",
    "train.accumulate": 1,
    "model.text_encoder": "finetune",
}
CONTEXT, LAYERS = {"data.context": 2}, {"model.encoder.layers": "learned"}
READ = {
    "own words": {},
    "two utterances before": CONTEXT,
    "all layers": LAYERS,
    "both": {**CONTEXT, **LAYERS},
}


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("mosi",), encoder=True)
    everyone = [dataclasses.replace(choice, settings=MODELS[choice.name]) for choice in models(*MODELS)]
    shared = dict(SCHEDULE)
    if asked.encoder:
        shared["model.encoder.folder"] = asked.encoder
    if asked.tiny:  # which has epochs of its own
        del shared["train.epochs"]
    read = variants(READ, axis="text")
    return Study(
        title="What does the text encoder's reading bring?",
        cells=grid(asked.data, everyone, read, seeds(3), tiny=asked.tiny, settings=shared),
        base={"text": "own words"},
        note="own words: the last states of the clip's own tokens.",
    )
