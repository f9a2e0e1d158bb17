"""MAG-BERT: the displacement, dropout and training, as the MMSA toolkit's tuner draws them.

Its single value of `beta_shift` is drawn around; one rate trains all, the encoder included.
"""

from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            "model.beta_shift": Number(0.25, 2.0, log=True),
            "model.dropout": Number(0.1, 0.4),
            "train.batch_size": OneOf(32, 48, 64),
            "train.learning_rate": Number(1e-5, 1e-4, log=True),
        }
    )
