"""BERT's encoder (Devlin et al. 2019) and RoBERTa's (Liu et al. 2019), a parameter for every one of the
public checkpoints'.

Learned positions, post-norm layers, exact GELU. Initial values as the authors' (normal with a deviation
of 0.02, zero biases). The attention's three projections have parameters of their own and are computed
as one product. RoBERTa's differs in its embeddings alone: positions are counted over real tokens from
``pad`` + 1, as it was trained in fairseq, and there is one segment.

All kinds of encoders share the settings and what happens between layers here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.errors import ConfigError
from msa_jax.nn.attention import attention_weights
from msa_jax.nn.bits import hashed_normal
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Dense, product
from msa_jax.nn.layer_mix import LayerMix
from msa_jax.typed_settings import Count, CountOrZero, Positive, Rate

#: What a model of several modalities does to the states [B, T, D] on their way through the encoder: number
#: of layers that they have passed (0: they are the embeddings) -> a change to states of the same shape.
Injections = Mapping[int, Callable[[jax.Array], jax.Array]]

#: The kinds of encoders: this file's, and :mod:`msa_jax.nn.modernbert`'s.
Kind = Literal["bert", "roberta", "modernbert"]
#: Which of the layers' states an encoder gives, see :class:`~msa_jax.nn.layer_mix.LayerMix`.
Layers = Literal["last", "mean", "learned"]


@dataclasses.dataclass(frozen=True)
class BertSettings:
    """Kind, sizes and rates of an encoder; the defaults are those of bert-base-uncased."""

    width: Count = 768  # D
    n_layers: Count = 12
    heads: Count = 12  # K, a divisor of D
    intermediate: Count = 3072  # width inside the feed-forward networks
    vocab: Count = 30522  # number of token ids
    positions: Count = 512  # the longest text that it can read, in tokens
    types: Count = 2  # number of segment ids
    dropout: Rate = 0.1  # on the embeddings and on what every half of a layer adds
    attention_dropout: Rate = 0.1  # on the attention weights
    layer_norm_eps: Positive = 1e-12  # added to variances
    remat: bool = False  # compute each layer again in the backward pass: less memory, more time
    # bert | roberta | modernbert: the architecture, which the folder's config.json says
    kind: Kind = "bert"
    pad: CountOrZero = 0  # the vocabulary's entry for padding, which is never learned
    # last | mean | learned: which layers' states are read; see msa_jax/nn/layer_mix.py
    layers: Layers = "last"
    # Of kind=modernbert alone (its config.json's values); see msa_jax/nn/modernbert.py
    global_every: Count = 3  # so many layers apart are those that read the whole text, from the first
    window: Count = 128  # the others read half as many steps to either side
    thetas: tuple[Positive, Positive] = (160000.0, 10000.0)  # base of the rotary angles: whole text, window
    biases: tuple[bool, bool, bool] = (False, False, False)  # of attention, feed-forward networks, norms

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide the encoder's width {self.width}.")
        if self.kind == "modernbert" and self.width // self.heads % 2:
            raise ConfigError(
                f"the encoder's heads are {self.width // self.heads} wide, and rotary positions need an even "
                "width."
            )
        if self.pad >= self.vocab:
            raise ConfigError(
                f"the encoder's token of padding is {self.pad}, beyond its {self.vocab} tokens."
            )


def normal(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Normally distributed initial values with deviation 0.02."""
    return hashed_normal(key, shape, 0.02).astype(dtype)


def dense(features: int, name: str) -> Dense:
    """An affine map with BERT's initial values, for what stands beside its layers."""
    return Dense(features, kernel_init=normal, bias_init=nn.initializers.zeros, name=name)


class Bert(nn.Module):
    """The encoder of kind "bert" or "roberta".

    The states after the embeddings and after every layer are kept under ``intermediates/states`` where
    that collection is mutable, each layer's attention (not with ``remat``) under
    ``intermediates/layer_<i>/attention/weights``.

    Attributes:
      settings: its sizes.
      pooler: whether the first token's state is pooled too.
    """

    settings: BertSettings
    pooler: bool = False

    @nn.compact
    def __call__(
        self,
        ids: jax.Array,
        mask: jax.Array,
        segments: jax.Array,
        train: bool,
        injections: Injections | None = None,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Encodes tokens; real ones never read padding.

        Args:
          ids: token ids, int [B, T], at most ``positions`` steps.
          mask: real tokens, [B, T].
          segments: segment ids, int [B, T]; not read of kind "roberta", which has one segment.
          train: whether dropout is on.
          injections: changes of the states between layers; None: none.

        Returns:
          The states [B, T, D] that ``settings.layers`` asks for, also of padding (which reads the real
          tokens); with ``pooler`` a pair of them and tanh(affine(state of the first token)), [B, D].

        Raises:
          ConfigError: if the texts have more steps than the encoder has positions.
        """
        s = self.settings
        x = Embeddings(s, name="embeddings")(ids, mask, segments, train)
        layers = [BertLayer(s, name=f"layer_{i}") for i in range(s.n_layers)]
        x = LayerMix(s.layers, name="mix")(between_layers(self, s, layers, x, mask, train, injections))
        return (x, jnp.tanh(_affine(x[:, 0], s.width, "pooler"))) if self.pooler else x


class Embeddings(nn.Module):
    """LN(word + position + segment) with dropout."""

    settings: BertSettings

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array, segments: jax.Array, train: bool) -> jax.Array:
        """ids and segments, int [B, T], with their real steps, mask [B, T], to [B, T, D]."""
        s = self.settings
        require_positions(s, ids)
        counted = s.kind == "roberta"
        if counted:
            ids, segments = jnp.where(mask, ids, s.pad), jnp.zeros_like(segments)
        word = word_states(self, s, ids)
        rows = s.positions + (s.pad + 1 if counted else 0)
        table = self.param("position", normal, (rows, s.width))
        segment = self.param("segment", normal, (s.types, s.width))[segments]
        if counted:
            real = (ids != s.pad).astype(ids.dtype)
            position = table[jnp.cumsum(real, axis=1) * real + s.pad]
            position = jnp.where((real == 0)[..., None], jax.lax.stop_gradient(position), position)
        else:
            position = jnp.broadcast_to(table[: ids.shape[1]], word.shape)
        x = word + segment + position
        return Dropout(s.dropout)(_layer_norm(s, "norm")(x), train)


class BertLayer(nn.Module):
    """LN(x + attention(x)), then LN(x + FF(x))."""

    settings: BertSettings

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D], which reads the real steps, mask [B, T], to [B, T, D]."""
        s, drop = self.settings, Dropout(self.settings.dropout)
        read = SelfAttention(s.heads, s.attention_dropout, name="attention")(x, mask, train)
        x = _layer_norm(s, "attention_norm")(x + drop(read, train))
        hidden = nn.gelu(_affine(x, s.intermediate, "intermediate"), approximate=False)
        return _layer_norm(s, "output_norm")(x + drop(_affine(hidden, s.width, "output"), train))


class SelfAttention(nn.Module):
    """Scaled dot-product attention over time, with K heads of width D/K.

    Attributes:
      heads: K.
      dropout: rate on the attention weights.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D] reads its real steps, mask [B, T]; gives [B, T, D]."""
        width = x.shape[-1]
        parts = [DenseParameters(width, name=name)(x) for name in ("query", "key", "value")]
        kernel, bias = (jnp.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        joint = product(x, kernel)
        joint = (joint + jnp.broadcast_to(bias, joint.shape)).reshape(*x.shape[:2], 3, self.heads, -1)
        query, key, value = (joint[:, :, i].swapaxes(1, 2) for i in range(3))  # [B, K, T, D/K]
        weights = attention_weights(query, key, (width // self.heads) ** -0.5, mask)
        self.sow("intermediates", "weights", weights)
        weights = Dropout(self.dropout)(weights, train)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, value).swapaxes(1, 2)
        return _affine(heads.reshape(x.shape), width, "output")


class DenseParameters(nn.Module):
    """Kernel and bias of an affine map that the caller applies together with others.

    Attributes:
      features: output width.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """For inputs x [..., D]: kernel [D, features] and bias [features]."""
        kernel = self.param("kernel", normal, (x.shape[-1], self.features))
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


def require_positions(settings: BertSettings, ids: jax.Array) -> None:
    """Raises ConfigError if texts, int [B, T], have more steps than the encoder has positions."""
    if ids.shape[1] > settings.positions:
        raise ConfigError(
            f"texts of {ids.shape[1]} tokens, but the encoder has {settings.positions} positions; cut them."
        )


def word_states(module: nn.Module, settings: BertSettings, ids: jax.Array) -> jax.Array:
    """The rows of the table of words, a parameter of ``module``, for ids [B, T]: [B, T, D].

    That of padding never learns, as in PyTorch.
    """
    word = module.param("word", normal, (settings.vocab, settings.width))[ids]
    return jnp.where((ids == settings.pad)[..., None], jax.lax.stop_gradient(word), word)


def between_layers(
    module: nn.Module,
    settings: BertSettings,
    layers: Sequence[nn.Module],
    x: jax.Array,
    mask: jax.Array,
    train: bool,
    injections: Injections | None,
    finish: Callable[[jax.Array], jax.Array] | None = None,
) -> list[jax.Array]:
    """Takes embeddings through the layers of an encoder.

    Args:
      module: the encoder, which keeps the states before any change of them.
      settings: its own.
      layers: called with states, mask and ``train``.
      x: the embeddings, [B, T, D].
      mask: real tokens, [B, T].
      train: whether dropout is on.
      injections: changes of the states between layers.
      finish: what follows the last layer.

    Returns:
      The embeddings and the states after every layer, each [B, T, D], as changed.
    """
    changes, states = injections or {}, []
    again = settings.remat and not module.is_initializing()
    for passed in range(len(layers) + 1):
        if passed:
            layer: Any = layers[passed - 1]
            x = _recomputing(layer, x, mask, train) if again else layer(x, mask, train)
        if finish is not None and passed == len(layers):
            x = finish(x)
        module.sow("intermediates", "states", x)
        x = changes.get(passed, _same)(x)
        states.append(x)
    return states


def _same(x: jax.Array) -> jax.Array:
    return x


def _recomputing(layer: nn.Module, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
    """layer(x, mask, train), of which the backward pass keeps nothing but x."""
    module, variables = layer.unbind()
    seed = layer.make_rng("dropout") if train else jax.random.key(0)
    return _forward(module, train, variables, x, mask, seed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _forward(
    layer: nn.Module, train: bool, variables: Any, x: jax.Array, mask: jax.Array, seed: jax.Array
) -> Any:
    return layer.apply(variables, x, mask, train, rngs={"dropout": seed})


def _forward_and_inputs(layer, train, variables, x, mask, seed):
    return _forward(layer, train, variables, x, mask, seed), (variables, x, mask, seed)


def _backward(layer, train, saved, gradient):
    variables, x, mask, seed = saved
    # A zero that no compiler knows to be one. Through it what follows depends on the gradient; otherwise XLA
    # sees that the forward pass computed the same and keeps that, which on a CPU undoes jax.checkpoint.
    x = x + 0 * gradient
    _, pull = jax.vjp(lambda v, x: layer.apply(v, x, mask, train, rngs={"dropout": seed}), variables, x)
    return *pull(gradient), None, None


_forward.defvjp(_forward_and_inputs, _backward)


def _affine(x: jax.Array, features: int, name: str) -> jax.Array:
    """A submodule: affine map [..., D] to [..., features], as a product of two matrices."""
    rows = nn.Dense(features, kernel_init=normal, name=name)(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], features)


def _layer_norm(settings: BertSettings, name: str) -> nn.LayerNorm:
    """LayerNorm with two-pass variance and float32 statistics."""
    return nn.LayerNorm(epsilon=settings.layer_norm_eps, use_fast_variance=False, name=name)
