"""UFEN + MTFN (Cai et al. 2025), with the fine-grained front end of Zheng et al. 2024.

Each modality goes through its own unimodal feature extraction network (UFEN): Bi-GRU, then a
cascade of convolutions, each level gated by self-attention and brought back to the input's steps,
and the levels' sum. It gives a unimodal prediction Y_i and the sequence X_i^fus. The multi-task
fusion network (MTFN) lets each modality query each other one, predicts Y_m from the six pooled
pairs, passes them through an encoder-decoder, and predicts Y_m', the final score. All five
predictions are trained at once.

Where the paper leaves a choice open, `configs/models/ufen_mtfn.py` names our reading.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.config import Config, require_choice
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, UNIMODAL_TASKS, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.objectives import Objective, squared_error
from msa_jax.models.outputs import Outputs
from msa_jax.models.text import TextSource, TextStates, text_source
from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.conv import MaskedConv1D, upsample, window_centre
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import ATTEND_OVER_CHOICES, QKV_CHOICES, Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import AttentionPooling, last_step, masked_max, masked_mean
from msa_jax.nn.recurrent import GRU
from msa_jax.nn.transformer import FeedForward, layer_norm, sinusoidal_positions

#: The six directed pairs (query, source), in the order of the paper's Fig. 2.
PAIRS = (
    ("vision", "audio"),
    ("vision", "text"),
    ("text", "audio"),
    ("text", "vision"),
    ("audio", "vision"),
    ("audio", "text"),
)

#: Keys of the model block that take one of a few words.
CHOICES = {
    "task": ("regression",),
    "frontend": ("fine_grained", "concat"),
    "fg_subnet": ("dense", "bigru"),
    "qkv": QKV_CHOICES,
    "attend_over": ATTEND_OVER_CHOICES,
    "conv_topology": ("cascade", "parallel"),
    "padding": ("same", "valid"),
    "upsample": ("linear", "nearest", "dense"),
    "gate": ("product", "sigmoid", "residual"),
    "pos_enc": ("none", "sinusoidal"),
    "ufen_pool": ("late", "early"),
    "pair_pool": ("mean", "last", "max", "attention"),
    "fusion_tokens": ("six", "one"),
    "decoder_pool": ("flatten", "mean"),
    "head": ("linear", "scaled_tanh"),
    "unimodal_target": ("multimodal", "own"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The model block of a configuration; `configs/models/ufen_mtfn.py` explains every key."""

    task: str
    fg: str
    frontend: str
    fg_subnet: str
    qkv: str
    attend_over: str
    masking: bool
    d_model: int
    n_layers: int
    kernel_size: int
    filters: int
    conv_stride: int
    conv_topology: str
    padding: str
    upsample: str
    self_heads: int
    share_self_attention: bool
    gate: str
    ufen_layer_norm: bool
    pos_enc: str
    ufen_pool: str
    cross_heads: int
    pair_pool: str
    fusion_tokens: str
    ed_heads: int
    d_ff: int
    decoder_pool: str
    head: str
    attention_dropout: float
    dropout: float
    use_bigru: bool
    use_conv: bool
    use_self_attention: bool
    use_cross_attention: bool
    use_encoder_decoder: bool
    multi_task: bool
    loss_tasks: str
    unimodal_target: str
    fusion_loss_weight: float

    @property
    def level_width(self) -> int:
        """F, width of the convolution levels; without convolutions a level is the Bi-GRU's output."""
        return (self.filters or self.d_model) if self.use_conv else self.d_model

    @property
    def stride(self) -> int:
        """Of the convolutions; upsample=dense means levels that never left the input's steps (A3)."""
        return 1 if self.upsample == "dense" else self.conv_stride

    @property
    def token_width(self) -> int:
        """Width of the encoder-decoder's tokens (A7)."""
        count = len(PAIRS) if self.use_cross_attention else len(MODALITIES)
        return self.d_model * (count if self.fusion_tokens == "one" else 1)


def attention(s: Settings, heads: int, name: str) -> MultiHeadAttention:
    """Attention as the paper prints it: projections without biases."""
    return MultiHeadAttention(heads, use_bias=False, dropout=s.attention_dropout, name=name)


class Subnet(nn.Module):
    """Sub-network of one column group: Dense per step, or a Bi-GRU."""

    width: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] to [B, T, width]; the mask stays."""
        del train
        if self.kind == "bigru":
            return GRU(self.width // 2, bidirectional=True, name="bigru")(x, mask)[0], mask
        return Dense(self.width, name="dense")(x), mask


class Ufen(nn.Module):
    """Unimodal feature extraction network of one modality (eq. 1 to 7).

    Attributes:
      s: the model's settings.
      groups: the modality's column groups where it has a fine-grained front end, else empty.
    """

    s: Settings
    groups: Columns = ()

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """X_i [B, T, D] to X_i^fus [B, T, d], zero at padding (mask [B, T])."""
        s = self.s
        drop = Dropout(s.dropout)
        if self.groups:
            subnet = functools.partial(Subnet, s.d_model, s.fg_subnet)
            front = FineGrained(self.groups, subnet, s.qkv, s.attend_over, name="fine_grained")
            x, _ = front(x, mask, train)
        h = self._encode(x, mask)
        if s.ufen_layer_norm:
            h = layer_norm("norm_bigru")(h)
        h = drop(h, train)
        if s.pos_enc == "sinusoidal":
            h = h + sinusoidal_positions(*h.shape[1:]).astype(h.dtype)[None]
        h = jnp.where(mask[..., None], h, 0)

        level, level_mask = h, mask
        levels = []
        shared = attention(s, s.self_heads, "self_attention") if s.share_self_attention else None
        for layer in range(1, s.n_layers + 1):
            if s.use_conv:
                source = (h, mask) if s.conv_topology == "parallel" else (level, level_mask)
                conv = MaskedConv1D(s.level_width, s.kernel_size, s.stride, s.padding, name=f"conv_{layer}")
                level, level_mask = conv(*source)
                level = nn.relu(level)
            attend = shared or attention(s, s.self_heads, f"self_attention_{layer}")
            gated = self._gate(level, level_mask, attend, train)
            levels.append(self._upsample(gated, level_mask, h.shape[1], layer))
        fused = sum(levels[1:], start=levels[0])
        if s.ufen_layer_norm:
            fused = layer_norm("norm_fused")(fused)
        return jnp.where(mask[..., None], drop(fused, train), 0)

    def _encode(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Bi-GRU with d/2 per direction (eq. 2, 3)."""
        if not self.s.use_bigru:
            return Dense(self.s.d_model, name="dense")(x)
        return GRU(self.s.d_model // 2, bidirectional=True, name="bigru")(x, mask)[0]

    def _gate(self, x: jax.Array, mask: jax.Array, attend: MultiHeadAttention, train: bool) -> jax.Array:
        """S^l = X^l * A^l, A^l = SelfAttention(X^l) (eq. 5)."""
        s = self.s
        if not s.use_self_attention:
            return x
        a = attend(x, x, mask, train=train)
        if s.gate == "residual":
            return x + a
        return x * (nn.sigmoid(a) if s.gate == "sigmoid" else a)

    def _upsample(self, x: jax.Array, mask: jax.Array, length: int, layer: int) -> jax.Array:
        """U^l: back to the input's steps and to width d (eq. 6)."""
        s = self.s
        if s.use_conv:
            depth = 1 if s.conv_topology == "parallel" else layer
            scale, offset = window_centre(s.kernel_size, s.stride, s.padding, depth)
            method = "nearest" if s.upsample == "nearest" else "linear"
            x = upsample(x, mask, length, scale, offset, method)
        if s.level_width != s.d_model or (s.use_conv and s.upsample == "dense"):
            x = Dense(s.d_model, name=f"project_{layer}")(x)
        return x


class EncoderBlock(nn.Module):
    """N = LN(C + MhAtt(C, source)), then N + FF(N): no norm after the network (eq. 14, 15, Fig. 5)."""

    s: Settings

    @nn.compact
    def __call__(self, c: jax.Array, source: jax.Array, train: bool) -> jax.Array:
        """C [B, N, W] and the source [B, N, W] it reads from, to [B, N, W]."""
        s = self.s
        n = layer_norm("norm")(c + attention(s, s.ed_heads, "attention")(c, source, train=train))
        return n + FeedForward(s.d_ff or s.d_model, s.dropout, name="ff")(n, train)


class UfenMtfn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      groups: per modality with a fine-grained front end, (name, its column groups).
      label_range: lowest and highest score, for head=scaled_tanh.
      source: where the text comes from. Reading A12.
    """

    s: Settings
    groups: tuple[tuple[str, Columns], ...]
    label_range: tuple[float, float]
    source: TextSource

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch.

        Returns:
          predictions [B]: "T", "A", "V" (Y_i), and "M", the final one: Y_m' with "fusion" (Y_m)
          beside it, or Y_m itself without an encoder-decoder. features: "fusion" [B, F] that "M" is
          read from, "text", "audio", "vision" [B, d], and "pairs" [B, 6, d] (without cross-attention
          [B, 3, d], one row per modality).
        """
        s, groups = self.s, dict(self.groups)
        states, _ = TextStates(self.source, name="text_encoder")(batch, train)
        batch = batch.replace(values={**batch.values, "text": states})
        sequences, masks, pooled, predictions = {}, {}, {}, {}
        for m in MODALITIES:
            mask = batch.mask[m]
            x = jnp.where(mask[..., None], batch.values[m], 0)
            masks[m] = mask if s.masking else jnp.ones_like(mask)
            sequences[m] = Ufen(s, groups.get(m, ()), name=f"ufen_{m}")(x, masks[m], train)
            pooled[m] = masked_mean(sequences[m], masks[m])
            predictions[UNIMODAL_TASKS[m]] = self._head(pooled[m], m)  # Y_i (eq. 8)
            if s.ufen_pool == "early":
                sequences[m], masks[m] = pooled[m][:, None], jnp.any(masks[m], axis=1, keepdims=True)

        tokens = self._tokens(sequences, masks, train)
        fusion = _flat(tokens)
        y_m = self._head(fusion, "fusion")  # Y_m reads the input of the encoder-decoder (eq. 16)
        if s.use_encoder_decoder:
            fusion = self._encoder_decoder(tokens, train)
            predictions |= {"fusion": y_m, "M": self._head(fusion, "decoder")}  # Y_m'
        else:
            predictions["M"] = y_m
        return Outputs(predictions, {"fusion": fusion, "pairs": tokens, **pooled})

    def _head(self, x: jax.Array, name: str) -> jax.Array:
        """A linear score, [B, F] to [B]."""
        y = Dense(1, name=f"head_{name}")(x)[:, 0]
        if self.s.head == "linear":
            return y
        low, high = self.label_range
        return (low + high) / 2 + (high - low) / 2 * jnp.tanh(y)

    def _tokens(self, sequences: dict[str, jax.Array], masks: dict[str, jax.Array], train: bool) -> jax.Array:
        """C [B, 6, d]: CA_ij = LN(MhAtt(Z_i, Z_j)) (eq. 12), pooled over the query's steps."""
        s = self.s
        z = {m: Dense(s.d_model, name=f"map_{m}")(sequences[m]) for m in MODALITIES}
        if not s.use_cross_attention:
            return jnp.stack([self._pool(z[m], masks[m], m) for m in MODALITIES], axis=1)
        tokens = []
        for query, source in PAIRS:
            name = f"{query}_from_{source}"
            attended = attention(s, s.cross_heads, name)(z[query], z[source], masks[source], train=train)
            attended = layer_norm(f"norm_{name}")(attended)
            tokens.append(self._pool(attended, masks[query], name))
        return jnp.stack(tokens, axis=1)

    def _pool(self, x: jax.Array, mask: jax.Array, name: str) -> jax.Array:
        if self.s.pair_pool == "attention":
            return AttentionPooling(name=f"pool_{name}")(x, mask)
        return {"mean": masked_mean, "last": last_step, "max": masked_max}[self.s.pair_pool](x, mask)

    def _encoder_decoder(self, tokens: jax.Array, train: bool) -> jax.Array:
        """C to the vector that Y_m' is read from; C enters the decoder again, as its queries."""
        c = _flat(tokens)[:, None] if self.s.fusion_tokens == "one" else tokens
        encoded = EncoderBlock(self.s, name="encoder")(c, c, train)
        decoded = EncoderBlock(self.s, name="decoder")(c, encoded, train)
        return _flat(decoded) if self.s.decoder_pool == "flatten" else jnp.mean(decoded, axis=1)


def _flat(tokens: jax.Array) -> jax.Array:
    return tokens.reshape(tokens.shape[0], -1)


def settings(model: Config) -> Settings:
    """Checks the model block of a configuration and reads it.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    for key, known in CHOICES.items():
        require_choice(f"model.{key}", model[key], known)
    s = Settings(**{field.name: model[field.name] for field in dataclasses.fields(Settings)})
    counts = ("d_model", "n_layers", "kernel_size", "conv_stride", "self_heads", "cross_heads", "ed_heads")
    for key, least in (dict.fromkeys(counts, 1) | {"filters": 0, "d_ff": 0}).items():
        if model[key] < least:
            raise ConfigError(f"model.{key}={model[key]} must be at least {least}.")
    for key in ("dropout", "attention_dropout"):
        if not 0 <= model[key] < 1:
            raise ConfigError(f"model.{key}={model[key]} must be at least 0 and below 1.")
    if s.d_model % 2:
        raise ConfigError(f"model.d_model={s.d_model} must be even: half of it is the GRU of one direction.")
    widths = {"self_heads": s.level_width, "cross_heads": s.d_model, "ed_heads": s.token_width}
    for key, width in widths.items():
        if width % model[key]:
            raise ConfigError(f"model.{key}={model[key]} does not divide the width {width} it works on.")
    if len(set(s.loss_tasks)) < len(s.loss_tasks) or not set(s.loss_tasks) <= set("TAV"):
        raise ConfigError(
            f"model.loss_tasks={s.loss_tasks!r} must be some of the letters T, A, V, each at most once."
        )
    if s.fusion_loss_weight <= 0:
        raise ConfigError(f"model.fusion_loss_weight={s.fusion_loss_weight} must be above 0.")
    if s.frontend == "concat" and s.fg != "none":
        raise ConfigError(
            f"model.frontend=concat feeds whole modalities, but model.fg={s.fg} splits them; "
            "set model.fg=none or model.frontend=fine_grained."
        )
    return s


def build(model: Config, spec: DatasetSpec) -> UfenMtfn:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    s = settings(model)
    low, high = spec.label_range
    return UfenMtfn(s, split_columns(s.fg, spec), (float(low), float(high)), text_source(model, spec))


def objective(model: Config, spec: DatasetSpec) -> Objective:
    """The sum of up to five mean squared errors (eq. 17, 18).

    Its parts are the unweighted terms, by prediction; clips count by ``batch.weight``.

    Raises:
      ConfigError: as :func:`build`, and for unimodal_target=own without unimodal labels.
    """
    s = settings(model)
    own = s.unimodal_target == "own"
    missing = [t for t in s.loss_tasks if t not in spec.tasks]
    if own and s.multi_task and missing:
        raise ConfigError(
            f"model.unimodal_target=own needs the labels {', '.join(missing)}, which {spec.name} does not "
            "have; set model.unimodal_target=multimodal."
        )
    factors = {"M": s.fusion_loss_weight}
    if s.multi_task:
        factors |= dict.fromkeys(s.loss_tasks, 1.0)
        if s.use_encoder_decoder:
            factors["fusion"] = s.fusion_loss_weight

    def loss_of(outputs: Outputs, batch: Batch, _memory: Any) -> tuple[jax.Array, dict]:
        parts = {}
        for task in factors:
            target = "M" if not own or task not in s.loss_tasks else task
            parts[task] = squared_error(outputs.predictions[task], batch, target)
        return sum(factors[task] * part for task, part in parts.items()), parts  # type: ignore[return-value]

    return Objective(loss_of)
