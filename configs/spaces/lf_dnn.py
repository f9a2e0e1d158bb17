"""LF-DNN: widths, dropouts and training, as the MMSA toolkit's tuner draws them."""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.SUBNETS,
            **ranges.SUBNET_DROPOUTS,
            "model.text_out": OneOf(32, 64, 128, 256),
            "model.post_fusion_dim": OneOf(16, 32, 64, 128),
            "model.post_dropout": Number(0.2, 0.5),
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
            "train.weight_decay": OneOf(0.0, 1e-3, 5e-3, 1e-2),
        }
    )
