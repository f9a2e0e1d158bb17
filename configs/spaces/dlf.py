"""DLF: sizes, dropouts, weights of the losses and training, by our own choice around the authors' numbers.

Their code has no tuner. One rate trains all, the encoder included. The losses' weights may be drawn, since
the validation loss is that of the final scores alone.
"""

from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model, model.heads": OneOf((30, 6), (40, 8), (40, 10), (50, 10)),
            "model.n_layers": OneOf(1, 2, 3),
            "model.text_kernel": OneOf(1, 3, 5),
            "model.audio_kernel": OneOf(1, 3, 5),
            "model.vision_kernel": OneOf(1, 3, 5),
            "model.text_dropout": Number(0.1, 0.5),
            "model.output_dropout": Number(0.1, 0.5),
            "model.text_attention_dropout": Number(0.1, 0.5),
            "model.audio_attention_dropout": Number(0.0, 0.2),
            "model.vision_attention_dropout": Number(0.0, 0.2),
            "model.embed_dropout": Number(0.0, 0.2),
            "model.text_weight": Number(1.0, 5.0),
            "model.decoupling_weight": Number(0.01, 1.0, log=True),
            "model.cosine_weight": Number(0.01, 1.0, log=True),
            "model.margin": Number(0.05, 0.3),
            "train.batch_size": OneOf(16, 32),
            "train.learning_rate": Number(1e-5, 2e-4, log=True),
            "train.clip_value": OneOf(0.0, 0.6, 1.0),
        }
    )
