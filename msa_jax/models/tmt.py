"""TMT: tokens that gather what modalities share and what is each one's own (Yin et al. 2024).

Vision, audio and text are mapped to width d and follow each other in time behind 12 learned tokens. A
transformer over all of it fills the tokens: six are the invariant features, two each are those of
vision, audio and text. Two cross transformers let the specific tokens read the invariant ones and the
other way round; the means of both results are added and two Dense layers read the score.

Beside the task loss, invariant and specific tokens are driven to be uncorrelated, and each
modality's specific tokens towards the distribution of its features.

Audio and vision are in step with the text (data.reduce). Of each modality the first ``frames`` steps
are read, which the public loader cuts the data to; positions belong to a modality's step, so a batch
of short clips uses the first positions of each.

After the last layer only the tokens are read, so that it is computed for them alone.

``compat=True`` restores what the public code does otherwise: padding is attended to and averaged over.
It computes every step to the end, too, which changes no result.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, everywhere, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, scores
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import masked_mean
from msa_jax.nn.prenorm import PreNormEncoder
from msa_jax.nn.subnets import DenseSubnet
from msa_jax.typed_settings import Count, CountOrZero, Factor, Rate

#: Order of the modalities in time, and of their tokens.
ORDER = ("vision", "audio", "text")
#: Number of invariant tokens, and of specific ones per modality.
INVARIANT, SPECIFIC = 6, 2
TOKENS = INVARIANT + SPECIFIC * len(ORDER)
#: Bandwidths of the five Gaussian kernels of the discrepancy, as multiples of the mean distance.
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """The model block; the defaults are the public code's, which has one set of numbers for all data sets."""

    n_classes: CountOrZero = 0  # as classes, which came later; 0: what classes says
    d_model: Count = 256
    heads: Count = 8
    head_width: Count = 64
    n_layers: Count = 2  # of the transformer over tokens and steps
    hidden: Count = 512  # inside its feed-forward networks
    cross_layers: Count = 2  # of each cross transformer
    cross_hidden: Count = 256
    cross_positions: Count = 150  # learned positions on either side of it; 6 are in use
    head_hidden: Count = 128
    # Steps read of text, audio, vision; later ones are cut off.
    frames: tuple[Count, Count, Count] = (20, 20, 20)
    input_dropout: Rate = 0.5  # on the features
    embed_dropout: Rate = 0.1  # on tokens and steps with their positions
    dropout: Rate = 0.5  # in the feed-forward networks, and on what attention and they add
    task_weight: Factor = 10.0
    orthogonal_weight: Factor = 0.01
    mmd_weight: Factor = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = max(INVARIANT, TOKENS - INVARIANT)
        if self.cross_positions < needed:
            raise ConfigError(f"model.cross_positions={self.cross_positions} must be at least {needed}.")
        if self.n_classes == 1:
            raise ConfigError("model.n_classes=1 leaves nothing to tell apart; set 2 or more, or 0.")
        if self.classes and self.n_classes and self.classes != self.n_classes:
            raise ConfigError(
                f"model.n_classes={self.n_classes} contradicts model.classes={self.classes}; "
                "leave model.n_classes at 0."
            )


#: 200 epochs, 20 of them warm-up from 0, then a cosine to 0. The public script keeps the epoch of the best
#: test score, so it says nothing on stopping; patience is our choice, ALMT's.
PRESETS = everywhere(
    Settings(), peer_train(64, 1e-4, epochs=200, patience=32, schedule="cosine", warmup_epochs=20.0)
)


class CrossTransformer(nn.Module):
    """Target tokens read source tokens, both with learned positions.

    Attributes:
      s: the settings.
    """

    s: Settings

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array, train: bool) -> jax.Array:
        """source [B, Ts, d], target [B, Tt, d] to [B, Tt, d]."""
        s, dropout = self.s, Dropout(self.s.embed_dropout)

        def positioned(x: jax.Array, name: str) -> jax.Array:
            table = self.param(name, nn.initializers.normal(1.0), (s.cross_positions, s.d_model))
            return dropout(x + table[None, : x.shape[1]], train)

        source, target = positioned(source, "source_positions"), positioned(target, "target_positions")
        encoder = PreNormEncoder(
            s.cross_layers, s.heads, s.head_width, s.cross_hidden, s.dropout, name="encoder"
        )
        return encoder(target, source, train=train)


class Tmt(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch.

        Returns:
          "M" [B] (logits [B, C]); features "fusion" [B, d], "invariant" [B, 6, d], per modality its
          tokens "specific_text" [B, 2, d], its steps "projected_text" [B, T, d] and their mean "text"
          [B, d], and "encoded", "crossed_specific", "crossed_invariant", what the transformers give.
        """
        s = self.s
        projected, masks = self._projected(batch, train)
        encoded = self._encoded(projected, masks, train)
        invariant, *own = jnp.split(encoded[:, :TOKENS], list(range(INVARIANT, TOKENS, SPECIFIC)), axis=1)
        specific = jnp.concatenate(own, axis=1)
        crossed_specific = CrossTransformer(s, name="cross_specific")(invariant, specific, train)
        crossed_invariant = CrossTransformer(s, name="cross_invariant")(specific, invariant, train)
        fusion = crossed_specific.mean(axis=1) + crossed_invariant.mean(axis=1)
        y = Dense(self.n_outputs, name="output")(Dense(s.head_hidden, name="linear")(fusion))
        features = {
            "fusion": fusion,
            "invariant": invariant,
            "encoded": encoded,
            "crossed_specific": crossed_specific,
            "crossed_invariant": crossed_invariant,
        }
        for m, tokens in zip(ORDER, own, strict=True):
            features[f"specific_{m}"], features[f"projected_{m}"] = tokens, projected[m]
            features[m] = masked_mean(projected[m], masks[m])
        return Outputs({"M": scores(y)}, features)

    def _projected(self, batch: Batch, train: bool) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Each modality's first steps at width d, [B, T, d], zero at padding, and their masks [B, T]."""
        s, columns = self.s, dict(self.columns)
        values, masks = read_inputs(batch, s.compat)
        projected = {}
        for m, frames in zip(("text", "audio", "vision"), s.frames, strict=True):
            x, masks[m] = Dropout(s.input_dropout)(values[m][:, :frames], train), masks[m][:, :frames]
            if m in columns:
                projection = functools.partial(DenseSubnet, s.d_model)
                front = FineGrained(columns[m], projection, s.join, name=m)
            else:
                front = DenseSubnet(s.d_model, name=m)
            projected[m] = jnp.where(masks[m][..., None], front(x, masks[m], train)[0], 0)
        return projected, masks

    def _encoded(
        self, projected: dict[str, jax.Array], masks: dict[str, jax.Array], train: bool
    ) -> jax.Array:
        """Tokens after the first transformer, [B, 12, d]; under compat the steps too, [B, 12 + T, d]."""
        s = self.s
        tokens = self.param("tokens", nn.initializers.normal(1.0), (TOKENS, s.d_model))
        shape = (TOKENS + sum(s.frames), s.d_model)
        table = self.param("positions", nn.initializers.normal(1.0), shape)
        frames = dict(zip(("text", "audio", "vision"), s.frames, strict=True))
        rows = projected["text"].shape[0]
        parts = [jnp.broadcast_to((tokens + table[:TOKENS])[None], (rows, TOKENS, s.d_model))]
        start = TOKENS
        for m in ORDER:
            parts.append(projected[m] + table[None, start : start + projected[m].shape[1]])
            start += frames[m]
        mask = jnp.concatenate([jnp.ones((rows, TOKENS), bool), *(masks[m] for m in ORDER)], axis=1)
        x = Dropout(s.embed_dropout)(jnp.concatenate(parts, axis=1), train)
        encoder = PreNormEncoder(s.n_layers, s.heads, s.head_width, s.hidden, s.dropout, name="encoder")
        return encoder(x, mask=mask, train=train, keep=None if s.compat else TOKENS)


def orthogonality(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """How correlated two feature vectors are over a batch; 0 if not at all.

    Both are centred over the batch and each clip's vector is brought to length 1 (the length counts
    as a constant in the gradient); then the mean square of all entries of a^T b.

    Args:
      a: [B, d].
      b: [B, d].
      weight: [B]; clips of weight 0 are left out.
    """
    real = (weight > 0)[:, None]

    def directions(x: jax.Array) -> jax.Array:
        x = jnp.where(real, x, 0)
        x = jnp.where(real, x - x.sum(axis=0, keepdims=True) / jnp.maximum(real.sum(), 1), 0)
        length = jax.lax.stop_gradient(jnp.linalg.norm(x, axis=1, keepdims=True))
        return x / (length + 1e-6)

    return jnp.mean((directions(a).T @ directions(b)) ** 2)


def squared_distances(x: jax.Array, real: jax.Array) -> jax.Array:
    """Of all pairs of rows of x [N, d], those marked real [N]: [N, N].

    |x_i|^2 + |x_j|^2 - 2 x_i x_j, from the rows' mean, so that what cancels is no larger than the
    distances themselves; one matrix product instead of N^2 differences.
    """
    x = jnp.where(real[:, None], x, 0)
    mean = x.sum(axis=0, keepdims=True) / jnp.maximum(real.sum(), 1)
    x = jnp.where(real[:, None], x - jax.lax.stop_gradient(mean), 0)
    squares = jnp.sum(x**2, axis=1)
    apart = squares[:, None] + squares[None] - 2 * jnp.matmul(x, x.T, precision="highest")
    return jnp.where(jnp.eye(len(x), dtype=bool), 0, jnp.maximum(apart, 0))


def discrepancy(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Maximum mean discrepancy of two samples [B, d] with a sum of five Gaussian kernels.

    Their widths follow the mean distance between the clips of both samples, which counts as a constant
    in the gradient. Clips of weight [B] 0 are left out.
    """
    both = jnp.concatenate([a, b])
    real = jnp.tile(weight > 0, 2)
    pairs = real[:, None] & real[None, :]
    distances = jnp.where(pairs, squared_distances(both, real), 0)
    count = real.sum().astype(distances.dtype)
    mean = jax.lax.stop_gradient(distances.sum() / jnp.maximum(count**2 - count, 1))
    mean = jnp.maximum(mean, jnp.finfo(distances.dtype).tiny * 4)  # all clips alike
    kernels = sum(jnp.exp(-distances / (mean * bandwidth)) for bandwidth in BANDWIDTHS)
    sign = jnp.repeat(jnp.array([1.0, -1.0], distances.dtype), len(a))
    signed = jnp.where(pairs, kernels * sign[:, None] * sign[None], 0)
    return signed.sum() / jnp.maximum(count / 2, 1) ** 2


def build(s: Settings, spec: DatasetSpec) -> Tmt:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    asked = dataclasses.replace(s, classes=s.classes or s.n_classes)
    return Tmt(s, split_columns(s.fg, spec), n_outputs(asked))


def steps_read(s: Settings) -> tuple[int, int, int]:
    """How many first steps of text, audio and vision are read; later ones need no place in a batch."""
    return s.frames


def objective(s: Settings, spec: DatasetSpec) -> objectives.Objective:
    """task_weight * task + orthogonal_weight * orthogonal + mmd_weight * mmd.

    The task's loss is the squared error, or cross-entropy for classification. "orthogonal" is the mean
    over three pairs of invariant and specific tokens plus the mean over three pairs of specific ones;
    "mmd" is the mean over the modalities, of their features' means against their specific tokens.
    """
    del spec
    task_loss = objectives.squared_error if s.task == "regression" else objectives.cross_entropy

    def loss(outputs: Outputs, batch: Batch, _memory) -> tuple[jax.Array, dict[str, jax.Array]]:
        features, weight = outputs.features, batch.weight
        invariant = features["invariant"].mean(axis=1)
        specific = {m: features[f"specific_{m}"].mean(axis=1) for m in ORDER}
        pairs = [(invariant, x) for x in specific.values()]
        pairs += [(specific[a], specific[b]) for a, b in zip(ORDER, ORDER[1:] + ORDER[:1], strict=True)]
        apart = [orthogonality(a, b, weight) for a, b in pairs]
        close = [discrepancy(features[m], specific[m], weight) for m in ORDER]
        parts = {
            "task": task_loss(outputs.predictions["M"], batch),
            "orthogonal": jnp.asarray(sum(apart)) / 3,
            "mmd": jnp.asarray(sum(close)) / 3,
        }
        weights = {"task": s.task_weight, "orthogonal": s.orthogonal_weight, "mmd": s.mmd_weight}
        return jnp.asarray(sum(weights[name] * part for name, part in parts.items())), parts

    return objectives.Objective(loss)


#: Audio and vision are averaged down to the text's steps; four padded lengths, as the cost grows with them.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    "d_model": 8,
    "heads": 2,
    "head_width": 4,
    "n_layers": 1,
    "hidden": 8,
    "cross_layers": 1,
    "cross_hidden": 8,
    "cross_positions": 6,
    "head_hidden": 8,
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY, steps_read=steps_read)
