"""EMT-DLFR: a score that lost words and frames leave alone (Sun et al. 2023).

Text is a BERT's states, audio and vision each an LSTM's outputs; of each modality there is a sequence and one
vector, for text the first token and else the last real step. The three vectors are the global tokens.
In the efficient multimodal transformer (EMT) each layer lets each sequence read the global tokens and the
global tokens read each sequence; a pooling brings the three readings together. One unit of attention does all
of it, in both directions, for all modalities and layers.

A training step sees each clip twice, as it is and without what ``train.corrupt`` takes (dual-level feature
restoration, DLFR). Low level: the words and frames that were taken are reconstructed from the sequences. High
level: vectors and global tokens of the two views attract each other, by the loss of SimSiam. Both views are
scored. Evaluation reads a clip once, and needs no part of that. Without ``train.corrupt`` both views are the
same clip, apart from dropout, and nothing is reconstructed.

The authors train a model per rate of losses (``train.corrupt_rates=(0.3,0.3)``), on losses that are drawn
once. Here they are drawn anew in every step, by default at any rate that the authors evaluate; validation
clips stay whole, and their task loss picks the epoch.

Stored text features (``text_encoder=frozen``) have no tokens at their ends: the vector is their mean and
the sequence all of them. Fine-grained: a split modality has an LSTM per column group.

The model itself has no quirk to restore. With ``compat=True`` its training is: gradients of accumulated
batches are summed. Not restored: a clip without a key to read, which spreads its attention over padding;
losses that the three splits share row by row; an epoch that is picked by the whole training loss.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models.cosine_losses import cosine
from msa_jax.models.declare import Declaration, Preset, encoder_groups, peer_train
from msa_jax.models.objectives import Objective, absolute_error, clip_mean, cross_entropy
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, require_heads, scores
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.batch_norm import BatchNorm
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import last_step, masked_mean
from msa_jax.nn.recurrent import LSTM
from msa_jax.nn.subnets import PostFusion
from msa_jax.nn.transformer import interleaved_positions, layer_norm
from msa_jax.typed_settings import Count, Factor, Rate

#: What the two views of a clip attract each other by.
ATTRACTED = ("global", *MODALITIES)


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the authors' numbers for CMU-MOSI."""

    audio_hidden: Count = 32  # of the LSTM
    vision_hidden: Count = 64
    audio_out: Count = 16  # of the layer after it, which is left out where the LSTM has that width
    vision_out: Count = 32
    d_model: Count = 128  # D of the global tokens and sequences in the transformer
    n_layers: Count = 3
    heads: Count = 4
    ff_expansion: Count = 4  # width inside the feed-forward network over D
    attention_dropout: Rate = 0.3  # on the attention weights
    ff_dropout: Rate = 0.1  # on what the feed-forward network gives
    post_fusion_dim: Count = 256
    post_dropout: Rate = 0.3
    # Width inside the predictors, whose outputs attract the other view.
    global_predictor: Count = 128
    text_predictor: Count = 256
    audio_predictor: Count = 8
    vision_predictor: Count = 16
    attract_weight: Factor = 1.0  # of the four attractions and of the whole clip's error
    restore_weight: Factor = 1.0  # of the three reconstructions

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "heads", self.d_model, "d_model")


def _train(
    batch_size: int,
    encoder: float,
    audio: tuple[float, float],
    vision: tuple[float, float],
    rest: tuple[float, float],
    highest: float = 1.0,
) -> dict:
    """4 batches per update; the encoder's rate, (rate, decay) of the others, the highest rate of losses."""
    groups = encoder_groups(encoder, 1e-3) | {
        m: {"paths": f"{m}/*", "learning_rate": rate, "weight_decay": decay}
        for m, (rate, decay) in (("audio", audio), ("vision", vision))
    }
    losses = {"corrupt": "frames", "corrupt_rates": (0.0, highest)}
    return peer_train(batch_size, *rest, accumulate=4, groups=groups, **losses)


#: Settings of the authors' code (tuned there per data set); the highest rate of losses is their evaluation's.
PRESETS = {
    "mosi": Preset(Settings(), _train(32, 5e-5, audio=(1e-3, 1e-2), vision=(1e-4, 1e-3), rest=(1e-3, 1e-3))),
    "mosei": Preset(
        Settings(
            audio_hidden=16,
            vision_hidden=32,
            n_layers=2,
            attention_dropout=0.0,
            ff_dropout=0.0,
            post_fusion_dim=128,
            post_dropout=0.0,
        ),
        _train(16, 2e-5, audio=(1e-4, 1e-3), vision=(1e-4, 1e-3), rest=(1e-4, 1e-3)),
    ),
    "sims": Preset(
        Settings(
            encoder=CHINESE,
            audio_hidden=16,
            vision_hidden=32,
            d_model=32,
            n_layers=4,
            attention_dropout=0.0,
            ff_dropout=0.0,
            post_dropout=0.0,
            attract_weight=0.5,
            restore_weight=0.5,
        ),
        _train(32, 2e-5, audio=(1e-3, 0.0), vision=(1e-3, 0.0), rest=(1e-3, 0.0), highest=0.5),
    ),
}


class Reader(nn.Module):
    """An LSTM's outputs, through one Dense layer where their width is not the one wanted.

    Attributes:
      hidden: width of the LSTM.
      features: width of the result.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] to [B, T, features]; the mask [B, T] stays."""
        del train
        outputs, _ = LSTM(self.hidden, name="lstm")(x, mask)
        if self.hidden != self.features:
            outputs = Dense(self.features, name="linear")(outputs)
        return outputs, mask


class Unit(nn.Module):
    """Pre-norm attention to a source and to itself, then x * GELU(gate) between two Dense layers.

    Attributes:
      s: sizes and rates.
    """

    s: Settings

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        source: jax.Array,
        mask: jax.Array | None,
        source_mask: jax.Array | None,
        train: bool,
    ) -> jax.Array:
        """x [B, T, D] reads source [B, T', D]; real steps by mask and source_mask (None: all)."""
        s, width = self.s, x.shape[-1]
        attention = functools.partial(
            MultiHeadAttention, s.heads, use_bias=False, output_bias=True, dropout=s.attention_dropout
        )
        query, key = layer_norm("cross_norm")(x), layer_norm("source_norm")(source)
        x = x + attention(name="cross")(query, key, source_mask, train=train, query_mask=mask)
        own = layer_norm("own_norm")(x)
        x = x + attention(name="own")(own, own, mask, train=train, query_mask=mask)
        both = Dense(2 * s.ff_expansion * width, name="inner")(layer_norm("ff_norm")(x))
        value, gate = jnp.split(both, 2, axis=-1)
        y = Dense(width, name="outer")(value * nn.gelu(gate, approximate=False))
        return x + Dropout(s.ff_dropout)(y, train)


class Pool(nn.Module):
    """What the global tokens read in each modality, weighted by a learned score and added up."""

    @nn.compact
    def __call__(self, readings: jax.Array) -> jax.Array:
        """[B, 3, 3, D], modality first, to [B, 3, D]."""
        joined = readings.reshape(*readings.shape[:2], -1)
        score = Dense(1, name="score")(jnp.tanh(Dense(joined.shape[-1], name="inner")(joined)))
        return jnp.sum(nn.softmax(score, axis=1)[..., None] * readings, axis=1)


class Attraction(nn.Module):
    """SimSiam's projection of a vector, and the prediction of the other view's from it.

    Attributes:
      hidden: width inside the predictor.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, W] to the projection and the prediction, both [B, W]; rows not ``real`` [B, 1] only fill."""
        width = x.shape[-1]
        projected = BatchNorm(affine=False, name="projector_norm")(
            Dense(width, name="projector")(x), real, train
        )
        hidden = Dense(self.hidden, use_bias=False, name="predictor_1")(projected)
        hidden = nn.relu(BatchNorm(name="predictor_norm")(hidden, real, train))
        return projected, Dense(width, name="predictor_2")(hidden)


class EmtDlfr(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      widths: of audio and vision as they are read, which are reconstructed.
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    widths: tuple[tuple[str, int], ...]
    n_outputs: int

    def setup(self) -> None:
        """Both views of a clip go through the same modules."""
        s = self.s
        outs = {"text": self.source.width, "audio": s.audio_out, "vision": s.vision_out}
        self.text_encoder = TextStates(self.source, s.compat)
        self.audio, self.vision = self._reader("audio"), self._reader("vision")
        others = [m for m in MODALITIES if outs[m] != s.d_model]
        self.equalise = {m: Dense(s.d_model, use_bias=False) for m in others}
        self.unit, self.pool = Unit(s), Pool()
        self.head = PostFusion(s.post_fusion_dim, self.n_outputs, s.post_dropout)
        self.attraction = {name: Attraction(getattr(s, f"{name}_predictor")) for name in ATTRACTED}
        self.restore = {m: Dense(width) for m, width in (("text", self.source.width), *self.widths)}

    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]), and where it learns "M_complete" of the whole clips.

        Features: the text's "states" [B, T, W]; per modality "vector_m" [B, W] and, after the transformer,
        its sequence "local_m" [B, T', D], of a text of tokens without the first; "global" [B, 3, D], the
        tokens; "fusion", vectors and tokens as one [B, F]. Where it learns, also "projected_NAME" and
        "predicted_NAME" [B, W] of "global" and each modality; all these of the whole clips, as
        "complete_NAME"; "restored_m" [B, T', W], and what the text's is to be, "wanted_text".
        """
        if not (train or batch.before is not None or self.is_initializing()):
            prediction, features, _ = self._view(batch, train)
            return Outputs({"M": prediction}, features)
        whole = batch if batch.before is None else batch.before.clips
        found = self._view(stacked(whole, batch), train)
        rows, real = len(batch.weight), (batch.weight > 0)[:, None]
        # The whole clips first, since running statistics move with each view.
        complete, theirs, wanted = jax.tree.map(lambda x: x[:rows], found)
        prediction, features, _ = jax.tree.map(lambda x: x[rows:], found)
        theirs |= self._attractions(theirs, real, train)
        features |= self._attractions(features, real, train)
        restored = {f"restored_{m}": layer(features[f"local_{m}"]) for m, layer in self.restore.items()}
        theirs = {f"complete_{name}": x for name, x in theirs.items()}
        return Outputs(
            {"M": prediction, "M_complete": complete},
            features | restored | theirs | {"wanted_text": jax.lax.stop_gradient(wanted)},
        )

    def _view(self, batch: Batch, train: bool) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        """The prediction, the features, and the text's sequence before it is equalised, [B, T', D]."""
        states, vectors, sequences, masks = self._read(batch, train)
        tokens = jnp.stack([self._equal(m, vectors[m]) for m in MODALITIES], axis=1)
        local = {}
        for m in MODALITIES:
            x = self._equal(m, sequences[m])
            local[m] = x + interleaved_positions(x.shape[1], x.shape[2]).astype(x.dtype)[None]
        for _ in range(self.s.n_layers):
            readings = [self.unit(tokens, x, None, masks[m], train) for m, x in local.items()]
            local = {m: self.unit(x, tokens, masks[m], None, train) for m, x in local.items()}
            tokens = self.pool(jnp.stack(readings, axis=1))
        joined = [*(vectors[m] for m in MODALITIES), tokens.reshape(tokens.shape[0], -1)]
        fusion = jnp.concatenate(joined, axis=-1)
        features = {"states": states, "global": tokens, "fusion": fusion}
        features |= {f"vector_{m}": x for m, x in vectors.items()}
        features |= {f"local_{m}": x for m, x in local.items()}
        return scores(self.head(fusion, train)), features, sequences["text"]

    def _read(self, batch: Batch, train: bool) -> tuple[jax.Array, Any, Any, Any]:
        """The text's states, and per modality its vector [B, W], its sequence [B, T', W] and mask [B, T']."""
        states, mask = self.text_encoder(batch, train)
        tokens = self.source.encoder is not None
        vectors = {"text": states[:, 0] if tokens else masked_mean(states, mask)}
        sequences, masks = {"text": after_first(states, tokens)}, {"text": mask}
        if tokens:  # the last real token separates, and is no word either
            masks["text"] = mask[:, 1:] & jnp.pad(mask[:, 2:], ((0, 0), (0, 1)))
        for m, reader in (("audio", self.audio), ("vision", self.vision)):
            sequences[m], masks[m] = reader(batch.values[m], batch.mask[m], train)
            vectors[m] = last_step(sequences[m], masks[m])
        return states, vectors, sequences, masks

    def _reader(self, m: str) -> nn.Module:
        """What reads audio or vision, whole or by column groups."""
        subnet = functools.partial(Reader, getattr(self.s, f"{m}_hidden"), getattr(self.s, f"{m}_out"))
        columns = dict(self.columns)
        return FineGrained(columns[m], subnet, self.s.join) if m in columns else subnet()

    def _equal(self, m: str, x: jax.Array) -> jax.Array:
        """A modality's vectors or sequence at the width of all, [..., D]."""
        return self.equalise[m](x) if m in self.equalise else x

    def _attractions(
        self, features: Mapping[str, jax.Array], real: jax.Array, train: bool
    ) -> dict[str, jax.Array]:
        """A view's projections and predictions; rows that are not real [B, 1] only fill the batch."""
        found = {}
        for name, attraction in self.attraction.items():
            x = features["global" if name == "global" else f"vector_{name}"]
            both = attraction(x.reshape(x.shape[0], -1), real, train)
            found[f"projected_{name}"], found[f"predicted_{name}"] = both
        return found


def stacked(first: Batch, second: Batch) -> Batch:
    """What is read of two batches as one of twice the rows, so that all is compiled and run once."""

    def join(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.concatenate([a, b])

    read = [(batch.values, batch.mask, batch.tokens) for batch in (first, second)]
    values, mask, tokens = jax.tree.map(join, *read)
    return second.replace(values=values, mask=mask, tokens=tokens, before=None)


def after_first(x: jax.Array, tokens: bool) -> jax.Array:
    """A text's steps [B, T, ...] without the first, where they are tokens."""
    return x[:, 1:] if tokens else x


def build(s: Settings, spec: DatasetSpec) -> EmtDlfr:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    widths = tuple((m, spec.modalities[m].width) for m in ("audio", "vision"))
    return EmtDlfr(s, text_source(s, spec), split_columns(s.fg, spec), widths, n_outputs(s))


def attraction(features: Mapping[str, jax.Array], name: str, weight: jax.Array) -> jax.Array:
    """SimSiam's loss: minus the mean cosine of each view's prediction to the other's projection, held."""
    found = []
    for of, to in (("", "complete_"), ("complete_", "")):
        wanted = jax.lax.stop_gradient(features[f"{to}projected_{name}"])
        found.append(clip_mean(cosine(features[f"{of}predicted_{name}"], wanted), weight))
    return -(found[0] + found[1]) / 2


def restoration(restored: jax.Array, wanted: jax.Array, lost: jax.Array) -> jax.Array:
    """The smooth absolute error of [B, T, D] per number, over the steps that were lost, [B, T]."""
    gap = jnp.abs(jnp.where(lost[..., None], restored - jnp.where(lost[..., None], wanted, 0), 0))
    total = jnp.sum(jnp.where(gap < 1, gap**2 / 2, gap - 0.5))
    return total / (jnp.sum(lost) * restored.shape[-1] + 1e-6)


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The error on the clips with losses, and what the whole ones add; evaluation knows the error alone.

    The error is the absolute one, for classification the cross-entropy. Parts: "M" and "M_complete",
    "attract_NAME" for the global tokens and each modality, "restore_m" for each modality.
    """
    del spec
    error = absolute_error if s.task == "regression" else cross_entropy

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"M": loss}

    def loss(outputs: Outputs, batch: Batch, memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, parts = task(outputs, batch, memory)
        features = outputs.features
        pull = {f"attract_{name}": attraction(features, name, batch.weight) for name in ATTRACTED}
        pull["M_complete"] = error(outputs.predictions["M_complete"], batch)
        restored = {f"restore_{m}": jnp.zeros(()) for m in MODALITIES}
        if batch.before is not None:
            tokens = s.text_encoder == "finetune"
            wanted = {**batch.before.clips.values, "text": features["wanted_text"]}
            lost = {m: x & (batch.weight > 0)[:, None] for m, x in batch.before.lost.items()}
            lost["text"] = after_first(lost["text"], tokens)
            restored = {
                f"restore_{m}": restoration(features[f"restored_{m}"], wanted[m], lost[m]) for m in MODALITIES
            }
        total += s.attract_weight * sum(pull.values()) + s.restore_weight * sum(restored.values())
        return total, parts | pull | restored

    return Objective(loss, valid=task)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "audio_out": 6,
    "vision_out": 4,
    "d_model": 8,
    "n_layers": 2,
    "heads": 2,
    "post_fusion_dim": 8,
    "global_predictor": 6,
    "text_predictor": 6,
    "audio_predictor": 6,
    "vision_predictor": 6,
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
