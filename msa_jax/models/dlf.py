"""DLF: what modalities share and what each has to itself, around the text (Wang et al. 2025).

Each modality goes through a convolution to width d. A stack of its own makes its specific sequence of it, one
stack for all the shared ones (MulT's stacks, here with positions). While it learns, both together must give
the convolved sequence back, and the own stack must find the same specific sequence in that; at each step
the two are held apart; and of the whole shared sequences those of clips with one label are drawn together,
by a margin that grows with the distance of the labels.

The specific text reads the specific audio and the specific vision (the language-focused attractor). The last
steps of these and of the text, and on the other side those of the three shared sequences, have a score each;
gated, all four give the final one. Every score is trained, the text's by the largest factor.

The layer over a whole shared sequence has a kernel per step of the data's longest clip.

``compat=True`` restores what the public code does otherwise:

- padding counts as steps: it is convolved, attended to, and the step that is read is the batch's last one;
- a step whose first value is exactly 0 has no position, instead of padding;
- specific and shared are held apart in pieces of ``piece`` values;
- it holds what nothing reads, almost half of its weights outside the encoder: stacks in which audio and
  vision read, three heads, and three layers over whole sequences;
- accumulated gradients are summed, and clipped after every batch (see :mod:`msa_jax.training.optim`).

Not restored: a modality of width d that is not convolved, where the public class mostly fails. As in our
MulT, keys and values of a stack read the same dropout.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models import mult
from msa_jax.models.cosine_losses import overlap, ranking
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.objectives import Objective, absolute_error, cross_entropy
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, scores
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.crossmodal import CrossModalEncoder, encoded_end, placed
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.subnets import residual_head
from msa_jax.typed_settings import Count, CountOrZero, Factor

#: In which the modalities' vectors are joined.
ORDER = ("text", "vision", "audio")
#: The stacks that only the public class has: who reads whom.
UNREAD = (("audio", "text"), ("audio", "vision"), ("vision", "text"), ("vision", "audio"))

#: A sequence [B, T, D] and its mask [B, T].
Sequence = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Settings(mult.Settings, TextSettings):
    """The model block: MulT's, where a modality's own stack has its rate and the shared one the text's.

    The defaults are the authors' numbers for CMU-MOSI.
    """

    d_model: Count = 50  # d: of all stacks
    n_layers: Count = 2  # of a stack; the memories of audio and vision have at least 3
    piece: CountOrZero = 0  # under compat alone: values of a step that are held apart at a time; 0: all
    text_weight: Factor = 3.0  # of the text's own error; the other four weigh 1
    decoupling_weight: Factor = 0.1  # of all that is no error of a score
    cosine_weight: Factor = 0.1  # in that, of the whole sequences' loss and of what the two overlap
    margin: Factor = 0.15  # between cosines, for labels that are 1 apart

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.piece and self.d_model % self.piece:
            raise ConfigError(f"model.piece={self.piece} does not divide model.d_model={self.d_model}.")


#: Ten batches per update, clipped by value, one rate for all. The authors' weight decay is never used.
_TRAIN = peer_train(
    16,
    1e-4,
    accumulate=10,
    clip_value=0.6,
    patience=10,
    schedule="plateau",
    plateau_factor=0.5,
    plateau_patience=5,
)
#: Settings of the authors' code, which has none for CH-SIMS: those for CMU-MOSI.
PRESETS = {
    "mosi": Preset(Settings(), _TRAIN),
    "mosei": Preset(
        Settings(
            text_kernel=3,
            audio_kernel=3,
            vision_kernel=3,
            text_attention_dropout=0.5,
            audio_attention_dropout=0.0,
            embed_dropout=0.0,
            text_dropout=0.1,
            piece=10,
        ),
        _TRAIN,
    ),
    "sims": Preset(Settings(encoder=CHINESE), _TRAIN),
}


class Head(nn.Module):
    """Two layers around their input, and a score that is read from the sum.

    Attributes:
      n_outputs: 1, or the number of classes.
      dropout: rate between the two.
    """

    n_outputs: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, F] to the sum [B, F] and the score [B] (logits [B, C])."""
        hidden, y = residual_head(x, self.n_outputs, self.dropout, train)
        return hidden, scores(y)


class Dlf(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      steps: per modality, (its name, steps of its longest clip after the convolution).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    steps: tuple[tuple[str, int], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]), and of its parts "M_text" and so on, "M_shared".

        Features: the text's "states" [B, T, W]; per modality the sequences "convolved_m", "specific_m",
        "shared_m" [B, T', d], zero at padding, with their real steps "real_m" [B, T'], and the last steps
        "shared_end_m" and, of what the text made of it, "end_m" [B, d]; "text_from_audio" and
        "text_from_vision" [B, T', d]; "fusion" [B, 6d]. Where it learns, also "restored_m", "found_m"
        [B, T', d] and "whole_m" [B, d].
        """
        states, short = self._shortened(batch, train)
        features = {"states": states}
        for m, (x, mask) in short.items():
            features |= {f"convolved_{m}": x, f"real_{m}": mask}
        specific, shared = self._separated(short, features, train)
        ends = self._attracted(specific, features, train)
        for m in MODALITIES:
            stack = mult.cross_modal(self.s, m, self.s.n_layers, f"shared_{m}")
            features[f"shared_end_{m}"] = self._end(stack, *shared[m], train)
        ends["shared"] = jnp.concatenate([features[f"shared_end_{m}"] for m in ORDER], axis=-1)
        predictions, gated = {}, []
        for name in (*ORDER, "shared"):
            head = Head(self.n_outputs, self.s.output_dropout, name=f"head_{name}")
            hidden, predictions[f"M_{name}"] = head(ends[name], train)
            # Of the shared side, the head's score is trained, and what it reads goes on.
            onward = ends[name] if name == "shared" else hidden
            gated.append(nn.sigmoid(Dense(onward.shape[-1], name=f"gate_{name}")(onward)))
        features["fusion"] = jnp.concatenate(gated, axis=-1)
        head = Head(self.n_outputs, self.s.output_dropout, name="head")
        _, final = head(features["fusion"], train)
        if self.s.compat and self.is_initializing():
            self._unread()
        return Outputs({"M": final, **predictions}, features)

    def _shortened(self, batch: Batch, train: bool) -> tuple[jax.Array, dict[str, Sequence]]:
        """The text's states, and every modality at width d."""
        s, columns = self.s, dict(self.columns)
        values, masks = read_inputs(batch, s.compat)
        states, _ = TextStates(self.source, s.compat, name="text_encoder")(batch, train)
        values["text"] = Dropout(s.text_dropout)(states, train)
        short = {}
        for m in MODALITIES:
            x, mask = mult.convolution(s, m, columns.get(m, ()))(values[m], masks[m], train)
            short[m] = jnp.where(mask[..., None], x, 0), mask
        return states, short

    def _separated(
        self, short: dict[str, Sequence], features: dict[str, jax.Array], train: bool
    ) -> tuple[dict[str, Sequence], dict[str, Sequence]]:
        """The specific and the shared sequences; features gains them, and what only the loss reads."""
        s, specific, shared = self.s, {}, {}
        for_all = mult.cross_modal(s, "text", s.n_layers, "shared")
        for m, (x, mask) in short.items():
            own = mult.cross_modal(s, m, s.n_layers, f"specific_{m}")
            specific[m] = self._encoded(own, (x, mask), train), mask
            shared[m] = self._encoded(for_all, (x, mask), train), mask
            features |= {f"specific_{m}": specific[m][0], f"shared_{m}": shared[m][0]}
            if not (train or self.is_initializing()):
                continue
            both = jnp.concatenate([specific[m][0], shared[m][0]], axis=-1)
            restored = Dense(s.d_model, use_bias=False, name=f"restore_{m}")(both)
            features[f"restored_{m}"] = restored
            features[f"found_{m}"] = self._encoded(own, (restored, mask), train)
            # One window over all steps there can be.
            whole = MaskedConv1D(s.d_model, dict(self.steps)[m], padding="valid", name=f"whole_{m}")
            features[f"whole_{m}"] = whole(*shared[m])[0][:, 0]
        return specific, shared

    def _attracted(
        self, specific: dict[str, Sequence], features: dict[str, jax.Array], train: bool
    ) -> dict[str, jax.Array]:
        """What the text has in its last step, by itself and after it read audio or vision, [B, d] each."""
        s, ends = self.s, {}
        for m in ORDER:
            x, mask = specific["text"]
            if m != "text":
                stack = mult.cross_modal(s, m, s.n_layers, f"text_from_{m}")
                x = self._encoded(stack, (x, mask), train, specific[m])
                features[f"text_from_{m}"] = x
            n_layers = s.n_layers if m == "text" else max(s.n_layers, 3)
            memory = mult.cross_modal(s, "text", n_layers, f"{m}_memory")
            ends[m] = features[f"end_{m}"] = self._end(memory, x, mask, train)
        return ends

    def _encoded(
        self, stack: CrossModalEncoder, sequence: Sequence, train: bool, source: Sequence | None = None
    ) -> jax.Array:
        """What a stack makes of a sequence, itself or as it reads another one: [B, T, d], 0 at padding."""
        x, mask = self._placed(*sequence)
        y = stack(x, mask, *(self._placed(*source) if source else ()), train=train)
        return jnp.where(mask[..., None], y, 0)

    def _end(self, stack: CrossModalEncoder, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        return encoded_end(stack, *self._placed(x, mask), train, in_full=self.s.compat)

    def _placed(self, x: jax.Array, mask: jax.Array) -> Sequence:
        """With positions added, for a stack."""
        return placed(x, (x[..., 0] != 0) if self.s.compat else mask), mask

    def _unread(self) -> None:
        """What the public class holds and nothing reads."""
        s, width = self.s, self.s.d_model
        step, real = jnp.zeros((1, 1, width)), jnp.ones((1, 1), bool)
        for m, other in UNREAD:
            mult.cross_modal(s, other, s.n_layers, f"{m}_from_{other}")(step, real, step, real)
        for m, steps in self.steps:
            flat = jnp.zeros((1, steps * width))
            Dense(width, name=f"cosine_{m}")(flat)
            hidden = Dense(width, name=f"low_1_{m}")(flat)
            Dense(self.n_outputs, name=f"low_output_{m}")(Dense(steps * width, name=f"low_2_{m}")(hidden))


def build(s: Settings, spec: DatasetSpec) -> Dlf:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    lengths = {m: spec.modalities[m].length - getattr(s, f"{m}_kernel") + 1 for m in MODALITIES}
    steps = tuple((m, max(length, 1)) for m, length in lengths.items())
    return Dlf(s, text_source(s, spec), split_columns(s.fg, spec), steps, n_outputs(s))


def step_mean(x: jax.Array, real: jax.Array) -> jax.Array:
    """Mean of [B, T, ...] over the real steps, bool [B, T]; 0 if there is none."""
    kept = jnp.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), x, 0)
    return jnp.sum(kept) / jnp.maximum(jnp.sum(real) * x[0, 0].size, 1)


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The errors of all five scores, and what separates the specific from the shared; evaluation knows "M".

    An error is the absolute one, for classification the cross-entropy. Parts: "M", "M_shared", and per
    modality "M_m" (errors), "restore_m" and "find_m" (squared errors), "overlap_m" (cosines); "ranking".
    """
    del spec
    error = absolute_error if s.task == "regression" else cross_entropy

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"M": loss}

    def loss(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = {name: error(y, batch) for name, y in outputs.predictions.items()}
        weights = {name: s.text_weight if name == "M_text" else 1.0 for name in parts}
        separation, cosines = _separation(s, outputs.features, batch)
        parts |= separation | cosines
        weights |= dict.fromkeys(separation, s.decoupling_weight)
        weights |= dict.fromkeys(cosines, s.decoupling_weight * s.cosine_weight)
        return jnp.asarray(sum(weights[name] * part for name, part in parts.items())), parts

    return Objective(loss, valid=task)


def _separation(
    s: Settings, features: Mapping[str, jax.Array], batch: Batch
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The squared errors "restore_m" and "find_m", and the cosine losses "overlap_m" and "ranking"."""
    errors, cosines, there = {}, {}, []
    for m in MODALITIES:
        convolved, own, shared, restored, found = (
            features[f"{kind}_{m}"] for kind in ("convolved", "specific", "shared", "restored", "found")
        )
        real = features[f"real_{m}"] & (batch.weight > 0)[:, None]
        errors[f"restore_{m}"] = step_mean((restored - convolved) ** 2, real)
        errors[f"find_{m}"] = step_mean((own - found) ** 2, real)
        pieces = (*own.shape[:2], -1, s.piece if s.compat and s.piece else own.shape[-1])
        cosines[f"overlap_{m}"] = step_mean(overlap(own.reshape(pieces), shared.reshape(pieces)), real)
        there.append(real.any(axis=1))  # a modality that a clip lacks has nothing to compare
    whole = jnp.concatenate([features[f"whole_{m}"] for m in MODALITIES])
    labels = jnp.tile(batch.labels["M"], len(MODALITIES))
    cosines["ranking"] = ranking(whole, labels, jnp.concatenate(there), s.margin)
    return errors, cosines


#: Audio and vision are averaged down to the text's steps, as the authors' data are aligned; running an
#: encoder on padding costs more than compiling for more padded lengths.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {"encoder": TINY_ENCODER, "d_model": 8, "heads": 2, "n_layers": 1}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
