"""TFN: tensor fusion (Zadeh et al. 2017), as in the MMSA toolkit.

The three unimodal vectors, each with a 1 in front, are multiplied into one tensor that holds every
product of up to three of their elements; Dense layers read the score from it. The score is squeezed
into the range of the labels by a sigmoid.

``compat=True`` restores what the public code does otherwise: audio and vision are averaged over the
padding too (data.reduce sees to it), the LSTM reads the text's padding, and scores lie in [-3, 3]
whatever the labels.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import lf_dnn, objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.initializers import Dense, fan_in_uniform, symmetric_uniform

#: The order of the factors, the last one running fastest.
ORDER = ("audio", "vision", "text")


@dataclasses.dataclass(frozen=True)
class Settings(lf_dnn.Settings):
    """The model block: LF-DNN's keys.

    text_out and post_fusion_dim set the size of the tensor's layer; post_dropout is on the tensor's elements.
    """


#: Settings of the MMSA toolkit (tuned there per data set), with batch size and learning rate.
PRESETS = {
    "mosi": Preset(
        Settings(
            audio_hidden=32,
            text_out=32,
            post_fusion_dim=64,
            audio_dropout=0.3,
            vision_dropout=0.3,
            post_dropout=0.5,
        ),
        peer_train(32, 1e-3),
    ),
    "mosei": Preset(
        Settings(text_out=128, post_fusion_dim=16, audio_dropout=0.4, vision_dropout=0.4, post_dropout=0.4),
        peer_train(128, 5e-3),
    ),
    "sims": Preset(
        Settings(
            audio_hidden=32, post_fusion_dim=32, audio_dropout=0.4, vision_dropout=0.4, post_dropout=0.4
        ),
        peer_train(32, 5e-4),
    ),
}


def with_one(x: jax.Array) -> jax.Array:
    """[B, D] to [B, 1 + D]: a 1 in front."""
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)


class TensorFusion(nn.Module):
    """Dropout on the product of three vectors, then a Dense layer.

    The tensor of all products is only formed where dropout needs its elements. Otherwise the kernel
    is applied to the products of the first two vectors, and the third weighs the results.

    Attributes:
      features: output width p.
      dropout: rate on the elements of the tensor.
    """

    features: int
    dropout: float

    @nn.compact
    def __call__(self, a: jax.Array, v: jax.Array, t: jax.Array, train: bool) -> jax.Array:
        """[B, A], [B, V] and [B, T] to [B, p]; of the tensor's elements t runs fastest."""
        rows, width = a.shape[0], a.shape[1] * v.shape[1] * t.shape[1]
        kernel = self.param("kernel", fan_in_uniform, (width, self.features))
        bias = self.param("bias", symmetric_uniform(width**-0.5), (self.features,))
        pairs = jnp.einsum("ba,bv->bav", a, v).reshape(rows, -1)
        if train and self.dropout:
            tensor = jnp.einsum("bi,bt->bit", pairs, t).reshape(rows, width)
            y = Dropout(self.dropout)(tensor, train) @ kernel
        else:
            per_t = (pairs @ kernel.reshape(pairs.shape[1], -1)).reshape(rows, t.shape[1], -1)
            y = jnp.einsum("bt,btp->bp", t, per_t)
        return y + jnp.broadcast_to(bias, y.shape)


class Fusion(nn.Module):
    """From three vectors to an unbounded score, which MTFN shares.

    Attributes:
      hidden: p.
      n_outputs: 1, or the number of classes.
      dropout: rate on the tensor.
    """

    hidden: int
    n_outputs: int
    dropout: float

    @nn.compact
    def __call__(self, features: dict[str, jax.Array], train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, D] per modality to [B, n_outputs] and the vector [B, p] that it is read from."""
        a, v, t = (with_one(features[m]) for m in ORDER)
        x = nn.relu(TensorFusion(self.hidden, self.dropout, name="linear_1")(a, v, t, train))
        x = nn.relu(Dense(self.hidden, name="linear_2")(x))
        return Dense(self.n_outputs, name="linear_3")(x), x


def tensor_of(features: dict[str, jax.Array]) -> jax.Array:
    """All products [B, A * V * T] of the vectors with their 1 in front."""
    a, v, t = (with_one(features[m]) for m in ORDER)
    return jnp.einsum("ba,bv,bt->bavt", a, v, t).reshape(a.shape[0], -1)


def bounded(y: jax.Array, label_range: tuple[float, float]) -> jax.Array:
    """Scores within the range of the labels; logits of classes stay."""
    if y.shape[1] > 1:
        return y
    low, high = label_range
    return low + (high - low) * nn.sigmoid(y[:, 0])


class Tfn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
      label_range: of the scores.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int
    label_range: tuple[float, float]

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: "text", "audio", "vision", "tensor" (all products) and "fusion", the last hidden
        layer.
        """
        s = self.s
        features = lf_dnn.UnimodalFeatures(s, self.columns, name="unimodal")(batch, train)
        fuse = Fusion(s.post_fusion_dim, self.n_outputs, s.post_dropout, name="post_fusion")
        y, fusion = fuse(features, train)
        predictions = {"M": bounded(y, self.label_range)}
        return Outputs(predictions, {**features, "tensor": tensor_of(features), "fusion": fusion})


def score_range(model: BaseSettings, spec: DatasetSpec) -> tuple[float, float]:
    """The range that scores are squeezed into."""
    return (-3.0, 3.0) if model.compat else (float(spec.label_range[0]), float(spec.label_range[1]))


def build(s: Settings, spec: DatasetSpec) -> Tfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Tfn(s, split_columns(s.fg, spec), n_outputs(s), score_range(s, spec))


MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, lf_dnn.DATA, lf_dnn.TINY)
