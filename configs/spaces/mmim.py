"""MMIM: widths, dropout, weights of the losses and training, as the MMSA toolkit's tuner draws them.

The encoder's rate has the range of a pretrained one. The losses' weights may be drawn, since the validation
loss is that of the scores alone.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.audio_hidden": OneOf(16, 32, 64, 128),
            "model.vision_hidden": OneOf(16, 32, 64, 128),
            "model.audio_out": OneOf(16, 32, 64, 128),
            "model.vision_out": OneOf(16, 32, 64, 128),
            "model.fusion_hidden": OneOf(64, 128, 256, 512),
            "model.dropout": Number(0.0, 0.4),
            "model.contrast_weight": Number(0.0, 0.4),
            "model.bound_weight": Number(0.0, 0.4),
            "model.mi_learning_rate": Number(1e-4, 5e-3, log=True),
            "model.mi_weight_decay": OneOf(0.0, 1e-4, 1e-3),
            "train.batch_size": OneOf(16, 32),
            "train.learning_rate": Number(1e-4, 5e-3, log=True),
            "train.weight_decay": OneOf(0.0, 1e-4, 1e-3),
            "train.groups.encoder.learning_rate": ranges.ENCODER_RATE,
            "train.groups.encoder.weight_decay": OneOf(0.0, 1e-4, 1e-3),
            "train.clip_norm": Number(0.6, 1.0),
        }
    )
