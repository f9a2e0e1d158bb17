"""Self-MM: a head for the clip and one for each modality, on labels made while training (Yu et al. 2021).

Text is the state of the first token; audio and vision each the final state of an LSTM, through one
Dense layer. The three vectors joined give the clip's score, each by itself a score of its modality.
All four heads look alike; their first layer's output is the feature by which
:mod:`msa_jax.models.label_generation` makes the modalities' labels.

The model itself has no quirk to restore: the public code, too, reads audio and vision by their true
lengths. It keeps tables for a number of clips that is set by hand, loses its labels (NaN) where a
class is empty, and gives a clip without audio or vision an error; these are not restored. With
``compat=True`` its training is: gradients of accumulated batches are summed.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, UNIMODAL_TASKS, DatasetSpec
from msa_jax.models import label_generation
from msa_jax.models.declare import Declaration, Preset, encoder_groups, peer_train
from msa_jax.models.label_generation import HeadSettings
from msa_jax.models.outputs import Outputs
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSource, TextStates, text_source
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import LSTM
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class Settings(HeadSettings):
    """The model block."""

    audio_hidden: Count = 16  # of the LSTM
    vision_hidden: Count = 32
    audio_out: Count = 16  # of the layer after it
    vision_out: Count = 32
    audio_dropout: Rate = 0.0  # on the LSTM's final state
    vision_dropout: Rate = 0.0


def _train(batch_size: int, rest: float, decay: float, vision_rate: float) -> dict:
    """4 batches per update; rates and decays of the encoder, audio, vision and the rest."""
    groups = encoder_groups(5e-5, 1e-3) | {
        "audio": {"paths": "audio/*", "learning_rate": 5e-3, "weight_decay": decay},
        "vision": {"paths": "vision/*", "learning_rate": vision_rate, "weight_decay": decay},
    }
    return peer_train(batch_size, 1e-3, rest, accumulate=4, groups=groups)


#: Settings of the MMSA toolkit (tuned there per data set). Its H is the largest label of each set.
PRESETS = {
    "mosi": Preset(
        Settings(post_text_dropout=0.1, post_audio_dropout=0.1),
        _train(16, rest=1e-3, decay=1e-3, vision_rate=5e-3),
    ),
    "mosei": Preset(Settings(post_fusion_dropout=0.1), _train(32, rest=1e-2, decay=0.0, vision_rate=1e-4)),
    "sims": Preset(
        Settings(
            encoder=CHINESE,
            vision_hidden=64,
            post_text_dim=64,
            post_text_dropout=0.1,
            post_audio_dropout=0.1,
        ),
        _train(32, rest=1e-3, decay=1e-2, vision_rate=5e-3),
    ),
}


class FinalState(nn.Module):
    """An LSTM's final state, dropout, one Dense layer.

    Attributes:
      hidden: width of the LSTM.
      features: width of the result.
      dropout: rate on the final state.
    """

    hidden: int
    features: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] and mask [B, T] to one step for every clip, [B, 1, features] and [B, 1]."""
        _, (h, _) = LSTM(self.hidden, name="lstm")(x, mask)
        y = Dense(self.features, name="linear")(Dropout(self.dropout)(h, train))
        return y[:, None], jnp.ones((x.shape[0], 1), bool)


class FeatureHead(nn.Module):
    """Dropout, Dense, ReLU (the feature); then Dense, ReLU, Dense (the score).

    Attributes:
      hidden: F, width of both inner layers.
      dropout: rate on the input.
    """

    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, D] to the feature [B, F] and the score [B]."""
        x = Dropout(self.dropout)(x, train)
        feature = nn.relu(Dense(self.hidden, name="linear_1")(x))
        hidden = nn.relu(Dense(self.hidden, name="linear_2")(feature))
        return feature, Dense(1, name="linear_3")(hidden)[:, 0]


class Heads(nn.Module):
    """The four heads, which TETFN shares.

    Attributes:
      s: their settings.
    """

    s: HeadSettings

    @nn.compact
    def __call__(self, vectors: dict[str, jax.Array], train: bool) -> Outputs:
        """Vectors [B, D] under "fusion", "text", "audio", "vision" to scores and features [B, F]."""
        predictions, features = {}, {}
        for name, task in {"fusion": "M", **UNIMODAL_TASKS}.items():
            rate = getattr(self.s, f"post_{name}_dropout")
            head = FeatureHead(getattr(self.s, f"post_{name}_dim"), rate, name=name)
            features[name], predictions[task] = head(vectors[name], train)
        return Outputs(predictions, features)


class SelfMm(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M", "T", "A", "V" [B]; features "text", "audio", "vision", "fusion" of the
        heads, [B, F] each, and the text's "states" [B, T, D]."""
        states, _ = TextStates(self.source, self.s.compat, name="text_encoder")(batch, train)
        vectors = {"text": states[:, 0]}
        for m in ("audio", "vision"):
            vectors[m] = self._final_state(m, batch, train)
        vectors["fusion"] = jnp.concatenate([vectors[m] for m in MODALITIES], axis=-1)
        outputs = Heads(self.s, name="heads")(vectors, train)
        return outputs.replace(features={**outputs.features, "states": states})

    def _final_state(self, m: str, batch: Batch, train: bool) -> jax.Array:
        """The vector of audio or vision, [B, out]."""
        s, columns = self.s, dict(self.columns)
        sizes = {"hidden": getattr(s, f"{m}_hidden"), "features": getattr(s, f"{m}_out")}
        subnet = functools.partial(FinalState, **sizes, dropout=getattr(s, f"{m}_dropout"))
        if m in columns:
            split = FineGrained(columns[m], subnet, s.join, name=m)
            return split(batch.values[m], batch.mask[m], train)[0][:, 0]
        return subnet(name=m)(batch.values[m], batch.mask[m], train)[0][:, 0]


def build(s: Settings, spec: DatasetSpec) -> SelfMm:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return SelfMm(s, text_source(s, spec), split_columns(s.fg, spec))


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "audio_out": 4,
    "vision_out": 4,
    "post_fusion_dim": 8,
    "post_text_dim": 6,
    "post_audio_dim": 6,
    "post_vision_dim": 6,
}
MODEL = Declaration(Settings, PRESETS, build, label_generation.objective, DATA, TINY)
