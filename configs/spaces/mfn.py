"""MFN: widths, memory, gates and training, as the MMSA toolkit's tuner draws them."""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.SUBNETS,
            "model.memory": OneOf(64, 128, 256, 300, 400),
            "model.attention_hidden": ranges.WIDTH,
            "model.attention_dropout": ranges.GATE_DROPOUT,
            "model.proposal_hidden": ranges.WIDTH,
            "model.proposal_dropout": ranges.GATE_DROPOUT,
            "model.retain_hidden": ranges.WIDTH,
            "model.retain_dropout": ranges.GATE_DROPOUT,
            "model.update_hidden": ranges.WIDTH,
            "model.update_dropout": ranges.GATE_DROPOUT,
            "model.out_hidden": ranges.WIDTH,
            "model.out_dropout": ranges.GATE_DROPOUT,
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
        }
    )
