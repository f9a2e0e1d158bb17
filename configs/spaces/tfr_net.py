"""TFR-Net: widths, dropouts, weights and training, as the MMSA toolkit's tuner draws them.

The tuner's weights of the reconstructions lie near 1e-6, like the toolkit's settings for CMU-MOSEI, while
those for CMU-MOSI are up to seven powers of ten above, so they are drawn between both. They may be, since the
validation loss is that of the scores alone. The encoder's rate and decay are those of our other models.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space

#: Width and heads.
_WIDTHS = ((30, 6), (30, 10), (32, 8), (36, 6), (40, 5), (40, 8), (40, 10), (48, 8), (50, 10))


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model, model.heads": OneOf(*_WIDTHS),
            "model.n_layers": OneOf(2, 3, 4),
            "model.text_kernel": OneOf(1, 3, 5),
            "model.audio_kernel": OneOf(1, 3, 5),
            "model.vision_kernel": OneOf(1, 3, 5),
            "model.text_hidden": OneOf(20, 30, 32, 36, 40, 48),
            "model.audio_hidden": OneOf(20, 30, 32, 36, 40, 48),
            "model.vision_hidden": OneOf(20, 30, 32, 36, 40, 48),
            "model.gru_layers": OneOf(1, 2, 3),
            "model.head_hidden": OneOf(64, 96, 128),
            "model.text_attention_dropout": Number(0.0, 0.4),
            "model.audio_attention_dropout": Number(0.0, 0.2),
            "model.vision_attention_dropout": Number(0.0, 0.2),
            "model.relu_dropout": Number(0.0, 0.2),
            "model.embed_dropout": Number(0.0, 0.2),
            "model.residual_dropout": Number(0.0, 0.2),
            "model.text_dropout": Number(0.1, 0.3),
            "model.fusion_dropout": Number(0.1, 0.3),
            "model.head_dropout": Number(0.0, 0.2),
            "model.text_weight": Number(1e-6, 5.0, log=True),
            "model.audio_weight": Number(1e-6, 2.0, log=True),
            "model.vision_weight": Number(1e-6, 20.0, log=True),
            "train.batch_size": OneOf(24, 32, 48),
            "train.learning_rate": OneOf(5e-4, 1e-3, 2e-3),
            "train.weight_decay": OneOf(0.0, 1e-3),
            "train.clip_value": OneOf(0.6, 0.8, 1.0),
            **ranges.ENCODER,
        }
    )
