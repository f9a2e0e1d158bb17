"""MCTN: width and training, by our own choice around the preset.

The translations' weight is not drawn, since the validation loss, which trials are compared by, holds it.
"""

from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.hidden": OneOf(16, 32, 64, 128),
            "train.batch_size": OneOf(16, 32, 64),
            "train.learning_rate": Number(1e-4, 5e-3, log=True),
            "train.weight_decay": OneOf(0.0, 1e-4, 1e-3),
            "train.clip_norm": OneOf(0.0, 1.0, 5.0),
        }
    )
