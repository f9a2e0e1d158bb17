"""UFEN + MTFN: width, depth, dropouts and training, by our own choice around Cai et al. 2025, Table 10."""

from msa_jax.tuning.space import Number, OneOf, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model": OneOf(32, 64, 128),
            "model.n_layers": Whole(1, 3),
            "model.dropout": Number(0.0, 0.5),
            "model.attention_dropout": Number(0.0, 0.5),
            "train.batch_size": OneOf(16, 32, 64),
            "train.learning_rate": Number(1e-4, 1e-2, log=True),
        }
    )
