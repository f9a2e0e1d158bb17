"""MLMF: widths, rank, dropouts and training, as the MMSA toolkit's tuner draws them.

The weights of the tasks are left out: they weigh the validation loss too, so the smallest would win.
"""

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
            **ranges.HEADS,
            "model.post_text_dropout, model.post_audio_dropout, model.post_vision_dropout": Number(0.2, 0.5),
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
            "train.groups.factors.learning_rate": Number(1e-4, 1e-3, log=True),
            "train.weight_decay": ranges.DECAY,
            **ranges.SUBNET_DECAYS,
        }
    )
