"""MISA: width, dropout, weights of the losses and training, as the MMSA toolkit's tuner draws them.

One rate trains all, the encoder included, so the toolkit's list (up to 1e-3) is replaced. The losses' weights
may be drawn, since the validation loss is that of the scores alone.
"""

from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.hidden": OneOf(64, 128, 256),
            "model.dropout": Number(0.0, 0.5),
            "model.diff_weight": Number(0.1, 0.5),
            "model.sim_weight": Number(0.3, 1.0),
            "model.recon_weight": Number(0.5, 1.0),
            "train.batch_size": OneOf(16, 32, 64),
            "train.learning_rate": Number(1e-5, 2e-4, log=True),
            "train.clip_value": OneOf(0.0, 0.8, 1.0),
        }
    )
