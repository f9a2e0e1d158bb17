"""LMF: widths, rank, dropouts and training, as the MMSA toolkit's tuner draws them."""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.HALVED_SUBNETS,
            **ranges.SUBNET_DROPOUTS,
            "model.rank": Whole(3, 6),
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
            "train.groups.factors.learning_rate": Number(1e-4, 1e-3, log=True),
            "train.weight_decay": ranges.DECAY,
        }
    )
