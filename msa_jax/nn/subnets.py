"""Unimodal sub-networks and heads that several models share."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.batch_norm import BatchNorm
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, Join
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import LSTM


class DenseSubnet(nn.Module):
    """One Dense layer, step by step.

    Attributes:
      features: width of the result.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] to [B, T, features]; the mask [B, T] stays."""
        del train
        return Dense(self.features, name="dense")(x), mask


class MlpSubnet(nn.Module):
    """BatchNorm, dropout, and three Dense layers with ReLU.

    Attributes:
      hidden: width h of all three.
      dropout: rate on the normalised input.
    """

    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] to [B, T, h], step by step; the mask [B, T] stays."""
        x = BatchNorm(name="norm")(x, mask[..., None], train)
        x = Dropout(self.dropout)(x, train)
        for layer in (1, 2, 3):
            x = nn.relu(Dense(self.hidden, name=f"linear_{layer}")(x))
        return x, mask


class ClipSubnet(nn.Module):
    """The MLP of one modality that is one vector per clip, whole or in column groups.

    Attributes:
      hidden: h.
      dropout: rate on the normalised input.
      columns: the column groups where the modality is split; empty: whole.
      join: how the groups become one.
    """

    hidden: int
    dropout: float
    columns: Columns = ()
    join: Join = Join()

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array, train: bool) -> jax.Array:
        """x [B, 1, D] to [B, h]; rows of weight [B] 0 are left out of batch statistics."""
        mask = (weight > 0)[:, None]
        if not self.columns:
            return MlpSubnet(self.hidden, self.dropout, name="mlp")(x, mask, train)[0][:, 0]
        subnet = functools.partial(MlpSubnet, self.hidden, self.dropout)
        front = FineGrained(self.columns, subnet, self.join, name="fine_grained")
        return front(x, mask, train)[0][:, 0]


class TextSubnet(nn.Module):
    """An LSTM's final state, then one Dense layer.

    Attributes:
      hidden: width of the LSTM.
      features: width of the result.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x [B, T, D] with mask [B, T] to [B, features]."""
        x = jnp.where(mask[..., None], x, 0)
        _, (h, _) = LSTM(self.hidden, name="lstm")(x, mask)
        return Dense(self.features, name="linear")(h)


class PostFusion(nn.Module):
    """Dropout, Dense, ReLU, Dense, ReLU, Dense: what turns a feature vector into scores.

    Attributes:
      hidden: width of the two inner layers.
      n_outputs: 1, or the number of classes.
      dropout: rate on the input.
    """

    hidden: int
    n_outputs: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, F] to [B, n_outputs]."""
        x = Dropout(self.dropout)(x, train)
        x = nn.relu(Dense(self.hidden, name="linear_1")(x))
        x = nn.relu(Dense(self.hidden, name="linear_2")(x))
        return Dense(self.n_outputs, name="linear_3")(x)


def residual_head(x: jax.Array, n_outputs: int, dropout: float, train: bool) -> tuple[jax.Array, jax.Array]:
    """Submodules: two Dense layers around their input, and one more that reads the outputs from the sum.

    Args:
      x: [B, F].
      n_outputs: C.
      dropout: rate behind the ReLU of the first layer.
      train: whether dropout is on.

    Returns:
      The sum [B, F], and the outputs [B, C].
    """
    width = x.shape[-1]
    hidden = Dropout(dropout)(nn.relu(Dense(width, name="linear_1")(x)), train)
    hidden = Dense(width, name="linear_2")(hidden) + x
    return hidden, Dense(n_outputs, name="output")(hidden)
