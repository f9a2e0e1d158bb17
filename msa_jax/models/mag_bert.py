"""MAG-BERT: audio and vision shift the word embeddings that a BERT reads (Rahman et al. 2020).

Between BERT's embeddings and its first layer stands the multimodal adaptation gate. For each token, audio
and vision open a gate each, by what they and the word say together; what passes the gates adds up to a
displacement of the word's vector, which may not be longer than the vector itself times beta. BERT's
layers read the displaced words, and the score comes from its pooler. Audio and vision are averaged down
to the tokens' steps.

Stored text features (``text_encoder=frozen``) are the last states of an encoder, so no layer can carry the
other tokens' displacements to the first one: the mean over the tokens is what the score is read from.

Fine-grained: a split modality enters with the text's width, one Dense layer per column group and one
attention head over time each (its authors did not try it on this model).

Inside the model ``compat=True`` changes no score: the gate reads padding as it stands, and BERT passes it
over either way. What the public code does otherwise is the averaging, which scrambles time
(data.reduce sees to it).
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, require_in_step, scores
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.bert import dense
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.subnets import DenseSubnet
from msa_jax.nn.transformer import layer_norm
from msa_jax.typed_settings import Positive, Rate

#: Added to a displacement's length before it divides, as in the authors' code.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    beta_shift: Positive = 1.0  # longest displacement, in lengths of the word's vector
    dropout: Rate = 0.3  # on the displaced words; that before the score is the encoder's


#: Settings of the MMSA toolkit (tuned there per data set). One rate trains all, the encoder included.
PRESETS = {
    "mosi": Preset(Settings(), peer_train(32, 2e-5)),
    "mosei": Preset(Settings(dropout=0.2), peer_train(32, 1e-5)),
    "sims": Preset(Settings(encoder=CHINESE, dropout=0.1), peer_train(32, 5e-5)),
}


def length(x: jax.Array) -> jax.Array:
    """Euclidean length, [..., D] to [..., 1]; its gradient at 0 is 0."""
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


class AdaptationGate(nn.Module):
    """The multimodal adaptation gate.

    For a word z with audio a and vision v:

        g_m = ReLU(W_gm [m; z] + b_gm)                       for m of v, a
        h   = g_v * (W_v v + b_v) + g_a * (W_a a + b_a)
        y   = LN(z + alpha h),   alpha = min(beta |z| / |h|, 1)

    Attributes:
      beta: the most that a displacement's length may be, in lengths of the word.
      dropout: rate on the result.
    """

    beta: float
    dropout: float

    @nn.compact
    def __call__(
        self, text: jax.Array, audio: jax.Array, vision: jax.Array, train: bool
    ) -> dict[str, jax.Array]:
        """Words [B, T, D] with audio and vision in step, [B, T, Da] and [B, T, Dv].

        Returns:
          "fused", the displaced words [B, T, D]; "gate_audio", "gate_vision" and "displacement" (h), the
          same shape.
        """
        width, found = text.shape[-1], {}
        displacement = jnp.zeros_like(text)
        for m, x in (("vision", vision), ("audio", audio)):
            both = jnp.concatenate([x, text], axis=-1)
            found[f"gate_{m}"] = nn.relu(dense(width, f"gate_{m}")(both))
            displacement = displacement + found[f"gate_{m}"] * dense(width, m)(x)
        share = self.beta * length(text) / (length(displacement) + _EPSILON)
        displaced = text + jnp.minimum(share, 1) * displacement
        fused = Dropout(self.dropout)(layer_norm("norm")(displaced), train)
        return {**found, "displacement": displacement, "fused": fused}


class MagBert(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features, [B, T, D] each: "embedding", the words as the gate reads them; the gate's "gate_audio",
        "gate_vision", "displacement" and "fused"; the last "states". And "fusion", the pooled [B, D].

        Raises:
          ConfigError: if audio or vision have other steps than the text.
        """
        require_in_step(batch)
        s, features = self.s, {}
        values, masks = read_inputs(batch, s.compat)
        for m, columns in self.columns:
            subnet = functools.partial(DenseSubnet, self.source.width)
            front = FineGrained(columns, subnet, s.join, name=f"fine_grained_{m}")
            values[m], _ = front(values[m], masks[m], train)
        gate = AdaptationGate(s.beta_shift, s.dropout, name="gate")

        def displace(words: jax.Array) -> jax.Array:
            features.update(embedding=words, **gate(words, values["audio"], values["vision"], train))
            return features["fused"]

        encoder = TextStates(self.source, s.compat, pooler=True, name="text_encoder")
        features["states"], _, features["fusion"] = encoder(batch, train, {0: displace})
        y = dense(self.n_outputs, "output")(Dropout(s.encoder.dropout)(features["fusion"], train))
        return Outputs({"M": scores(y)}, features)


def build(s: Settings, spec: DatasetSpec) -> MagBert:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return MagBert(s, text_source(s, spec), split_columns(s.fg, spec), n_outputs(s))


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {"encoder": TINY_ENCODER}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY)
