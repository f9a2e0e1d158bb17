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

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError, DataError
from msa_jax.models import objectives
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, read_settings, scores
from msa_jax.models.text import TextSource, TextStates, text_source
from msa_jax.nn.attention import attention_weights
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.prenorm import PreNormEncoder
from msa_jax.nn.subnets import DenseSubnet
from msa_jax.nn.transformer import layer_norm


@dataclasses.dataclass(frozen=True)
class Settings:
    """The model block of a configuration; `configs/models/almt.py` explains every key."""

    fg: str
    qkv: str
    attend_over: str
    compat: bool
    d_model: int
    tokens: int
    positions: tuple[int, int, int]
    head_width: int
    embed_layers: tuple[int, int, int]
    embed_heads: tuple[int, int, int]
    embed_hidden: int
    text_heads: int
    text_hidden: int
    hyper_layers: int
    hyper_heads: int
    hyper_head_width: int
    hyper_dropout: float
    fusion_layers: int
    fusion_heads: int
    fusion_hidden: int


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
                f"clips of {steps} steps of {self.name} are longer than the {self.positions} that ALMT has "
                "positions for; cut them, or train it with model.positions set to the longest."
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
        s = self.s
        encoded, states = self._encoded(batch, train)
        tokens = {m: x[:, : s.tokens] for m, x in encoded.items()}
        text_states = self._text_states(tokens["text"], train)
        start = self.param("hyper", nn.initializers.ones, (s.tokens, s.d_model))
        hyper = jnp.broadcast_to(start[None], tokens["text"].shape).astype(states.dtype)
        for i, text in enumerate(text_states):
            layer = HyperModalityLayer(s.hyper_heads, s.hyper_head_width, s.hyper_dropout, name=f"hyper_{i}")
            hyper = layer(text, tokens["audio"], tokens["vision"], hyper, train)
        encoder = functools.partial(
            PreNormEncoder, s.fusion_layers, s.fusion_heads, s.head_width, s.fusion_hidden
        )
        crossed = CrossTransformer(encoder, s.compat, name="cross")(hyper, text_states[-1], train)
        fusion = crossed[:, 0]
        features = {
            "fusion": fusion,
            "text_states": jnp.stack(text_states, axis=1),
            "hyper": hyper,
            "states": states,
            "crossed": crossed,
            **tokens,
            **{f"encoded_{m}": x for m, x in encoded.items()},
        }
        return Outputs({"M": scores(Dense(self.n_outputs, name="output")(fusion))}, features)

    def _encoded(self, batch: Batch, train: bool) -> tuple[dict[str, jax.Array], jax.Array]:
        """Each modality's tokens [B, n, d] (with ``compat`` the T steps behind), and the text's states."""
        s, columns = self.s, dict(self.columns)
        values, masks = read_inputs(batch, s.compat)
        states, _ = TextStates(self.source, s.compat, name="text_encoder")(batch, train)
        values["text"], encoded = states, {}
        for i, m in enumerate(MODALITIES):
            if m in columns:
                projection = functools.partial(DenseSubnet, s.d_model)
                front = FineGrained(columns[m], projection, s.qkv, s.attend_over, name=f"{m}_input")
            else:
                front = DenseSubnet(s.d_model, name=f"{m}_input")
            x, _ = front(values[m], masks[m], train)
            encoder = functools.partial(
                PreNormEncoder, s.embed_layers[i], s.embed_heads[i], s.head_width, s.embed_hidden
            )
            encoded[m] = TokenEncoder(s.tokens, self.positions[i], encoder, s.compat, name=m)(
                x, masks[m], train
            )
        return encoded, states

    def _text_states(self, tokens: jax.Array, train: bool) -> list[jax.Array]:
        """The text's tokens with positions, and after each further layer; one per hyper-modality layer."""
        s = self.s
        table = self.param("text_positions", nn.initializers.normal(1.0), (s.tokens, s.d_model))
        states = [tokens + table[None].astype(tokens.dtype)]
        for i in range(s.hyper_layers - 1):
            layer = PreNormEncoder(1, s.text_heads, s.head_width, s.text_hidden, name=f"text_layer_{i}")
            states.append(layer(states[-1], train=train))
        return states


def build(model: Config, spec: DatasetSpec) -> Almt:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    s = read_settings(Settings, model)
    for key, least in (("positions", 0), ("embed_layers", 1), ("embed_heads", 1)):
        values = getattr(s, key)
        if len(values) != 3 or not all(type(n) is int and n >= least for n in values):
            raise ConfigError(
                f"model.{key}={values} must be three whole numbers of at least {least}: for "
                f"{', '.join(MODALITIES)}."
            )
    lengths = [record.length for record in spec.modalities.values()]
    positions = tuple(asked or length for asked, length in zip(s.positions, lengths, strict=True))
    for m, places, length in zip(MODALITIES, positions, lengths, strict=True):
        if places < length:
            raise ConfigError(
                f"model.positions={s.positions} leaves {m} {places} positions, but {spec.name} has clips of "
                f"{length} steps; set 0 for as many as the data needs."
            )
    return Almt(s, split_columns(model.fg, spec), positions, text_source(model, spec), n_outputs(model))


def objective(model: Config, spec: DatasetSpec) -> objectives.Objective:
    """The squared error; for classification cross-entropy."""
    del spec
    error = objectives.squared_error if model.task == "regression" else objectives.cross_entropy

    def loss(outputs: Outputs, batch: Batch, _memory) -> tuple[jax.Array, dict[str, jax.Array]]:
        value = error(outputs.predictions["M"], batch)
        return value, {"M": value}

    return objectives.Objective(loss)
