"""TFR-Net: a score from clips with losses, which are reconstructed while it learns (Yuan et al. 2021).

Each modality goes through a convolution to width d. A self-attention stack over it and two cross-modal
stacks, by which it reads the others, are joined to its enhanced sequence, of width 3d. A bidirectional GRU
runs along that, a gate says how much of each step's state counts, and the largest values over time are the
modality's vector; the three vectors give the score.

Where a training step takes words and frames from its clips (``train.corrupt``), a further self-attention
stack per modality runs along the steps of the enhanced sequence, and a layer gives from it what was taken:
states of the whole text, frames of audio and vision. What is evaluated has no part of that. Without
``train.corrupt`` nothing is reconstructed, and the stacks for it stay as they began.

The toolkit draws its losses once, for all epochs and splits alike; here they are drawn anew in every step,
and the validation's clips stay whole.

Fine-grained: a split modality has a convolution per column group.

``compat=True`` restores what the public code (MMSA toolkit) does otherwise:

- the stacks that reconstruct run along the clips of the batch, over vectors of one number per step: they are
  as wide as the data's padded length, of which ``frame_heads`` must be a divisor;
- all attention is causal, and padding counts as steps but for the GRUs; steps whose first value is exactly
  0 have no position;
- a modality whose width happens to be d is not convolved (its kernel stays, unused);
- the text's states that are to be reconstructed are trained towards their reconstruction;
- the discrepancy of moments between what was taken and its reconstruction is added, divided by the number of
  values that were taken, which leaves it next to no weight. (Where nothing was taken the public code has
  a constant; here it is 0.)

Not restored: an update after every batch on what was accumulated over up to four (here on its own); a first
epoch without reconstruction. As in our MulT, keys and values of a stack read the same dropout.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.declare import Declaration, Preset, encoder_groups, peer_train
from msa_jax.models.mult import Convolution
from msa_jax.models.objectives import Objective, absolute_error, cross_entropy
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, require_heads, scores
from msa_jax.models.subspace_losses import moment_discrepancy
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.batch_norm import BatchNorm
from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.crossmodal import CrossModalEncoder, placed
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import masked_max
from msa_jax.nn.recurrent import GRU
from msa_jax.typed_settings import Count, Factor, Rate

#: Moments that the public code compares.
MOMENTS = 3


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    d_model: Count = 30  # d: of the stacks; those that reconstruct have 3d
    heads: Count = 6
    frame_heads: Count = 25  # of those that reconstruct, under compat alone
    n_layers: Count = 3  # of a cross-modal stack; the others have at least 3
    text_kernel: Count = 1  # of the convolution to width d, in steps
    audio_kernel: Count = 5
    vision_kernel: Count = 3
    text_hidden: Count = 36  # H of the GRUs and of the modality's vector
    audio_hidden: Count = 20
    vision_hidden: Count = 48
    gru_layers: Count = 3
    head_hidden: Count = 128
    # On attention weights, by the modality that is read; self-attention has the first.
    text_attention_dropout: Rate = 0.2
    audio_attention_dropout: Rate = 0.1
    vision_attention_dropout: Rate = 0.0
    relu_dropout: Rate = 0.2
    residual_dropout: Rate = 0.2
    embed_dropout: Rate = 0.2
    text_dropout: Rate = 0.2  # on the text's states
    fusion_dropout: Rate = 0.2  # on the modalities' vectors
    head_dropout: Rate = 0.0
    # Factors of the reconstructions.
    text_weight: Factor = 5.0
    audio_weight: Factor = 2.0
    vision_weight: Factor = 20.0
    moment_weight: Factor = 5.0  # of the discrepancy of moments within each, under compat alone

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "heads", self.d_model, "d_model")


def _train(batch_size: int, encoder_rate: float, rate: float, patience: int) -> dict:
    """Losses at the toolkit's rate, clipped by value; ``patience`` is that of the schedule."""
    schedule = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": patience, "patience": 6}
    losses = {"corrupt": "frames", "corrupt_rates": (0.2, 0.2)}
    groups = encoder_groups(encoder_rate, 1e-4)
    return peer_train(batch_size, rate, 1e-3, clip_value=0.8, groups=groups, **schedule, **losses)


#: Settings of the MMSA toolkit (tuned there per data set).
PRESETS = {
    "mosi": Preset(Settings(), _train(24, 2e-6, 1e-3, 5)),
    "mosei": Preset(
        Settings(text_weight=5e-6, audio_weight=2e-6, vision_weight=2e-5), _train(24, 1e-5, 2e-3, 5)
    ),
    "sims": Preset(
        Settings(
            encoder=CHINESE,
            frame_heads=1,  # the toolkit's 25 do not divide the lengths: its class cannot be made
            n_layers=2,
            relu_dropout=0.0,
            embed_dropout=0.1,
            head_dropout=0.1,
            text_weight=1.0,
            audio_weight=0.01,
            vision_weight=1e-4,
        ),
        _train(16, 1e-5, 2e-3, 10),
    ),
}


class GatedReader(nn.Module):
    """Stacked bidirectional GRUs, a gate on each step's states, and the largest values over time.

    Attributes:
      hidden: H, per direction and of the result.
      n_layers: number of GRUs.
      dropout: rate on the result.
    """

    hidden: int
    n_layers: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, pooled: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D] to [B, H]; the GRUs read the steps of mask [B, T], the maximum those ``pooled``."""
        states = x
        for layer in range(self.n_layers):
            states, _ = GRU(self.hidden, bidirectional=True, name=f"gru_{layer}")(states, mask)
        gate, _ = MaskedConv1D(1, 3, name="gate")(states, mask)
        both = jnp.concatenate([x, jnp.tanh(states) * nn.sigmoid(gate)], axis=-1)
        vectors = jnp.tanh(Dense(self.hidden, name="linear")(both))
        return Dropout(self.dropout)(masked_max(vectors, pooled), train)


class TfrNet(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      restored: per modality, (its name, width of what is reconstructed, steps of the longest clip).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    restored: tuple[tuple[str, int, int], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: the text's "states" [B, T, D]; per modality its enhanced sequence "enhanced_m" [B, T, 3d]
        and its vector "vector_m" [B, H]; "fusion", all three. Where the batch has lost something,
        "attended_m" [B, T, 3d], "restored_m" [B, T, D], and the whole text's "wanted_text" [B, T, D].
        """
        encoder = TextStates(self.source, self.s.compat, name="text_encoder")
        states, _ = encoder(batch, train)
        features = {"states": states}
        values, _ = read_inputs(batch, compat=False)
        seen = {m: jnp.ones_like(x) if self.s.compat else x for m, x in batch.mask.items()}
        values["text"] = Dropout(self.s.text_dropout)(states, train)
        enhanced = self._enhanced(values, seen, train)
        vectors = [self._vector(m, x, batch.mask[m], seen[m], train) for m, x in enhanced.items()]
        fusion = jnp.concatenate(vectors, axis=-1)
        features |= {f"enhanced_{m}": x for m, x in enhanced.items()} | {"fusion": fusion}
        features |= {f"vector_{m}": x for m, x in zip(enhanced, vectors, strict=True)}
        if batch.before is not None or self.is_initializing():
            for m, width, steps in self.restored:
                attended = self._attended(m, enhanced[m], seen[m], steps, train)
                features[f"attended_{m}"] = attended
                features[f"restored_{m}"] = Dense(width, name=f"restore_{m}")(attended)
        if batch.before is not None:
            wanted, _ = encoder(batch.before.clips, train)
            features["wanted_text"] = wanted if self.s.compat else jax.lax.stop_gradient(wanted)
        return Outputs({"M": scores(self._head(fusion, batch, train))}, features)

    def _enhanced(
        self, values: dict[str, jax.Array], seen: dict[str, jax.Array], train: bool
    ) -> dict[str, jax.Array]:
        """Each modality [B, T, D], as itself and as it reads the others, [B, T, 3d]."""
        s, short, enhanced = self.s, {}, {}
        for m in MODALITIES:
            x = self._convolved(m, values[m], seen[m], train)
            short[m] = placed(x, (x[..., 0] != 0) if s.compat else seen[m])
        for m in MODALITIES:
            parts = [self._stack(f"{m}_memory")(short[m], seen[m], train=train)]
            for other in (o for o in MODALITIES if o != m):
                stack = self._stack(f"{m}_from_{other}", other)
                parts.append(stack(short[m], seen[m], short[other], seen[other], train=train))
            enhanced[m] = jnp.concatenate(parts, axis=-1)
        return enhanced

    def _convolved(self, m: str, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        s, columns = self.s, dict(self.columns)
        subnet = functools.partial(Convolution, s.d_model, getattr(s, f"{m}_kernel"), "same")
        if m in columns:
            return FineGrained(columns[m], subnet, s.join, name=m)(x, mask, train)[0]
        convolved, _ = subnet(name=m)(x, mask, train)
        return x if s.compat and x.shape[-1] == s.d_model else convolved

    def _attended(self, m: str, x: jax.Array, mask: jax.Array, steps: int, train: bool) -> jax.Array:
        """What a modality's losses are reconstructed from, [B, T, 3d]."""
        stack = self._stack(f"{m}_restoring")
        if not self.s.compat:
            return stack(x, mask, train=train)
        length = x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, steps - length), (0, 0)))
        across = x.transpose(2, 0, 1)  # [3d, B, T]: clips are the steps of a sequence for each column
        return stack(across, jnp.ones(across.shape[:2], bool), train=train).transpose(1, 2, 0)[:, :length]

    def _stack(self, name: str, source: str = "") -> CrossModalEncoder:
        """A stack that reads another modality, or itself; what is read decides the rate on its weights."""
        s = self.s
        restores = s.compat and name.endswith("_restoring")
        return CrossModalEncoder(
            heads=s.frame_heads if restores else s.heads,
            n_layers=s.n_layers if source else max(s.n_layers, 3),
            attention_dropout=getattr(s, f"{source or 'text'}_attention_dropout"),
            relu_dropout=s.relu_dropout,
            residual_dropout=s.residual_dropout,
            embed_dropout=s.embed_dropout,
            causal=s.compat,
            name=name,
        )

    def _vector(self, m: str, x: jax.Array, mask: jax.Array, pooled: jax.Array, train: bool) -> jax.Array:
        s = self.s
        reader = GatedReader(getattr(s, f"{m}_hidden"), s.gru_layers, s.fusion_dropout, name=f"reader_{m}")
        return reader(x, mask, pooled, train)

    def _head(self, fusion: jax.Array, batch: Batch, train: bool) -> jax.Array:
        """The last layers' [B, C] of the fusion [B, F]."""
        normed = BatchNorm(name="norm")(fusion, (batch.weight > 0)[:, None], train)
        hidden = nn.leaky_relu(Dense(self.s.head_hidden, name="hidden")(normed))
        return Dense(self.n_outputs, name="output")(Dropout(self.s.head_dropout)(hidden, train))


def build(s: Settings, spec: DatasetSpec) -> TfrNet:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    source = text_source(s, spec)
    widths = {m: source.width if m == "text" else spec.modalities[m].width for m in MODALITIES}
    restored = tuple((m, widths[m], spec.modalities[m].length) for m in MODALITIES)
    for m, _, steps in restored:
        if s.compat and steps % s.frame_heads:
            raise ConfigError(
                f"model.frame_heads={s.frame_heads} does not divide the {steps} steps of {m} in {spec.name}, "
                "which model.compat=true makes the width of a stack; set model.frame_heads=1."
            )
    return TfrNet(s, source, split_columns(s.fg, spec), restored, n_outputs(s))


def restoration(
    restored: jax.Array, wanted: jax.Array, lost: jax.Array, weight: jax.Array, moment_weight: float
) -> jax.Array:
    """The smooth absolute error per number of what was lost, 0 if nothing was.

    Args:
      restored: [B, T, D].
      wanted: what the clips had, [B, T, D].
      lost: the steps that count, bool [B, T].
      weight: of the clips, [B], for the moments.
      moment_weight: of the discrepancy of both's moments, in which all steps that do not count are 0.
    """
    restored, wanted = (jnp.where(lost[..., None], x, 0) for x in (restored, wanted))
    gap = jnp.abs(restored - wanted)
    total = jnp.sum(jnp.where(gap < 1, gap**2 / 2, gap - 0.5))
    if moment_weight:
        of_steps = jnp.repeat(weight, lost.shape[1])
        first, second = (x.reshape(-1, x.shape[-1]) for x in (restored, wanted))
        total += moment_weight * moment_discrepancy(first, second, of_steps, MOMENTS)
    return total / (jnp.sum(lost) * wanted.shape[-1] + 1e-4)


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The error of the score, and in training the reconstructions by their factors.

    The error is the absolute one, for classification the cross-entropy. Parts: "M", "restore" (all three by
    their factors), "restore_m" for each modality.
    """
    del spec
    error = absolute_error if s.task == "regression" else cross_entropy

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"M": loss}

    def loss(outputs: Outputs, batch: Batch, memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, parts = task(outputs, batch, memory)
        found = dict.fromkeys(MODALITIES, jnp.zeros(()))
        if batch.before is not None:
            wanted = {**batch.before.clips.values, "text": outputs.features["wanted_text"]}
            moments = s.moment_weight if s.compat else 0.0
            for m in MODALITIES:
                lost = batch.before.lost[m] & (batch.weight > 0)[:, None]
                restored = outputs.features[f"restored_{m}"]
                found[m] = restoration(restored, wanted[m], lost, batch.weight, moments)
        parts |= {f"restore_{m}": part for m, part in found.items()}
        parts["restore"] = sum((getattr(s, f"{m}_weight") * x for m, x in found.items()), jnp.zeros(()))
        return total + parts["restore"], parts

    return Objective(loss, valid=task)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "d_model": 8,
    "heads": 2,
    "frame_heads": 1,
    "n_layers": 1,
    "text_hidden": 6,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "gru_layers": 2,
    "head_hidden": 8,
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
