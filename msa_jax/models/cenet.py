"""CENET: a text that reads sound and face while it is being encoded (Wang et al. 2022).

Behind the first layer of a BERT stands the cross-modal enhancement: each token's state looks into the
frames of audio and into those of vision, by an attention of one head each, and what it finds shifts it.
BERT's other layers carry the shifts on, and the score comes from the first token's last state.

The authors replace a frame by a learned vector for the cluster that it belongs to; here, as in their code
for the MMSA toolkit, two layers bring the frames themselves to the text's width.

Stored text features (``text_encoder=frozen``) are the last states of an encoder, so no layer can carry the
other tokens' shifts to the first one: the mean over the tokens is what the score is read from.

Fine-grained: a split modality has such layers per column group and one attention head over time each (its
authors did not try it on this model).

``compat=True`` restores what the public code does otherwise:

- scores of the attention are multiplied by 8 instead of divided by sqrt(D), which leaves a token one frame to
  read from the start;
- the padding of audio and vision is read;
- BERT's embeddings are not trained.

Not restored: three tables of embeddings and BERT's pooler, which nothing reads.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, scores
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.attention import attention_weights, keep
from msa_jax.nn.bert import dense
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.pooling import masked_mean

#: A sequence [B, T, D] and its mask [B, T].
Sequence = tuple[jax.Array, jax.Array]

#: Layers of the encoder that the states have passed when they are enhanced.
PASSED = 1
#: What the public code multiplies an attention's scores by.
_FACTOR = 8.0


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block. All widths, and the head's dropout, are the encoder's."""


def _train(batch_size: int, learning_rate: float, decay: float) -> dict:
    """One rate for all. Norms do not decay, and biases only where audio and vision pass."""
    spared = "text_encoder/*bias, text_encoder/*norm/*, hidden/bias, output/bias"
    groups = {"no_decay": {"paths": spared, "weight_decay": 0.0}}
    return peer_train(batch_size, learning_rate, decay, clip_norm=2.0, groups=groups)


#: Settings of the MMSA toolkit (tuned there per data set), but for Adam's epsilon, which is 3e-8 there on
#: CMU-MOSI and 2e-8 on CH-SIMS. On CH-SIMS v2 it has 64 clips and 3e-5.
PRESETS = {
    "mosi": Preset(Settings(), _train(64, 1e-5, 1e-4)),
    "mosei": Preset(Settings(), _train(64, 1e-5, 1e-4)),
    "sims": Preset(Settings(encoder=CHINESE), _train(32, 2e-6, 0.0)),
}


class FrameLayers(nn.Module):
    """Dense, ReLU, Dense, frame by frame, with BERT's initial values.

    Attributes:
      features: width of both.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> Sequence:
        """x [B, T, D] to [B, T, features]; the mask [B, T] stays."""
        del train
        return dense(self.features, "outer")(nn.relu(dense(self.features, "inner")(x))), mask


class Look(nn.Module):
    """One attention head in which tokens ask and frames answer.

    Attributes:
      factor: on the scores.
    """

    factor: float

    @nn.compact
    def __call__(self, text: Sequence, frames: Sequence) -> jax.Array:
        """Tokens [B, T, D] and frames [B, T', D], both with masks, to what each token finds, [B, T, D]."""
        (x, real), (y, mask) = text, frames
        query, key, value = (
            dense(x.shape[-1], name)(z)[:, None] for name, z in (("query", x), ("key", y), ("value", y))
        )
        weights = attention_weights(query, key, self.factor, mask)
        keep(self, weights, real, mask)
        # A clip without a frame reads its padding evenly, and that must say nothing.
        found = jnp.einsum("bkqt,bkth->bkqh", weights, jnp.where(mask[:, None, :, None], value, 0))
        return found[:, 0]


class Enhancement(nn.Module):
    """The cross-modal enhancement: what a token finds in vision and in audio, as a shift of its state.

    Attributes:
      factor: on the scores of both attentions.
    """

    factor: float

    @nn.compact
    def __call__(self, text: Sequence, audio: Sequence, vision: Sequence) -> dict[str, jax.Array]:
        """Three sequences of width D to "vision_attended", "audio_attended" and "shift", [B, T, D] each."""
        found = {m: Look(self.factor, name=m)(text, x) for m, x in (("vision", vision), ("audio", audio))}
        shift = dense(text[0].shape[-1], "shift")(jnp.concatenate(list(found.values()), axis=-1))
        return {f"{m}_attended": x for m, x in found.items()} | {"shift": shift}


class Cenet(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: "embedding" and "layer_0", the text before and after the first layer, "vision_attended",
        "audio_attended", "shift" and the last "states", [B, T, D] each; "vision_transformed" and
        "audio_transformed", the frames [B, T', D]; "fusion", the head's [B, D].
        """
        s, tokens = self.s, batch.mask["text"]
        frames = self._frames(batch, train)
        features = {f"{m}_transformed": x for m, (x, _) in frames.items()}
        factor = _FACTOR if s.compat else self.source.width**-0.5
        enhancement = Enhancement(factor, name="enhancement")

        def embedded(x: jax.Array) -> jax.Array:
            features["embedding"] = x
            return jax.lax.stop_gradient(x) if s.compat else x

        def enhanced(x: jax.Array) -> jax.Array:
            features.update(layer_0=x, **enhancement((x, tokens), frames["audio"], frames["vision"]))
            return x + features["shift"]

        encoder = TextStates(self.source, s.compat, name="text_encoder")
        states, _ = encoder(batch, train, {0: embedded, PASSED: enhanced})
        clip = masked_mean(states, tokens) if self.source.encoder is None else states[:, 0]
        fusion = self._hidden(clip, train)
        y = dense(self.n_outputs, "output")(Dropout(s.encoder.dropout)(fusion, train))
        return Outputs({"M": scores(y)}, {**features, "states": states, "fusion": fusion})

    def _frames(self, batch: Batch, train: bool) -> dict[str, Sequence]:
        """Audio and vision at the text's width, with their masks."""
        values, masks = read_inputs(batch, self.s.compat)
        columns, layers, frames = dict(self.columns), functools.partial(FrameLayers, self.source.width), {}
        for m in ("audio", "vision"):
            split = m in columns
            front = FineGrained(columns[m], layers, self.s.join, name=m) if split else layers(name=m)
            frames[m] = front(values[m], masks[m], train)
        return frames

    def _hidden(self, clip: jax.Array, train: bool) -> jax.Array:
        """The head's hidden layer, [B, D] to [B, D]."""
        return jnp.tanh(dense(self.source.width, "hidden")(Dropout(self.s.encoder.dropout)(clip, train)))


def build(s: Settings, spec: DatasetSpec) -> Cenet:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Cenet(s, text_source(s, spec), split_columns(s.fg, spec), n_outputs(s))


def frozen(s: Settings) -> tuple[str, ...]:
    """What the public code does not train."""
    return ("text_encoder/bert/embeddings/*",) if s.compat else ()


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {"encoder": TINY_ENCODER}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY, frozen)
