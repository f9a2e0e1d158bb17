"""MulT: width and heads, depth, kernels, dropouts and training, as the MMSA toolkit's tuner draws them.

Its weight decay is left out: no published figure has been trained with one.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model, model.heads": OneOf(
                (30, 6), (30, 10), (32, 8), (36, 6), (40, 5), (40, 8), (40, 10), (50, 10)
            ),
            "model.n_layers": OneOf(2, 4, 6),
            "model.text_kernel": OneOf(1, 3, 5),
            "model.audio_kernel": OneOf(1, 3, 5),
            "model.vision_kernel": OneOf(1, 3, 5),
            "model.text_dropout": Number(0.1, 0.5),
            "model.output_dropout": Number(0.1, 0.5),
            "model.text_attention_dropout": Number(0.1, 0.5),
            "model.audio_attention_dropout": Number(0.0, 0.2),
            "model.vision_attention_dropout": Number(0.0, 0.2),
            "model.relu_dropout": Number(0.0, 0.2),
            "model.embed_dropout": Number(0.0, 0.2),
            "model.residual_dropout": Number(0.0, 0.2),
            "train.batch_size": OneOf(4, 8, 16),
            "train.learning_rate": ranges.RATE,
            "train.clip_value": Number(0.6, 1.0),
            "train.plateau_patience": OneOf(5, 10, 20),
        }
    )
