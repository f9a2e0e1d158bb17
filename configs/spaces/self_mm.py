"""Self-MM: widths, dropouts and training, as the MMSA toolkit's tuner draws them.

The encoder's rate, which the toolkit leaves at 5e-5, is drawn too.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.audio_hidden": OneOf(16, 32),
            "model.vision_hidden": OneOf(32, 64),
            "model.post_fusion_dim": OneOf(64, 128),
            "model.post_text_dim": OneOf(32, 64),
            "model.post_audio_dim": OneOf(16, 32),
            "model.post_vision_dim": OneOf(16, 32),
            "model.post_fusion_dropout": Number(0.0, 0.1),
            "model.post_text_dropout": Number(0.0, 0.1),
            "model.post_audio_dropout": Number(0.0, 0.1),
            "model.post_vision_dropout": Number(0.0, 0.1),
            "train.batch_size": OneOf(16, 32),
            "train.learning_rate": Number(1e-4, 1e-3, log=True),
            "train.weight_decay": OneOf(1e-3, 1e-2),
            "train.groups.audio.learning_rate": Number(1e-4, 5e-3, log=True),
            "train.groups.audio.weight_decay": OneOf(0.0, 1e-3, 1e-2),
            "train.groups.vision.learning_rate": Number(1e-4, 5e-3, log=True),
            "train.groups.vision.weight_decay": OneOf(0.0, 1e-3, 1e-2),
            **ranges.ENCODER,
        }
    )
