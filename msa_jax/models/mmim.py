"""MMIM: fusion that keeps the mutual information of its inputs (Han et al. 2021). Regression only.

Text is the state of the first token; audio and vision each the final states of a bidirectional LSTM,
through one Dense layer. The three vectors joined, two tanh layers make the fusion vector and a Dense
layer the score. Beside the absolute error the loss holds

* a contrast: the fusion vector must predict each modality's vector of its own clip among the batch's;
* a lower bound on the information that text has of vision and of audio: a Gaussian's log-likelihood,
  whose mean and variance small networks read from the text, plus the entropy of a projection of the
  modality's vectors, estimated from the covariances of this and the previous batch's positive and
  negative clips.

An epoch has two passes. The first trains the small networks alone to raise the likelihood; the second
everything else, by the whole loss (the entropy from its third batch on). The entropy's projections are
in no pass, as in the public code: they stay as they were drawn. All kernels outside the text encoder
start from Xavier's normal values.

The likelihood leaves out the log-variance (see :func:`~msa_jax.models.mutual_information.log_likelihood`),
as the public code does. Here the covariances have a small ridge, so that a batch with few clips of a
sign gives a finite entropy, and one without any adds nothing. The memory is kept as the samples'
moments, which loses nothing.

``compat=True`` restores covariances without ridge: the entropy is NaN or infinite where a sign has too few
clips. Not restored: clipping by a norm that includes gradients of parameters that the pass does not
train, and for data that is aligned beforehand, the text's length for all three (its masks say the same).

Split modalities have a copy of LSTM and Dense layer per column group, and attention joins their vectors,
as in Self-MM by Zheng et al. 2024; neither they nor Han et al. printed this combination. The attention
starts from the values that it has in every other model.
"""

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.mutual_information import (
    RIDGE,
    Moments,
    contrast,
    entropy,
    log_likelihood,
    moments,
    no_moments,
    union,
)
from msa_jax.models.objectives import Objective, Prelude, absolute_error
from msa_jax.models.outputs import Outputs
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense, xavier_normal
from msa_jax.nn.recurrent import LSTM
from msa_jax.typed_settings import Count, Factor, Rate, Share

#: What text is to tell of, and the letter of each in the loss's parts.
READ_FROM_TEXT = {"vision": "v", "audio": "a"}
#: The entropy's projection has this part of its modality's width.
_PART = 4

#: Per modality of READ_FROM_TEXT, of the projected samples: {"positive": ..., "negative": ...}.
SampleMoments = dict[str, dict[str, Moments]]


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the MMSA toolkit's, the same for all data sets but one number."""

    audio_hidden: Count = 16  # of the bidirectional LSTM, per direction
    vision_hidden: Count = 16
    audio_out: Count = 16  # of the layer after it
    vision_out: Count = 16
    fusion_hidden: Count = 128  # of both fusion layers
    dropout: Rate = 0.1  # before them
    contrast_weight: Factor = 0.1  # factor of the contrast (alpha)
    bound_weight: Factor = 0.1  # factor of the likelihood and the entropy (beta)
    # The pass before each epoch's own, which trains the networks of the likelihood.
    mi_learning_rate: Factor = 1e-3
    mi_weight_decay: Factor = 1e-4
    mi_clip_norm: Factor = 1.0  # global norm; 0: off
    mi_share: Share = 1.0  # part of the epoch's batches

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task != "regression":
            raise ConfigError(
                "model mmim tells clips apart by the sign of their score; set model.task=regression."
            )
        for key in ("audio_out", "vision_out"):
            if getattr(self, key) < _PART:
                raise ConfigError(f"model.{key}={getattr(self, key)} must be at least {_PART}.")


#: A rate of its own for the encoder; clipped by norm; the rate halves after 20 epochs on a plateau.
_TRAIN = peer_train(
    32,
    1e-3,
    1e-4,
    clip_norm=1.0,
    groups={"encoder": {"paths": "text_encoder/*", "learning_rate": 5e-5, "weight_decay": 1e-4}},
    schedule="plateau",
    plateau_factor=0.5,
    plateau_patience=20,
)
PRESETS = {
    "mosi": Preset(Settings(), _TRAIN),
    "mosei": Preset(Settings(mi_share=0.5), _TRAIN),
    "sims": Preset(Settings(encoder=CHINESE), _TRAIN),
}


def _dense(features: int, name: str) -> Dense:
    return Dense(features, kernel_init=xavier_normal, name=name)


class FinalStates(nn.Module):
    """A bidirectional LSTM's final states, then one Dense layer.

    Attributes:
      hidden: width of the LSTM, per direction.
      features: width of the result.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] and mask [B, T] to one step for every clip, [B, 1, features] and [B, 1]."""
        del train
        lstm = LSTM(self.hidden, bidirectional=True, kernel_init=xavier_normal, name="lstm")
        _, (h, _) = lstm(x, mask)
        return _dense(self.features, "linear")(h)[:, None], jnp.ones((x.shape[0], 1), bool)


class Likelihood(nn.Module):
    """What the text tells of a modality's vector, and the projection whose entropy is estimated.

    Attributes:
      width: D of the modality's vector.
    """

    width: int

    @nn.compact
    def __call__(self, text: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        """text [B, Dt] and y [B, D] to "mean" and "log_variance" [B, D], and "sample" [B, D / 4]."""
        told = {
            name: _dense(self.width, f"{name}_2")(nn.relu(_dense(self.width, f"{name}_1")(text)))
            for name in ("mean", "log_variance")
        }
        return {**told, "sample": jnp.tanh(_dense(self.width // _PART, "entropy")(y))}


class Mmim(nn.Module):
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
        """Scores a batch: "M" [B].

        Features: "text", "audio", "vision", "fusion"; "predicted_m" for each of the three modalities,
        as wide as m; "mean_m", "log_variance_m" and "sample_m" for audio and vision. All [B, width].
        """
        s = self.s
        states, _ = TextStates(self.source, s.compat, name="text_encoder")(batch, train)
        clips = {"text": states[:, 0]}
        clips |= {m: self._final_states(m, batch, train) for m in ("audio", "vision")}
        joined = jnp.concatenate([clips[m] for m in ("text", "audio", "vision")], axis=-1)
        hidden = jnp.tanh(_dense(s.fusion_hidden, "fusion_1")(Dropout(s.dropout)(joined, train)))
        fusion = jnp.tanh(_dense(s.fusion_hidden, "fusion_2")(hidden))
        features = {**clips, "fusion": fusion}
        for m, x in clips.items():
            features[f"predicted_{m}"] = _dense(x.shape[-1], f"predict_{m}")(fusion)
        for m in READ_FROM_TEXT:
            told = Likelihood(clips[m].shape[-1], name=f"mi_{m}")(clips["text"], clips[m])
            features |= {f"{name}_{m}": x for name, x in told.items()}
        return Outputs({"M": _dense(1, "fusion_3")(fusion)[:, 0]}, features)

    def _final_states(self, m: str, batch: Batch, train: bool) -> jax.Array:
        """The vector of audio or vision, [B, out]."""
        s, columns = self.s, dict(self.columns)
        subnet = functools.partial(FinalStates, getattr(s, f"{m}_hidden"), getattr(s, f"{m}_out"))
        if m in columns:
            split = FineGrained(columns[m], subnet, s.join, name=m)
            return split(batch.values[m], batch.mask[m], train)[0][:, 0]
        return subnet(name=m)(batch.values[m], batch.mask[m], train)[0][:, 0]


def build(s: Settings, spec: DatasetSpec) -> Mmim:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mmim(s, text_source(s, spec), split_columns(s.fg, spec))


def frozen(s: Settings) -> tuple[str, ...]:
    """The networks that the likelihood and the entropy use: the main pass does not train them."""
    del s
    return ("mi_*",)


def sample_moments(outputs: Outputs, batch: Batch) -> SampleMoments:
    """The projected samples of a batch's positive and of its negative clips, as moments."""
    label, weight = batch.labels["M"], batch.weight
    signs = {"positive": weight * (label > 0), "negative": weight * (label < 0)}
    return {
        m: {sign: moments(outputs.features[f"sample_{m}"], real) for sign, real in signs.items()}
        for m in READ_FROM_TEXT
    }


def _likelihoods(outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
    f = outputs.features
    parts = {
        f"lld_t{letter}": log_likelihood(f[m], f[f"mean_{m}"], f[f"log_variance_{m}"], batch.weight)
        for m, letter in READ_FROM_TEXT.items()
    }
    return {**parts, "lld": jnp.asarray(sum(parts.values()))}


def _contrasts(outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
    parts = {
        f"nce_{m[0]}": contrast(outputs.features[m], outputs.features[f"predicted_{m}"], batch.weight)
        for m in ("text", "vision", "audio")
    }
    return {**parts, "nce": jnp.asarray(sum(parts.values()))}


def _entropies(
    now: SampleMoments, before: SampleMoments, wanted: jax.Array, ridge: float
) -> dict[str, jax.Array]:
    parts = {}
    for m, letter in READ_FROM_TEXT.items():
        positive, negative = (union(before[m][sign], now[m][sign]) for sign in ("positive", "negative"))
        parts[f"H_t{letter}"] = entropy(positive, negative, wanted, ridge)
    return {**parts, "H": jnp.asarray(sum(parts.values()))}


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """error + contrast_weight * nce - bound_weight * (lld + H), with the pass before it.

    The memory: "step", batches seen; "steps_per_epoch"; "samples", the previous batch's moments. The
    entropy needs them only from an epoch's third batch on, so nothing passes from one epoch to the next.
    Parts: "task", "nce", "lld", "H", and those three's own terms per modality (H is 0 before the third
    batch). Evaluation knows the task's error alone.
    """
    del spec
    ridge = 0.0 if s.compat else RIDGE

    def memory(labels: Mapping[str, np.ndarray], steps_per_epoch: int) -> dict[str, object]:
        del labels
        samples = {
            m: {sign: no_moments(getattr(s, f"{m}_out") // _PART) for sign in ("positive", "negative")}
            for m in READ_FROM_TEXT
        }
        steps = jnp.asarray(steps_per_epoch, jnp.int32)
        return {"step": jnp.zeros((), jnp.int32), "steps_per_epoch": steps, "samples": samples}

    def remember(outputs: Outputs, batch: Batch, memory: dict) -> dict[str, object]:
        return {**memory, "step": memory["step"] + 1, "samples": sample_moments(outputs, batch)}

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        error = absolute_error(outputs.predictions["M"], batch)
        return error, {"task": error}

    def likelihood(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = _likelihoods(outputs, batch)
        return -parts["lld"], parts

    def loss(outputs: Outputs, batch: Batch, memory: dict) -> tuple[jax.Array, dict[str, jax.Array]]:
        error, parts = task(outputs, batch, memory)
        third_on = memory["step"] % memory["steps_per_epoch"] >= 2
        parts |= _likelihoods(outputs, batch) | _contrasts(outputs, batch)
        parts |= _entropies(sample_moments(outputs, batch), memory["samples"], third_on, ridge)
        bound = parts["lld"] + parts["H"]
        return error + s.contrast_weight * parts["nce"] - s.bound_weight * bound, parts

    prelude = Prelude(
        loss=likelihood,
        paths=("mi_*/mean_*", "mi_*/log_variance_*"),
        learning_rate=s.mi_learning_rate,
        weight_decay=s.mi_weight_decay,
        clip_norm=s.mi_clip_norm,
        share=s.mi_share,
    )
    return Objective(loss, task, memory, remember, prelude)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "audio_out": 8,
    "vision_out": 8,
    "fusion_hidden": 8,
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY, frozen)
