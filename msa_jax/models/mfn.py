"""MFN, the Memory Fusion Network (Zadeh et al. 2018; baseline of the MMSA toolkit).

One LSTM per modality reads the words' steps, to which audio and vision are aligned. At each step an
attention over the cells of this step and of the one before picks what changed across modalities,
and a memory with a retain and an update gate takes it up. The LSTMs' last h and the last memory
give the score.

``compat=True`` restores what the public code does otherwise: audio and vision are each clip's mean,
repeated at every step (data.reduce sees to it), and LSTMs and memory run on through the padding.
The toolkit's `windowsize` is not a setting here: its own code only works with 2, as above.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, require_in_step, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.gated_memory import GatedMemory, LSTMSystem, TwoLayerNet, shifted
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class MemorySettings(BaseSettings):
    """The keys of LSTMs, gated memory and head, which Graph-MFN shares; in brackets the toolkit's names."""

    text_hidden: Count = 256  # of the LSTMs
    audio_hidden: Count = 32
    vision_hidden: Count = 256
    memory: Count = 400  # width of the memory
    proposal_hidden: Count = 64  # what may be written to the memory (NN2Config; Graph-MFN: NNConfig)
    retain_hidden: Count = 256  # the gate on what is remembered (gamma1Config)
    update_hidden: Count = 32  # the gate on what is written (gamma2Config)
    out_hidden: Count = 128  # the head
    proposal_dropout: Rate = 0.0  # on the hidden layer of each of the four, a new mask per step
    retain_dropout: Rate = 0.7
    update_dropout: Rate = 0.5
    out_dropout: Rate = 0.0


@dataclasses.dataclass(frozen=True)
class Settings(MemorySettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    attention_hidden: Count = 32  # of the attention over the cells (NN1Config)
    attention_dropout: Rate = 0.2  # on it, a new mask per step


#: Settings of the MMSA toolkit (tuned there per data set), with batch size, learning rate and weight decay.
PRESETS = {
    "mosi": Preset(Settings(), peer_train(128, 2e-3)),
    "mosei": Preset(
        Settings(
            text_hidden=128,
            vision_hidden=128,
            memory=128,
            attention_hidden=128,
            proposal_hidden=128,
            update_hidden=256,
            proposal_dropout=0.5,
            update_dropout=0.0,
            out_dropout=0.5,
        ),
        peer_train(64, 5e-4, 1e-4),
    ),
    "sims": Preset(
        Settings(
            text_hidden=64,
            audio_hidden=16,
            vision_hidden=64,
            memory=64,
            attention_hidden=128,
            proposal_hidden=128,
            retain_hidden=64,
            update_hidden=64,
            out_hidden=64,
            retain_dropout=0.2,
            update_dropout=0.7,
            out_dropout=0.7,
        ),
        peer_train(32, 1e-3),
    ),
}


def read_aligned(batch: Batch, compat: bool) -> tuple[dict[str, jax.Array], jax.Array]:
    """Features [T, B, D] per modality and the mask [T, B] of the steps that all of them share.

    Raises:
      ConfigError: if audio or vision have other steps than the text.
    """
    require_in_step(batch)
    values, masks = read_inputs(batch, compat)
    return {m: x.swapaxes(0, 1) for m, x in values.items()}, masks["text"].T


def memory_fusion(
    s: Settings,
    columns: tuple[tuple[str, Columns], ...],
    values: dict[str, jax.Array],
    mask: jax.Array,
    train: bool,
) -> dict[str, jax.Array]:
    """What the network makes of a batch before its head; its layers become those of the calling module.

    Args:
      s: the settings.
      columns: per split modality, (name, its column groups).
      values: per modality [T, B, D], see :func:`read_aligned`.
      mask: real steps, [T, B].
      train: whether dropout is on.

    Returns:
      "text", "audio", "vision" (the last h, [B, H]) and "memory" [B, M].
    """
    hidden = (("text", s.text_hidden), ("audio", s.audio_hidden), ("vision", s.vision_hidden))
    states = LSTMSystem(hidden, columns, s.join, name="system")(values, mask)

    cells = jnp.concatenate([states[m][1] for m in MODALITIES], axis=-1)  # [T, B, sum of H]
    window = jnp.concatenate([shifted(cells), cells], axis=-1)
    attention = TwoLayerNet(s.attention_hidden, window.shape[-1], s.attention_dropout, name="attention")
    attended = window * nn.softmax(attention(window, train), axis=-1)
    propose = TwoLayerNet(s.proposal_hidden, s.memory, s.proposal_dropout, name="proposal")
    memory = GatedMemory(
        s.memory, s.retain_hidden, s.update_hidden, s.retain_dropout, s.update_dropout, name="memory"
    )(attended, jnp.tanh(propose(attended, train)), mask, train)
    return {m: states[m][0][-1] for m in MODALITIES} | {"memory": memory}


class Mfn(nn.Module):
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
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: "text", "audio", "vision" (the last h), "memory" and "fusion" (all of them).
        """
        s = self.s
        features = memory_fusion(s, self.columns, *read_aligned(batch, s.compat), train)
        fusion = jnp.concatenate(list(features.values()), axis=-1)
        y = TwoLayerNet(s.out_hidden, self.n_outputs, s.out_dropout, name="out")(fusion, train)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion})


def build(s: Settings, spec: DatasetSpec) -> Mfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mfn(s, split_columns(s.fg, spec), n_outputs(s))


#: Audio and vision are averaged down to the text's steps; under compat to one vector per clip.
DATA = {"reduce": "mean_align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    **{"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "memory": 6, "attention_hidden": 5},
    **{"proposal_hidden": 8, "retain_hidden": 8, "update_hidden": 8, "out_hidden": 8},
}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY)
