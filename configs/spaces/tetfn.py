"""TETFN: width and heads, kernels, dropouts and training, by our own choice around the presets.

The MMSA toolkit's tuner has no list for it.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model, model.heads": OneOf((30, 6), (40, 5), (40, 8), (50, 5), (50, 10)),
            "model.audio_hidden": OneOf(16, 32),
            "model.vision_hidden": OneOf(32, 64),
            "model.text_kernel": OneOf(1, 3, 5),
            "model.audio_kernel": OneOf(1, 3, 5),
            "model.vision_kernel": OneOf(1, 3, 5),
            "model.post_fusion_dim": OneOf(32, 64, 128),
            "model.text_attention_dropout": Number(0.0, 0.2),
            "model.audio_attention_dropout": Number(0.0, 0.2),
            "model.vision_attention_dropout": Number(0.0, 0.2),
            "model.residual_dropout": Number(0.0, 0.2),
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": Number(1e-4, 3e-3, log=True),
            "train.weight_decay": OneOf(1e-3, 1e-2),
            "train.groups.audio.learning_rate": Number(1e-4, 3e-3, log=True),
            "train.groups.vision.learning_rate": Number(1e-4, 3e-3, log=True),
            **ranges.ENCODER,
        }
    )
