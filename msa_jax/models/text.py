"""Where a model's text comes from: features that are stored, or a BERT that is trained along.

Every model that reads text word by word takes either (`model.text_encoder`): "frozen" reads the data
set's text features; "finetune" runs the encoder on its token ids, so that the encoder learns too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.context import CONTEXT
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.settings import BaseSettings
from msa_jax.nn.bert import Bert, BertSettings, Injections
from msa_jax.nn.pooling import masked_mean


@dataclasses.dataclass(frozen=True)
class EncoderSettings(BertSettings):
    """The block ``model.encoder``: sizes and rates, and where the weights are."""

    # A local folder in the layout of Hugging Face (config.json, model.safetensors, vocab.txt), whose
    # sizes replace those here; "random": no folder, untrained weights.
    folder: str = ""

    def sizes(self) -> BertSettings:
        """What the encoder itself needs to know."""
        return BertSettings(**{f.name: getattr(self, f.name) for f in dataclasses.fields(BertSettings)})


#: The sizes of bert-base-chinese, for CH-SIMS.
CHINESE = EncoderSettings(vocab=21128)
#: An encoder for trying things out, without a folder.
TINY_ENCODER = {
    "folder": "random",
    "width": 8,
    "n_layers": 1,
    "heads": 2,
    "intermediate": 8,
    "vocab": 64,
    "positions": 64,
}


@dataclasses.dataclass(frozen=True)
class TextSettings(BaseSettings):
    """The keys of a model that can train its text encoder along."""

    # finetune | frozen (the data set's stored text features, the only ones of generated clips)
    text_encoder: Literal["finetune", "frozen"] = "finetune"
    encoder: EncoderSettings = EncoderSettings()


@dataclasses.dataclass(frozen=True)
class TextSource:
    """What a model knows of its text.

    Attributes:
      encoder: sizes of the BERT that is trained along; None: stored features.
      width: D of the states.
    """

    encoder: BertSettings | None
    width: int


def text_source(model: TextSettings, spec: DatasetSpec) -> TextSource:
    """What ``model.text_encoder`` asks for.

    Raises:
      ConfigError: if the data's texts are longer than the encoder can read.
    """
    if model.text_encoder == "frozen":
        return TextSource(None, spec.modalities["text"].width)
    steps = spec.modalities["text"].length
    if steps > model.encoder.positions:
        raise ConfigError(
            f"{spec.name} has texts of {steps} tokens, but the encoder reads at most "
            f"{model.encoder.positions}; cut them, or take an encoder with more positions."
        )
    return TextSource(model.encoder.sizes(), model.encoder.width)


class TextStates(nn.Module):
    """The states of a clip's tokens.

    Attributes:
      source: see :func:`text_source`.
      compat: leave the encoder's states at padding steps as they are, instead of 0.
      pooler: whether they are pooled, too.
    """

    source: TextSource
    compat: bool = False
    pooler: bool = False

    @nn.compact
    def __call__(
        self, batch: Batch, train: bool, injections: Injections | None = None
    ) -> tuple[jax.Array, ...]:
        """Reads a batch.

        Args:
          batch: B clips.
          train: whether dropout is on.
          injections: changes of the states inside the encoder. Stored features are changed by all of them
            as they are, since no layer follows.

        Returns:
          States [B, T, D], their mask [B, T], and with ``pooler`` a vector per clip [B, D]: what the
          encoder's pooler makes of the first token; of stored features the mean.

        Raises:
          ConfigError: if an encoder is asked for and the batch has no tokens.
        """
        mask = batch.mask["text"]
        if self.source.encoder is None:
            states = jnp.where(mask[..., None], batch.values["text"], 0)
            for _, change in sorted((injections or {}).items()):
                states = jnp.where(mask[..., None], change(states), 0)
            return (states, mask, masked_mean(states, mask)) if self.pooler else (states, mask)
        if batch.tokens is None:
            raise ConfigError(
                "model.text_encoder=finetune needs token ids (text_bert) or transcripts (raw_text), and the "
                "data has neither; set model.text_encoder=frozen."
            )
        ids, kind, segments = jnp.moveaxis(batch.tokens, 1, 0)
        behind = ids.shape[1] - mask.shape[1]
        readable = jnp.pad(mask, ((0, 0), (0, behind))) | (kind == CONTEXT)
        bert = Bert(self.source.encoder, self.pooler, name="bert")
        own = {i: _on_first(change, mask.shape[1]) for i, change in (injections or {}).items()}
        read: Any = bert(ids, readable, segments, train, own)
        states, *pooled = read if self.pooler else (read,)
        states = states[:, : mask.shape[1]]
        return states if self.compat else jnp.where(mask[..., None], states, 0), mask, *pooled


def _on_first(change: Callable[[jax.Array], jax.Array], steps: int) -> Callable[[jax.Array], jax.Array]:
    """A change to the first steps of states alone: those of a clip's own tokens."""

    def changed(states: jax.Array) -> jax.Array:
        return jnp.concatenate([change(states[:, :steps]), states[:, steps:]], axis=1)

    return changed
