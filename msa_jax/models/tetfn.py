"""TETFN: cross-modal transformers in which audio and vision meet by way of the text (Wang et al. 2023).

Text goes through a convolution, audio and vision each through an LSTM and a convolution, all to width
d. As in MulT every modality reads the other two; but where audio reads vision (or the reverse), a lower
stack first lets the other modality read the text, and an upper stack reads what came of it. The two
encodings of each modality are joined (2d), a self-attention stack runs over them, and its last step
goes into the fusion. A modality's own vector is the largest value over time of its convolved
sequence. Heads and labels of the modalities are those of Self-MM (Yu et al. 2021).

``compat=True`` restores what the public code (MMSA toolkit) does otherwise:

- padding counts as steps everywhere: in the LSTMs, convolutions, attention, maxima, and as the last
  step;
- the convolution of vision takes the kernel size of audio;
- the positions of the text-reading stacks leave out steps whose first value is exactly 0, instead of
  padding;
- gradients of accumulated batches are summed.

As in our MulT, keys and values of a stack read the same dropout, where the public code draws it twice.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import label_generation
from msa_jax.models.declare import Declaration, Preset, encoder_groups, peer_train
from msa_jax.models.label_generation import HeadSettings
from msa_jax.models.outputs import Outputs
from msa_jax.models.self_mm import Heads
from msa_jax.models.settings import read_inputs, require_heads
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSource, TextStates, text_source
from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.crossmodal import CrossModalEncoder, encoded_end, placed
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.pooling import masked_max
from msa_jax.nn.recurrent import LSTM
from msa_jax.typed_settings import Count, Rate

#: Layers of every stack but the lower ones, which have one.
LAYERS = 2

#: A sequence [B, T, D] and its mask [B, T].
Sequence = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Settings(HeadSettings):
    """The model block."""

    d_model: Count = 50  # d: of the cross-modal stacks; the memories have 2d
    heads: Count = 5
    audio_hidden: Count = 16  # of the LSTM
    vision_hidden: Count = 64
    text_kernel: Count = 1  # of the convolution to width d, in steps
    audio_kernel: Count = 1
    vision_kernel: Count = 3  # under compat the audio's is used
    # On attention weights, by the modality that is read; where that is by way of the text, and in the
    # memories, the first.
    text_attention_dropout: Rate = 0.1
    audio_attention_dropout: Rate = 0.0
    vision_attention_dropout: Rate = 0.1
    relu_dropout: Rate = 0.0
    residual_dropout: Rate = 0.1
    embed_dropout: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "heads", self.d_model, "d_model")


def _train(
    batch_size: int, audio: tuple[float, float], vision: tuple[float, float], rest: tuple[float, float]
) -> dict:
    """4 batches per update; the encoder's rate and decay are the same everywhere, the others' are given."""
    groups = encoder_groups(3e-5, 1e-3)
    for m, (rate, decay) in {"audio": audio, "vision": vision}.items():
        groups[m] = {"paths": f"{m}/*", "learning_rate": rate, "weight_decay": decay}
    return peer_train(batch_size, *rest, accumulate=4, groups=groups)


#: Settings of the MMSA toolkit (tuned there per data set).
PRESETS = {
    "mosi": Preset(
        Settings(post_fusion_dim=64, post_audio_dim=32, post_vision_dim=16),
        _train(64, audio=(5e-4, 0.01), vision=(3e-4, 0.0), rest=(3e-4, 0.01)),
    ),
    "mosei": Preset(
        Settings(
            audio_hidden=32,
            vision_hidden=32,
            vision_kernel=1,
            relu_dropout=0.1,
            residual_dropout=0.0,
            embed_dropout=0.1,
            post_fusion_dim=64,
            post_text_dim=64,
            post_audio_dim=32,
            post_vision_dim=16,
            post_text_dropout=0.1,
            post_vision_dropout=0.1,
        ),
        _train(32, audio=(1e-3, 0.0), vision=(5e-3, 0.001), rest=(1e-4, 0.01)),
    ),
    "sims": Preset(
        Settings(
            encoder=CHINESE,
            text_kernel=3,
            audio_kernel=5,
            vision_kernel=1,
            text_attention_dropout=0.0,
            audio_attention_dropout=0.1,
            vision_attention_dropout=0.0,
            relu_dropout=0.1,
            residual_dropout=0.0,
            post_fusion_dim=64,
            post_text_dim=64,
            post_fusion_dropout=0.1,
            label_bound=3.0,  # the toolkit's number, although the set's own labels end at 1
        ),
        _train(64, audio=(3e-3, 0.0), vision=(5e-4, 0.01), rest=(3e-3, 0.001)),
    ),
}


class RecurrentConvolution(nn.Module):
    """An LSTM, and a convolution inside the clip of its states.

    Attributes:
      hidden: H, width of the LSTM.
      features: d.
      kernel_size: K, in steps.
    """

    hidden: int
    features: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> Sequence:
        """x [B, T, D] and mask [B, T] to [B, T', d] and [B, T']."""
        del train
        states, _ = LSTM(self.hidden, name="lstm")(x, mask)
        return convolution(self.features, self.kernel_size)(states, mask)


def convolution(features: int, kernel_size: int, name: str = "conv") -> MaskedConv1D:
    """The convolution that brings a modality to width d: windows inside the clip, no bias."""
    return MaskedConv1D(features, kernel_size, padding="valid", use_bias=False, name=name)


class Tetfn(nn.Module):
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
        """Scores a batch.

        Returns:
          "M", "T", "A", "V" [B]; features "text", "audio", "vision", "fusion" [B, F] of the heads,
          the text's "states" [B, T, D], "convolved_audio" and "convolved_vision" [B, T', d], and what
          one modality read from another, "text_from_audio" [B, T', d] and so on; of audio and vision
          also what reached it by way of the text, "vision_from_text_for_audio" and the reverse.
        """
        states, short = self._shortened(batch, train)
        features = {"states": states} | {f"convolved_{m}": short[m][0] for m in ("audio", "vision")}
        vectors = {m: masked_max(*short[m]) for m in MODALITIES}
        ends = []
        for m in MODALITIES:
            read = self._read(m, short, train)
            features |= read
            own = [read[f"{m}_from_{other}"] for other in _others(m)]
            ends.append(self._end(m, jnp.concatenate(own, axis=-1), short[m][1], train))
        vectors["fusion"] = jnp.concatenate(ends, axis=-1)
        outputs = Heads(self.s, name="heads")(vectors, train)
        return outputs.replace(features={**features, **outputs.features})

    def _shortened(self, batch: Batch, train: bool) -> tuple[jax.Array, dict[str, Sequence]]:
        """The text's states, and every modality at width d."""
        s, columns = self.s, dict(self.columns)
        values, masks = read_inputs(batch, s.compat)
        states, _ = TextStates(self.source, s.compat, name="text_encoder")(batch, train)
        short = {"text": convolution(s.d_model, s.text_kernel, name="text_conv")(states, masks["text"])}
        kernels = {"audio": s.audio_kernel, "vision": s.audio_kernel if s.compat else s.vision_kernel}
        for m, kernel in kernels.items():
            hidden = getattr(s, f"{m}_hidden")
            subnet = functools.partial(RecurrentConvolution, hidden, s.d_model, kernel)
            split = functools.partial(FineGrained, columns.get(m, ()), subnet, s.join)
            network = (split if m in columns else subnet)(name=m)
            short[m] = network(values[m], masks[m], train)
        return states, short

    def _read(self, m: str, short: dict[str, Sequence], train: bool) -> dict[str, jax.Array]:
        """What modality m reads from the others, and on the way to that."""
        read, own = {}, short[m]
        for other in _others(m):
            name = f"{m}_from_{other}"
            if "text" in (m, other):
                read[name] = self._stack(name, LAYERS, other)(*own, *short[other], train=train)
                continue
            lower, upper = (
                self._stack(f"{name}_lower", 1, "text"),
                self._stack(f"{name}_upper", LAYERS, "text"),
            )
            query, text = self._placed(short[other]), self._placed(short["text"])
            informed = lower(*query, *text, train=train), query[1]
            read[name] = upper(*self._placed(own), *self._placed(informed), train=train)
            read[f"{other}_from_text_for_{m}"] = informed[0]
        return read

    def _end(self, m: str, both: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """The last step of modality m's two encodings [B, T', 2d] after self-attention, [B, 2d]."""
        memory = self._stack(f"{m}_memory", LAYERS, "text")
        return encoded_end(memory, both, mask, train, in_full=self.s.compat)

    def _stack(self, name: str, n_layers: int, source: str) -> CrossModalEncoder:
        """A stack; the modality that is read decides the rate on its attention weights."""
        s = self.s
        return CrossModalEncoder(
            heads=s.heads,
            n_layers=n_layers,
            attention_dropout=getattr(s, f"{source}_attention_dropout"),
            relu_dropout=s.relu_dropout,
            residual_dropout=s.residual_dropout,
            embed_dropout=s.embed_dropout,
            causal=True,
            name=name,
        )

    def _placed(self, sequence: Sequence) -> Sequence:
        """With positions added, for a stack."""
        x, mask = sequence
        return placed(x, (x[..., 0] != 0) if self.s.compat else mask), mask


def _others(m: str) -> list[str]:
    return [other for other in MODALITIES if other != m]


def build(s: Settings, spec: DatasetSpec) -> Tetfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Tetfn(s, text_source(s, spec), split_columns(s.fg, spec))


#: Audio and vision are averaged down to the text's steps; running an encoder on padding costs more than
#: compiling for more padded lengths.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "d_model": 8,
    "heads": 2,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "post_fusion_dim": 8,
    "post_text_dim": 6,
    "post_audio_dim": 6,
    "post_vision_dim": 6,
}
MODEL = Declaration(Settings, PRESETS, build, label_generation.objective, DATA, TINY)
