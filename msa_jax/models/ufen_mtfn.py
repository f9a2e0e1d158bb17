"""UFEN + MTFN (Cai et al. 2025), with the fine-grained front end of Zheng et al. 2024.

Each modality goes through its own unimodal feature extraction network (:mod:`msa_jax.models.ufen`),
which gives a unimodal prediction Y_i and the sequence X_i^fus. The multi-task fusion network (MTFN) lets
each modality query each other one, predicts Y_m from the six pooled pairs, passes them through an
encoder-decoder, and predicts Y_m', the final score. All five predictions are trained at once.

"Table n" and "eq. n" are those of Cai et al. 2025. "Reading An" marks what the paper leaves open; the value
here is the reading we recommend, the others are named beside it.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, UNIMODAL_TASKS, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.declare import Declaration, Preset, encoder_groups
from msa_jax.models.objectives import Objective, squared_error
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import require_heads
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSource, TextStates, text_source
from msa_jax.models.ufen import Ufen, UfenSettings, attention
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import AttentionPooling, last_step, masked_max, masked_mean
from msa_jax.nn.transformer import FeedForward, layer_norm
from msa_jax.typed_settings import Count, CountOrZero, Positive

#: The six directed pairs (query, source), in the order of the paper's Fig. 2.
PAIRS = (
    ("vision", "audio"),
    ("vision", "text"),
    ("text", "audio"),
    ("text", "vision"),
    ("audio", "vision"),
    ("audio", "text"),
)


@dataclasses.dataclass(frozen=True)
class Settings(UfenSettings):
    """The model block: UFEN's keys and these. There is no public code, so that compat changes nothing."""

    task: Literal["regression"] = "regression"  # all losses are MSE (eq. 17)

    # MTFN.
    use_cross_attention: bool = True  # Table 9; False: the three pooled modalities
    cross_heads: Count = 4  # Table 2
    # mean | last | max | attention, over the query's steps. Reading A5
    pair_pool: Literal["mean", "last", "max", "attention"] = "mean"
    use_encoder_decoder: bool = True  # Table 9; False: Y_m is the final prediction
    fusion_tokens: Literal["six", "one"] = "six"  # six tokens of width d | one of width 6d. Reading A7
    ed_heads: Count = 4  # reading A9: the paper lists no third number of heads; 1
    d_ff: CountOrZero = 0  # 0: d_model. Reading A17: d, 2d or 4d
    decoder_pool: Literal["flatten", "mean"] = "flatten"  # before W_de. Reading A8
    # linear | scaled_tanh (within the label range). Reading A1: no softmax
    head: Literal["linear", "scaled_tanh"] = "linear"

    # Loss.
    multi_task: bool = True  # Table 9; False: only the final prediction
    loss_tasks: str = "TAV"  # Table 8: unimodal losses beside the two multimodal ones; "" for none
    # multimodal | own (data with T, A, V labels). Reading A11
    unimodal_target: Literal["multimodal", "own"] = "multimodal"
    fusion_loss_weight: Positive = 1.0  # reading A10; 3: the two multimodal terms inside the sum over i

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "cross_heads", self.d_model)
        require_heads(self, "ed_heads", self.token_width)
        if len(set(self.loss_tasks)) < len(self.loss_tasks) or not set(self.loss_tasks) <= set("TAV"):
            raise ConfigError(
                f"model.loss_tasks={self.loss_tasks!r} must be some of the letters T, A, V, each at most "
                "once."
            )

    @property
    def token_width(self) -> int:
        """Width of the encoder-decoder's tokens (A7)."""
        count = len(PAIRS) if self.use_cross_attention else len(MODALITIES)
        return self.d_model * (count if self.fusion_tokens == "one" else 1)


def _train(learning_rate: float, batch_size: int, epochs: int, **more: Any) -> dict[str, Any]:
    """Table 2; Adam without weight decay.

    Reading A12: an encoder that is fine-tuned jointly learns at a rate of its own, after a warm-up.
    """
    train = {"learning_rate": learning_rate, "batch_size": batch_size, "epochs": epochs, "patience": 8}
    return train | {"groups": encoder_groups(2e-5, 0.0, warmup_epochs=5.0)} | more


#: The paper uses one architecture on every data set. On MOSI, d_model, dropout and the schedule are our
#: choice on its validation split: as printed (dropout 0.1, constant rate) the model fits its 1,284 clips too
#: closely.
PRESETS = {
    "mosi": Preset(Settings(d_model=64, dropout=0.3), _train(5e-3, 32, 30, schedule="cosine")),
    "mosei": Preset(Settings(), _train(1e-4, 32, 50)),
    "sims": Preset(Settings(encoder=CHINESE), _train(5e-3, 16, 50)),
    # Some hundred clips of few people; chosen by validation scores among a dozen smaller forms, with lost
    # modalities (docs/fine_grained.md).
    "small": Preset(
        Settings(
            d_model=16,
            n_layers=1,
            dropout=0.3,
            use_bigru=False,
            use_self_attention=False,
            use_cross_attention=False,
            pair_pool="max",
            use_encoder_decoder=False,
        ),
        _train(
            **{"learning_rate": 1e-3, "batch_size": 32, "epochs": 60, "patience": 12, "schedule": "cosine"},
            **{"corrupt": "modalities", "corrupt_rates": (0.0, 1.0)},
        ),
    ),
}


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
            attend = attention(s, s.cross_heads, name)
            attended = attend(z[query], z[source], masks[source], train=train, query_mask=masks[query])
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


def build(s: Settings, spec: DatasetSpec) -> UfenMtfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    low, high = spec.label_range
    return UfenMtfn(s, split_columns(s.fg, spec), (float(low), float(high)), text_source(s, spec))


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The sum of up to five mean squared errors (eq. 17, 18).

    Its parts are the unweighted terms, by prediction; clips count by ``batch.weight``.

    Raises:
      ConfigError: for unimodal_target=own without unimodal labels.
    """
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


#: For trying things out: small widths.
TINY = {"d_model": 16, "cross_heads": 2, "ed_heads": 2, "encoder": TINY_ENCODER}
MODEL = Declaration(Settings, PRESETS, build, objective, tiny=TINY)
