"""TMT: width, depth, dropouts and training, by our own choice around the presets.

The MMSA toolkit's tuner has no list for it.
The weights of the losses are left out: they weigh the validation loss too, so the smallest would win.
"""

from msa_jax.tuning.space import Number, OneOf, Space, Whole


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.d_model": OneOf(128, 256),
            "model.hidden": OneOf(256, 512),
            "model.n_layers": Whole(1, 3),
            "model.cross_layers": Whole(1, 3),
            "model.dropout": Number(0.1, 0.6),
            "model.input_dropout": Number(0.1, 0.6),
            "train.batch_size": OneOf(32, 64, 128),
            "train.learning_rate": Number(2e-5, 5e-4, log=True),
        }
    )
