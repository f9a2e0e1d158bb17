"""ALMT: a hyper-modality that the text guides through sound and face (Zhang et al. 2023).

Text, audio and vision are mapped to width d and follow a few learned tokens each; a transformer over
tokens and steps gathers the modality in its tokens, which alone go on. The text's tokens pass
further layers, and every state on their way is kept. In each hyper-modality layer one text state
looks into the tokens of audio and of vision, and what it finds shifts the hyper-modality. A cross
transformer in which the last text state, behind a class token, reads the hyper-modality gives the
vector that the score is read from.

A hyper-modality layer normalises its own stream before it adds the shift: there is no path past the
LayerNorm. The public code and the weights that go with it have it so; it is the model, not a slip
that ``compat`` would decide.

Fine-grained: a split modality has one Dense layer per column group and one attention head over time
each; the tokens and their transformer follow unchanged.

``compat=True`` restores what the public code does otherwise: the tokens read the padding of all three
modalities. (The text encoder has its mask either way.) It also computes the steps that nothing reads
after the last layer of a transformer; by default only the tokens are.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError, DataError
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, scores
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.attention import attention_weights, keep
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.prenorm import PreNormEncoder
from msa_jax.nn.subnets import DenseSubnet
from msa_jax.nn.transformer import layer_norm
from msa_jax.typed_settings import Count, CountOrZero, Rate


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the public code's numbers for CMU-MOSI."""

    d_model: Count = 128
    tokens: Count = 8  # that gather a modality, and of the hyper-modality
    # Steps of text, audio, vision with a learned position; 0: as many as the data's clips have.
    positions: tuple[CountOrZero, CountOrZero, CountOrZero] = (0, 0, 0)
    head_width: Count = 64  # of every attention but the hyper-modality's
    embed_layers: tuple[Count, Count, Count] = (1, 1, 1)  # over tokens and steps of text, audio, vision
    embed_heads: tuple[Count, Count, Count] = (8, 8, 8)
    embed_hidden: Count = 128  # inside their feed-forward networks
    text_heads: Count = 8  # of the layers that the text's tokens pass further
    text_hidden: Count = 128
    hyper_layers: Count = 3  # one per text state, so there are hyper_layers - 1 such layers
    hyper_heads: Count = 8
    hyper_head_width: Count = 16
    hyper_dropout: Rate = 0.0  # on the shift; nothing else but the text encoder has dropout
    fusion_layers: Count = 2
    fusion_heads: Count = 8
    fusion_hidden: Count = 128


#: AdamW with one rate for all, 200 epochs, 20 of them warm-up from 0, then a cosine to 0.
TRAIN = peer_train(
    64,
    1e-4,
    1e-4,
    epochs=200,
    patience=32,
    optimizer="adamw",
    schedule="cosine",
    warmup_epochs=20.0,
)
#: Settings of the public code, which differ between the data sets in one number.
PRESETS = {
    "mosi": Preset(Settings(), TRAIN),
    "mosei": Preset(Settings(fusion_layers=4), TRAIN),
    "sims": Preset(Settings(encoder=CHINESE, fusion_layers=4), TRAIN),
}


class TokenEncoder(nn.Module):
    """Gathers a sequence in learned tokens.

    Attributes:
      tokens: n, how many.
      positions: the most steps that have a learned position.
      encoder: what ``encoder(name=...)`` makes: the transformer over tokens and steps.
      every_step: whether the steps are computed to the end, too.
    """

    tokens: int
    positions: int
    encoder: functools.partial[PreNormEncoder]
    every_step: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, d], finite at padding, with mask [B, T] to tokens [B, n, d] (or with T steps behind).

        Raises:
          DataError: if T is more than there are positions.
        """
        rows, steps, width = x.shape
        if steps > self.positions:
            raise DataError(
                f"clips of {steps} steps of {self.name} are longer than the {self.positions} that this "
                "model has positions for; cut them, or train it with model.positions set to the longest."
            )
        tokens = self.param("tokens", nn.initializers.zeros, (self.tokens, width))
        shape = (self.tokens + self.positions, width)
        table = self.param("positions", nn.initializers.normal(1.0), shape)
        tokens = jnp.broadcast_to(tokens[None], (rows, self.tokens, width)).astype(x.dtype)
        x = jnp.concatenate([tokens, x], axis=1) + table[None, : self.tokens + steps].astype(x.dtype)
        mask = jnp.concatenate([jnp.ones((rows, self.tokens), bool), mask], axis=1)
        keep = None if self.every_step else self.tokens
        return self.encoder(name="encoder")(x, mask=mask, train=train, keep=keep)


class HyperModalityLayer(nn.Module):
    """Shifts the hyper-modality by what a text state finds in audio and in vision.

    Attributes:
      heads: K.
      head_width: H.
      dropout: rate on the shift.
    """

    heads: int
    head_width: int
    dropout: float

    @nn.compact
    def __call__(
        self, text: jax.Array, audio: jax.Array, vision: jax.Array, hyper: jax.Array, train: bool
    ) -> jax.Array:
        """The text state asks, audio and vision answer; all four and the result are [B, n, d]."""
        inputs = {"text": text, "audio": audio, "vision": vision, "hyper": hyper}
        normed = {name: layer_norm(f"norm_{name}")(x) for name, x in inputs.items()}
        inner = self.heads * self.head_width

        def project(name: str, source: str) -> jax.Array:
            y = Dense(inner, use_bias=False, name=name)(normed[source])
            return y.reshape(*y.shape[:2], self.heads, self.head_width).swapaxes(1, 2)  # [B, K, n, H]

        query = project("query", "text")
        found = []
        for m in ("audio", "vision"):
            weights = attention_weights(query, project(f"key_{m}", m), self.head_width**-0.5, None)
            keep(self, weights, None, None, m)
            found.append(jnp.einsum("bkqt,bkth->bkqh", weights, project(f"value_{m}", m)))
        joined = (found[0] + found[1]).swapaxes(1, 2).reshape(*text.shape[:2], inner)
        shift = Dense(hyper.shape[-1], name="output")(joined)
        return normed["hyper"] + Dropout(self.dropout)(shift, train)


class CrossTransformer(nn.Module):
    """Target tokens behind a class token read source tokens behind the same one.

    Attributes:
      encoder: what ``encoder(name=...)`` makes: the cross transformer.
      every_step: whether all of the target is computed to the end.
    """

    encoder: functools.partial[PreNormEncoder]
    every_step: bool

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array, train: bool) -> jax.Array:
        """source and target [B, n, d] to the class token [B, 1, d] (or with the target behind it)."""
        rows, _, width = target.shape
        token = self.param("token", nn.initializers.zeros, (1, width))
        token = jnp.broadcast_to(token[None], (rows, 1, width))

        def positioned(x: jax.Array, name: str) -> jax.Array:
            table = self.param(name, nn.initializers.normal(1.0), (1 + x.shape[1], width))
            return jnp.concatenate([token.astype(x.dtype), x], axis=1) + table[None].astype(x.dtype)

        source, target = positioned(source, "source_positions"), positioned(target, "target_positions")
        keep = None if self.every_step else 1
        return self.encoder(name="encoder")(target, source, train=train, keep=keep)


class Almt(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      positions: steps of text, audio and vision that have a learned position.
      source: where the text's states come from.
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    positions: tuple[int, ...]
    source: TextSource
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch.

        Returns:
          "M" [B] (logits [B, C]); features "fusion" [B, d]; per modality its tokens "text" [B, n, d];
          "text_states", the text's states [B, hyper_layers, n, d]; "hyper" [B, n, d]; "states", the text
          before it is mapped to d; and "encoded_text" and so on and "crossed", which are all that a
          transformer computes: its tokens, with ``compat`` its steps, too.
        """
        encoded, states = self._encoder()(batch, train)
        tokens = {m: x[:, : self.s.tokens] for m, x in encoded.items()}
        features = self._crossed(tokens["text"], tokens, self.s.compat, train)
        fusion = features["crossed"][:, 0]
        features |= {"fusion": fusion, "states": states, **tokens}
        features |= {f"encoded_{m}": x for m, x in encoded.items()}
        return Outputs({"M": scores(Dense(self.n_outputs, name="output")(fusion))}, features)

    def _encoder(self) -> Callable[[Batch, bool], tuple[dict[str, jax.Array], jax.Array]]:
        """What reads a batch, any number of times.

        It gives each modality's tokens [B, n, d] (with ``compat`` the T steps behind), and the text's states.
        """
        s, columns = self.s, dict(self.columns)
        text = TextStates(self.source, s.compat, name="text_encoder")
        fronts, gather = {}, {}
        for i, m in enumerate(MODALITIES):
            if m in columns:
                projection = functools.partial(DenseSubnet, s.d_model)
                fronts[m] = FineGrained(columns[m], projection, s.join, name=f"{m}_input")
            else:
                fronts[m] = DenseSubnet(s.d_model, name=f"{m}_input")
            encoder = functools.partial(
                PreNormEncoder, s.embed_layers[i], s.embed_heads[i], s.head_width, s.embed_hidden
            )
            gather[m] = TokenEncoder(s.tokens, self.positions[i], encoder, s.compat, name=m)

        def encode(batch: Batch, train: bool) -> tuple[dict[str, jax.Array], jax.Array]:
            values, masks = read_inputs(batch, s.compat)
            states, _ = text(batch, train)
            values["text"], encoded = states, {}
            for m in MODALITIES:
                x, _ = fronts[m](values[m], masks[m], train)
                encoded[m] = gather[m](x, masks[m], train)
            return encoded, states

        return encode

    def _crossed(
        self, text: jax.Array, tokens: dict[str, jax.Array], every_step: bool, train: bool
    ) -> dict[str, jax.Array]:
        """From the text's tokens to what its last state reads in the hyper-modality.

        Args:
          text: the tokens that ask, [B, n, d].
          tokens: those of audio and vision, [B, n, d] each.
          every_step: whether more than the class token is wanted.
          train: whether dropout is on.

        Returns:
          The features "text_states", "hyper" and "crossed".
        """
        s = self.s
        text_states = self._text_states(text, train)
        start = self.param("hyper", nn.initializers.ones, (s.tokens, s.d_model))
        hyper = jnp.broadcast_to(start[None], text.shape).astype(text.dtype)
        for i, state in enumerate(text_states):
            layer = HyperModalityLayer(s.hyper_heads, s.hyper_head_width, s.hyper_dropout, name=f"hyper_{i}")
            hyper = layer(state, tokens["audio"], tokens["vision"], hyper, train)
        encoder = functools.partial(
            PreNormEncoder, s.fusion_layers, s.fusion_heads, s.head_width, s.fusion_hidden
        )
        crossed = CrossTransformer(encoder, every_step, name="cross")(hyper, text_states[-1], train)
        return {"text_states": jnp.stack(text_states, axis=1), "hyper": hyper, "crossed": crossed}

    def _text_states(self, tokens: jax.Array, train: bool) -> list[jax.Array]:
        """The text's tokens with positions, and after each further layer; one per hyper-modality layer."""
        s = self.s
        table = self.param("text_positions", nn.initializers.normal(1.0), (s.tokens, s.d_model))
        states = [tokens + table[None].astype(tokens.dtype)]
        for i in range(s.hyper_layers - 1):
            layer = PreNormEncoder(1, s.text_heads, s.head_width, s.text_hidden, name=f"text_layer_{i}")
            states.append(layer(states[-1], train=train))
        return states


def positions_of(s: Settings, spec: DatasetSpec) -> tuple[int, ...]:
    """Steps of text, audio and vision that have a learned position.

    Raises:
      ConfigError: if ``model.positions`` leaves the data set's clips too few.
    """
    lengths = [record.length for record in spec.modalities.values()]
    positions = tuple(asked or length for asked, length in zip(s.positions, lengths, strict=True))
    for m, places, length in zip(MODALITIES, positions, lengths, strict=True):
        if places < length:
            raise ConfigError(
                f"model.positions={s.positions} leaves {m} {places} positions, but {spec.name} has clips of "
                f"{length} steps; set 0 for as many as the data needs."
            )
    return positions


def build(s: Settings, spec: DatasetSpec) -> Almt:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Almt(s, split_columns(s.fg, spec), positions_of(s, spec), text_source(s, spec), n_outputs(s))


def objective(s: Settings, spec: DatasetSpec) -> objectives.Objective:
    """The squared error; for classification cross-entropy."""
    del spec
    error = objectives.squared_error if s.task == "regression" else objectives.cross_entropy

    def loss(outputs: Outputs, batch: Batch, _memory) -> tuple[jax.Array, dict[str, jax.Array]]:
        value = error(outputs.predictions["M"], batch)
        return value, {"M": value}

    return objectives.Objective(loss)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "d_model": 8,
    "tokens": 2,
    "head_width": 4,
    "embed_heads": (2, 2, 2),
    "embed_hidden": 8,
    "text_heads": 2,
    "text_hidden": 8,
    "hyper_heads": 2,
    "hyper_head_width": 4,
    "fusion_layers": 1,
    "fusion_heads": 2,
    "fusion_hidden": 8,
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
