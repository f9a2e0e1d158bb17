"""Where a model's text comes from: features that are stored, or a BERT that is trained along.

Every model that reads text word by word takes either (`model.text_encoder`): "frozen" reads the data
set's text features; "finetune" runs the encoder on its token ids, so that the encoder learns too.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.config import Config, require_choice
from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.nn.bert import Bert, BertSettings

TEXT_ENCODERS = ("frozen", "finetune")


@dataclasses.dataclass(frozen=True)
class TextSource:
    """What a model knows of its text.

    Attributes:
      encoder: sizes of the BERT that is trained along; None: stored features.
      width: D of the states.
    """

    encoder: BertSettings | None
    width: int


def text_source(model: Config, spec: DatasetSpec) -> TextSource:
    """Reads ``model.text_encoder`` and the block ``model.encoder``.

    Raises:
      ConfigError: for sizes that no encoder can have.
    """
    require_choice("model.text_encoder", model.text_encoder, TEXT_ENCODERS)
    if model.text_encoder == "frozen":
        return TextSource(None, spec.modalities["text"].width)
    block = model.encoder
    values = {field.name: block[field.name] for field in dataclasses.fields(BertSettings)}
    for key, value in values.items():
        if type(value) is int and value < 1:
            raise ConfigError(f"model.encoder.{key}={value} must be at least 1.")
        if key.endswith("dropout") and not 0 <= value < 1:
            raise ConfigError(f"model.encoder.{key}={value} must be at least 0 and below 1.")
    if block.width % block.heads:
        raise ConfigError(
            f"model.encoder.heads={block.heads} does not divide model.encoder.width={block.width}."
        )
    steps = spec.modalities["text"].length
    if steps > block.positions:
        raise ConfigError(
            f"{spec.name} has texts of {steps} tokens, but the encoder reads {block.positions} at most; cut "
            "them, or take an encoder with more positions."
        )
    return TextSource(BertSettings(**values), block.width)


class TextStates(nn.Module):
    """The states of a clip's tokens.

    Attributes:
      source: see :func:`text_source`.
      compat: leave the encoder's states at padding steps as they are, instead of 0.
    """

    source: TextSource
    compat: bool = False

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> tuple[jax.Array, jax.Array]:
        """A batch to states [B, T, D] and their mask [B, T].

        Raises:
          ConfigError: if an encoder is asked for and the batch has no tokens.
        """
        mask = batch.mask["text"]
        if self.source.encoder is None:
            return jnp.where(mask[..., None], batch.values["text"], 0), mask
        if batch.tokens is None:
            raise ConfigError(
                "model.text_encoder=finetune needs token ids (text_bert) or transcripts (raw_text), and the "
                "data has neither; set model.text_encoder=frozen."
            )
        ids, _, segments = jnp.moveaxis(batch.tokens, 1, 0)
        states: Any = Bert(self.source.encoder, name="bert")(ids, mask, segments, train)
        return states if self.compat else jnp.where(mask[..., None], states, 0), mask
