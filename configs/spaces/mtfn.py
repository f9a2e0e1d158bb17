"""MTFN: widths, dropouts and training, as the MMSA toolkit's tuner draws them.

The weights of the tasks are left out: they weigh the validation loss too, so the smallest would win.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space

#: All alike, as there.
HEAD_DROPOUTS = (
    "model.post_dropout, model.post_text_dropout, model.post_audio_dropout, model.post_vision_dropout"
)


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.SUBNETS,
            **ranges.SUBNET_DROPOUTS,
            "model.text_out": OneOf(32, 64, 128, 256),
            "model.post_fusion_dim": OneOf(16, 32, 64, 128),
            **ranges.HEADS,
            HEAD_DROPOUTS: Number(0.2, 0.5),
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": ranges.RATE,
            "train.weight_decay": OneOf(0.0, 1e-3, 5e-3, 1e-2),
            **ranges.SUBNET_DECAYS,
        }
    )
