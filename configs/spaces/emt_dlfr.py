"""EMT-DLFR: widths, depth, dropouts and training, by our own choice around the authors' numbers per data set.

Their code has no tuner. One rate trains all but the encoder.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space

_RATES = (
    "train.learning_rate",
    "train.groups.audio.learning_rate",
    "train.groups.vision.learning_rate",
)


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.audio_hidden": OneOf(16, 32),
            "model.vision_hidden": OneOf(32, 64),
            "model.d_model": OneOf(32, 64, 128),
            "model.n_layers": OneOf(2, 3, 4),
            "model.post_fusion_dim": OneOf(128, 256),
            "model.attention_dropout": Number(0.0, 0.3),
            "model.ff_dropout": Number(0.0, 0.1),
            "model.post_dropout": Number(0.0, 0.3),
            "model.attract_weight": Number(0.1, 1.0, log=True),
            "model.restore_weight": Number(0.1, 1.0, log=True),
            "train.batch_size": OneOf(16, 32),
            ", ".join(_RATES): Number(1e-4, 1e-3, log=True),
            "train.weight_decay": OneOf(0.0, 1e-3),
            "train.groups.audio.weight_decay": OneOf(0.0, 1e-3, 1e-2),
            "train.groups.vision.weight_decay": OneOf(0.0, 1e-3),
            **ranges.ENCODER,
        }
    )
