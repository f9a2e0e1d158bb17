"""EF-LSTM: width, depth, dropout and training, as the MMSA toolkit's tuner draws them."""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.hidden": OneOf(16, 32, 64, 128, 256),
            "model.n_layers": Whole(2, 4),
            "model.dropout": Number(0.2, 0.5),
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
            "train.weight_decay": ranges.DECAY,
        }
    )
