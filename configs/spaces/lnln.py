"""LNLN: width, depth, tokens, losses and training, by our own choice around the authors' numbers.

Their code has no tuner. One rate trains all, the encoder included.
"""

from msa_jax.tuning.space import Number, OneOf, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model": OneOf(64, 128),
            "model.tokens": OneOf(4, 8, 16),
            "model.proxy_layers": Whole(1, 3),
            "model.fusion_layers": Whole(1, 4),
            "model.completeness_weight": Number(0.1, 1.0, log=True),
            "model.adversarial_weight": Number(0.1, 1.0, log=True),
            "model.restore_weight": Number(0.01, 1.0, log=True),
            "train.batch_size": OneOf(32, 64),
            "train.learning_rate": Number(2e-5, 3e-4, log=True),
            "train.weight_decay": OneOf(0.0, 1e-4, 1e-2),
        }
    )
