"""CENET: training and the encoder's dropout, by our own choice around the presets.

The MMSA toolkit's tuner has no list for it, and the model no widths of its own. One rate trains all, the
encoder included.
"""

from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.encoder.dropout": Number(0.0, 0.3),
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": Number(2e-6, 5e-5, log=True),
            "train.weight_decay": OneOf(0.0, 1e-4, 1e-3),
            "train.clip_norm": Number(1.0, 4.0),
        }
    )
