"""ALMT: width, depth, tokens and training, by our own choice around the presets.

The MMSA toolkit's tuner has no list for it. One rate trains all, the encoder included.
"""

from msa_jax.tuning.space import Number, OneOf, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model": OneOf(64, 128),
            "model.tokens": OneOf(4, 8, 16),
            "model.fusion_layers": Whole(1, 4),
            "model.hyper_dropout": Number(0.0, 0.3),
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": Number(2e-5, 3e-4, log=True),
            "train.weight_decay": OneOf(0.0, 1e-4, 1e-2),
        }
    )
