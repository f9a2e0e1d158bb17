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

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models import objectives
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, read_settings, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.gated_memory import GatedMemory, LSTMSystem, TwoLayerNet, shifted


@dataclasses.dataclass(frozen=True)
class Settings:
    """The model block of a configuration; `configs/models/mfn.py` explains every key."""

    fg: str
    qkv: str
    attend_over: str
    compat: bool
    text_hidden: int
    audio_hidden: int
    vision_hidden: int
    memory: int
    attention_hidden: int
    proposal_hidden: int
    retain_hidden: int
    update_hidden: int
    out_hidden: int
    attention_dropout: float
    proposal_dropout: float
    retain_dropout: float
    update_dropout: float
    out_dropout: float


def read_aligned(batch: Batch, compat: bool) -> tuple[dict[str, jax.Array], jax.Array]:
    """Features [T, B, D] per modality and the mask [T, B] of the steps that all of them share.

    Raises:
      ConfigError: if audio or vision have other steps than the text.
    """
    values, masks = read_inputs(batch, compat)
    steps = {m: x.shape[1] for m, x in values.items()}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{m} {n}" for m, n in steps.items())
        raise ConfigError(
            f"this model reads all modalities at the text's steps, and a batch has {listed}; "
            "set data.reduce=align."
        )
    return {m: x.swapaxes(0, 1) for m, x in values.items()}, masks["text"].T


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
        values, mask = read_aligned(batch, s.compat)
        hidden = (("text", s.text_hidden), ("audio", s.audio_hidden), ("vision", s.vision_hidden))
        states = LSTMSystem(hidden, self.columns, s.qkv, s.attend_over, name="system")(values, mask)

        cells = jnp.concatenate([states[m][1] for m in MODALITIES], axis=-1)  # [T, B, sum of H]
        window = jnp.concatenate([shifted(cells), cells], axis=-1)
        attention = TwoLayerNet(s.attention_hidden, window.shape[-1], s.attention_dropout, name="attention")
        attended = window * nn.softmax(attention(window, train), axis=-1)
        propose = TwoLayerNet(s.proposal_hidden, s.memory, s.proposal_dropout, name="proposal")
        memory = GatedMemory(
            s.memory, s.retain_hidden, s.update_hidden, s.retain_dropout, s.update_dropout, name="memory"
        )(attended, jnp.tanh(propose(attended, train)), mask, train)

        features = {m: states[m][0][-1] for m in MODALITIES} | {"memory": memory}
        fusion = jnp.concatenate(list(features.values()), axis=-1)
        y = TwoLayerNet(s.out_hidden, self.n_outputs, s.out_dropout, name="out")(fusion, train)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion})


def build(model: Config, spec: DatasetSpec) -> Mfn:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mfn(read_settings(Settings, model), split_columns(model.fg, spec), n_outputs(model))


objective = objectives.task_loss
