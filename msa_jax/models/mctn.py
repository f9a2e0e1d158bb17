"""MCTN, the Multimodal Cyclic Translation Network (Pham et al. 2019; baseline of the MMSA toolkit).

The score is read from the text alone; audio and vision only teach, so that neither is needed for a
prediction. A first encoder reads the text, and a decoder with attention over its states translates them to
vision; the same two translate what came out back to the text. A second encoder reads the first one's
states, and a second decoder translates them to audio. An LSTM over the second encoder's states, pooled by an
attention, gives the score. The loss is the task's plus the squared errors of the three translations.

An encoder is a bidirectional LSTM whose two directions are added. A decoder has two LSTMs side by side that
both go forward, whose h are added too, and reads the true frame before the one that it is to give (teacher
forcing), beginning with zeros. All modalities are widened by columns of zeros to the widest; a translation
has its own modality's columns only.

There are no column groups (``fg``): what would be split is not read.

``compat=True`` restores what the public code does otherwise. Its recurrences are given clips for steps: they
and the decoders' attention run along the clips of the batch, so that a score depends on the clips beside it
and on their order; only the last attention pools steps. A decoder's LSTMs begin anew in every step, and
there is none for the first one, whose translation is 0. The errors count padding, that 0 and the columns of
zeros. Not restored: one device by name, and that labels are needed for a score.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.declare import Declaration, everywhere, peer_train
from msa_jax.models.mfn import read_aligned
from msa_jax.models.objectives import Objective, absolute_error, clip_mean, cross_entropy
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, scores
from msa_jax.nn.attention import MASKED
from msa_jax.nn.gated_memory import shifted
from msa_jax.nn.initializers import Dense, symmetric_uniform
from msa_jax.nn.pooling import AttentionPooling, masked_mean
from msa_jax.nn.recurrent import LSTM, LSTMInput, LSTMStep, State, scan_over_time
from msa_jax.typed_settings import Count, Factor

#: A decoder's two LSTMs, by the names that the public class's bidirectional layer gives them.
CELLS = ("forward", "backward")


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    hidden: Count = 32  # of every LSTM, per direction
    max_steps: Count = 50  # first steps that are read; later ones are cut off
    translation_weight: Factor = 0.1  # factor of each translation's error

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fg != "none":
            raise ConfigError(
                f"model.fg={self.fg}, but model mctn reads the text alone, which has no column groups; set "
                "model.fg=none."
            )


#: The toolkit has numbers for CMU-MOSI alone; other data sets take them.
PRESETS = everywhere(Settings(), peer_train(32, 1e-4, clip_norm=1.0))


def widened(x: jax.Array, width: int) -> jax.Array:
    """x [..., D] with columns of zeros behind, to [..., width]."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


def _added(x: jax.Array) -> jax.Array:
    """Both directions' halves of the last axis, added."""
    forward, backward = jnp.split(x, 2, axis=-1)
    return forward + backward


class Encoder(nn.Module):
    """A bidirectional LSTM with its directions added.

    Attributes:
      hidden: H.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] with mask [B, T] to its states [B, T, H] and a summary of them [B, H]."""
        outputs, (h, _) = LSTM(self.hidden, bidirectional=True, name="lstm")(x, mask)
        summary = Dense(self.hidden, use_bias=False, name="summary")(_added(h))
        return _added(outputs), jnp.tanh(summary)


class _DecoderStep(nn.Module):
    """One step of :class:`Decoder`.

    Attributes:
      hidden: H.
      forgets: whether the LSTMs begin at zero in every step.
    """

    hidden: int
    forgets: bool

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, dict[str, State]], frames: dict[str, jax.Array], source: Any
    ) -> tuple[tuple[jax.Array, dict[str, State]], tuple[jax.Array, jax.Array]]:
        (h, cells), (states, keys, mask) = carry, source
        query = Dense(self.hidden, use_bias=False, fan_in=2 * self.hidden, name="query")(h)
        energy = Dense(1, use_bias=False, name="score")(jnp.tanh(keys + query[:, None]))[..., 0]
        weights = nn.softmax(jnp.where(mask, energy.astype(jnp.float32), MASKED), axis=1)
        context = jnp.einsum("bt,bth->bh", weights.astype(h.dtype), states)
        new = {}
        for k in CELLS:
            before = jax.tree.map(jnp.zeros_like, cells[k]) if self.forgets else cells[k]
            gates = frames[k] + LSTMInput(self.hidden, name=f"{k}_context")(context)
            new[k] = LSTMStep(self.hidden, name=f"{k}_cell")(before, gates)
        h = new["forward"][0] + new["backward"][0]
        return (h, new), (h, context)


class Decoder(nn.Module):
    """Translates an encoder's states, frame by frame, into a modality.

    Before each frame it attends to the states by how they suit its last h (additive attention, at first by
    the encoder's summary); its LSTMs read what it attended to and the true frame before.

    Attributes:
      hidden: H, of the encoder too.
      features: D.
      compat: whether the LSTMs forget their state after each step, and the first frame is 0.
    """

    hidden: int
    features: int
    compat: bool

    @nn.compact
    def __call__(
        self, states: jax.Array, summary: jax.Array, frames: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """The translation [B, T, D].

        Args:
          states: of the encoder, [B, T, H].
          summary: its summary, [B, H].
          frames: the true modality, [B, T, D].
          mask: real steps of the states, [B, T].
        """
        read = shifted(frames.swapaxes(0, 1))[1 if self.compat else 0 :]
        init = symmetric_uniform(self.hidden**-0.5)
        projected = {
            k: Dense(4 * self.hidden, use_bias=False, kernel_init=init, name=f"{k}_frame")(read)
            for k in CELLS
        }
        keys = Dense(self.hidden, use_bias=False, fan_in=2 * self.hidden, name="key")(states)
        zero = jnp.zeros_like(summary)
        decode = scan_over_time(_DecoderStep, in_axes=(0, nn.broadcast))(
            self.hidden, self.compat, name="steps"
        )
        _, told = decode((summary, dict.fromkeys(CELLS, (zero, zero))), projected, (states, keys, mask))
        y = Dense(self.features, name="output")(jnp.concatenate(told, axis=-1))
        if self.compat:
            y = jnp.concatenate([jnp.zeros((1, *y.shape[1:]), y.dtype), y])
        return y.swapaxes(0, 1)


class Mctn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      width: W of the widest modality.
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    width: int
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: the encoders' states "joint_1" (of the text), "joint_back" (of the translated vision) and
        "joint_2", [B, T, H], with summaries "summary_1", "summary_back", "summary_2", [B, H] (under compat
        [T, H]); "translated_vision", "translated_text", "translated_audio" [B, T, W]; "fusion" [B, H].
        """
        del train  # there is no dropout
        s = self.s
        values, mask = read_aligned(batch, s.compat)
        frames = {m: self._turned(widened(x[: s.max_steps], self.width)) for m, x in values.items()}
        mask = self._turned(mask[: s.max_steps])
        encoder = Encoder(s.hidden, name="encoder_1")
        decoder = Decoder(s.hidden, self.width, s.compat, name="decoder_1")

        def own_columns(translated: jax.Array, m: str) -> jax.Array:
            return translated if s.compat else widened(translated[..., : values[m].shape[-1]], self.width)

        joint_1, summary_1 = encoder(frames["text"], mask)
        vision = own_columns(decoder(joint_1, summary_1, frames["vision"], mask), "vision")
        joint_back, summary_back = encoder(vision, mask)
        text = own_columns(decoder(joint_back, summary_back, frames["text"], mask), "text")
        joint_2, summary_2 = Encoder(s.hidden, name="encoder_2")(joint_1, mask)
        second = Decoder(s.hidden, self.width, s.compat, name="decoder_2")
        audio = own_columns(second(joint_2, summary_2, frames["audio"], mask), "audio")

        by_step = {"joint_1": joint_1, "joint_back": joint_back, "joint_2": joint_2}
        by_step |= {"translated_vision": vision, "translated_text": text, "translated_audio": audio}
        features = {name: self._by_clip(x) for name, x in by_step.items()}
        features |= {"summary_1": summary_1, "summary_back": summary_back, "summary_2": summary_2}
        read, _ = LSTM(s.hidden, name="lstm")(joint_2, mask)
        fusion = AttentionPooling(bounded=True, name="pool_text")(self._by_clip(read), self._by_clip(mask))
        y = Dense(self.n_outputs, name="output")(fusion)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion})

    def _turned(self, x: jax.Array) -> jax.Array:
        """[T, B, ...] as the recurrences read it: along the second axis, which is the clips' under compat."""
        return x if self.s.compat else x.swapaxes(0, 1)

    def _by_clip(self, x: jax.Array) -> jax.Array:
        """What the recurrences gave, as [B, T, ...]."""
        return x.swapaxes(0, 1) if self.s.compat else x


def build(s: Settings, spec: DatasetSpec) -> Mctn:
    """The module for a data set."""
    return Mctn(s, max(record.width for record in spec.modalities.values()), n_outputs(s))


def steps_read(s: Settings) -> tuple[int, int, int]:
    """How many first steps of text, audio and vision are read; later ones need no place in a batch."""
    return s.max_steps, s.max_steps, s.max_steps


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """task + translation_weight * (mse_v + mse_t + mse_a), in evaluation as well, as in the public code.

    The task's loss is the absolute error, for classification the cross-entropy. A translation's error is the
    mean square over a clip's own steps and the modality's own columns.
    """
    del spec
    error = absolute_error if s.task == "regression" else cross_entropy

    def loss(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        values, mask = read_aligned(batch, s.compat)
        task = error(outputs.predictions["M"], batch)
        parts = {}
        for m in MODALITIES:
            x, found = values[m][: s.max_steps].swapaxes(0, 1), outputs.features[f"translated_{m}"]
            width = found.shape[-1] if s.compat else x.shape[-1]
            squares = (found[..., :width] - widened(x, width)) ** 2
            by_clip = jnp.mean(masked_mean(squares, mask[: s.max_steps].T), axis=1)
            parts[f"mse_{m[0]}"] = clip_mean(by_clip, batch.weight)
        total = task + s.translation_weight * jnp.stack(list(parts.values())).sum()
        return total, {"task": task, **parts}

    return Objective(loss)


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {"hidden": 4}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY, steps_read=steps_read)
