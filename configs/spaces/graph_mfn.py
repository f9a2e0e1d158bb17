"""Graph-MFN: widths, memory, nodes, gates and training, as the MMSA toolkit's tuner draws them."""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.SUBNETS,
            "model.memory": OneOf(64, 128, 256, 300, 400),
            "model.node": OneOf(20, 32, 64, 128),
            "model.proposal_hidden": ranges.WIDTH,
            "model.proposal_dropout": ranges.GATE_DROPOUT,
            "model.retain_hidden": ranges.WIDTH,
            "model.retain_dropout": ranges.GATE_DROPOUT,
            "model.update_hidden": ranges.WIDTH,
            "model.update_dropout": ranges.GATE_DROPOUT,
            "model.out_hidden": ranges.WIDTH,
            "model.out_dropout": ranges.GATE_DROPOUT,
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": ranges.RATE,
            "train.weight_decay": OneOf(0.0, 1e-3, 5e-3, 1e-2),
        }
    )
