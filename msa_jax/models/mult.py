"""MulT: every modality reads the other two through cross-modal transformers (Tsai et al. 2019).

Each modality goes through a convolution to width d; six cross-modal stacks (which reads which) give
two encodings per modality, joined to width 2d; a self-attention stack ("memory") runs over these, and
the last step of each of the three is what a residual MLP reads the score from.

``compat=True`` restores what the public code (MMSA toolkit) does otherwise:

- padding counts as steps: it is convolved, attended to, and the step that is read is the last one of
  the batch, not of the clip;
- the causal mask's offset |Lk - Lq| comes from the padded lengths. By default it comes from each
  clip's own lengths after the convolution, so that it does not depend on the batch;
- a modality whose width happens to be d is not convolved (its kernel stays, unused).

One difference in training stays: the public code draws the dropout of a stack's source twice, for keys
and for values; here keys and values read the same source.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, require_heads, scores
from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.crossmodal import CrossModalEncoder, encoded_end
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.subnets import residual_head
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    d_model: Count = 50  # d: of the cross-modal stacks; the memories have 2d
    heads: Count = 10
    n_layers: Count = 4  # of a cross-modal stack; the memories have at least 3
    text_kernel: Count = 5  # of the convolution to width d, in steps
    audio_kernel: Count = 5
    vision_kernel: Count = 5
    causal_mask: bool = True  # a query sees keys up to its own place plus the difference in length
    # On attention weights, by the modality that is read; the memories use the first.
    text_attention_dropout: Rate = 0.3
    audio_attention_dropout: Rate = 0.2
    vision_attention_dropout: Rate = 0.0
    relu_dropout: Rate = 0.0
    residual_dropout: Rate = 0.0
    embed_dropout: Rate = 0.2
    output_dropout: Rate = 0.5
    text_dropout: Rate = 0.5  # on the text features themselves

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "heads", self.d_model, "d_model")


def _train(batch_size: int, learning_rate: float, patience: int) -> dict:
    """8 batches per update, clipped by value; ``patience`` is that of the schedule."""
    schedule = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": patience}
    return peer_train(batch_size, learning_rate, accumulate=8, clip_value=0.6, **schedule)


#: Settings of the MMSA toolkit (tuned there per data set).
PRESETS = {
    "mosi": Preset(Settings(), _train(16, 2e-3, 5)),
    "mosei": Preset(
        Settings(
            d_model=30,
            heads=6,
            audio_kernel=1,
            vision_kernel=3,
            text_attention_dropout=0.4,
            audio_attention_dropout=0.0,
            embed_dropout=0.0,
            text_dropout=0.3,
        ),
        _train(4, 5e-4, 20),
    ),
    "sims": Preset(
        Settings(
            n_layers=2,
            audio_kernel=1,
            vision_kernel=1,
            text_attention_dropout=0.2,
            audio_attention_dropout=0.1,
            residual_dropout=0.2,
            embed_dropout=0.1,
            output_dropout=0.1,
            text_dropout=0.3,
        ),
        _train(16, 2e-3, 10),
    ),
}


class Convolution(nn.Module):
    """A modality's way to width d, without a bias.

    Attributes:
      features: d.
      kernel_size: K, in steps.
      padding: "valid" (windows inside the clip) or "same", as for MaskedConv1D.
    """

    features: int
    kernel_size: int
    padding: str = "valid"

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] and mask [B, T] to [B, T', d] and [B, T']."""
        del train
        conv = MaskedConv1D(
            self.features, self.kernel_size, padding=self.padding, use_bias=False, name="conv"
        )
        return conv(x, mask)


def convolution(s: Settings, m: str, columns: Columns) -> nn.Module:
    """A modality's way to width d, with one for each of its column groups where it is split."""
    subnet = functools.partial(Convolution, s.d_model, getattr(s, f"{m}_kernel"))
    return FineGrained(columns, subnet, s.join, name=m) if columns else subnet(name=m)


class Mult(nn.Module):
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
          "M" [B] (logits [B, C]); features "text", "audio", "vision" [B, 2d], "fusion" [B, 6d], and
          what one modality read from another, "text_from_audio" [B, T', d] and so on.
        """
        s = self.s
        values, masks = read_inputs(batch, s.compat)
        values["text"] = Dropout(s.text_dropout)(values["text"], train)
        short = {m: self._convolved(m, values[m], masks[m], train) for m in MODALITIES}
        features = {}
        for m, (x, mask) in short.items():
            others = [other for other in MODALITIES if other != m]
            for other in others:
                stack = cross_modal(s, other, s.n_layers, f"{m}_from_{other}")
                features[f"{m}_from_{other}"] = stack(x, mask, *short[other], train=train)
            both = jnp.concatenate([features[f"{m}_from_{other}"] for other in others], axis=-1)
            memory = cross_modal(s, "text", max(s.n_layers, 3), f"{m}_memory")
            features[m] = encoded_end(memory, both, mask, train, in_full=s.compat)
        fusion = jnp.concatenate([features[m] for m in MODALITIES], axis=-1)
        _, y = residual_head(fusion, self.n_outputs, s.output_dropout, train)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion})

    def _convolved(self, m: str, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        s = self.s
        convolved = convolution(s, m, dict(self.columns).get(m, ()))(x, mask, train)
        return (x, mask) if s.compat and x.shape[-1] == s.d_model else convolved


def cross_modal(s: Settings, source: str, n_layers: int, name: str) -> CrossModalEncoder:
    """A stack; the modality that is read decides the rate on its attention weights."""
    return CrossModalEncoder(
        heads=s.heads,
        n_layers=n_layers,
        attention_dropout=getattr(s, f"{source}_attention_dropout"),
        relu_dropout=s.relu_dropout,
        residual_dropout=s.residual_dropout,
        embed_dropout=s.embed_dropout,
        causal=s.causal_mask,
        name=name,
    )


def build(s: Settings, spec: DatasetSpec) -> Mult:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mult(s, split_columns(s.fg, spec), n_outputs(s))


#: Every step is read.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {"d_model": 8, "heads": 2, "n_layers": 1}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY)
