"""ModernBERT's encoder (Warner et al. 2024), a parameter for every one of the public checkpoints'.

Pre-norm layers with gated GELU (Shazeer 2020), rotary positions (Su et al. 2021) in place of learned ones,
and a norm behind the last layer. Every ``global_every``-th layer from the first reads the whole text, the
others the steps at most ``window`` // 2 away; the two kinds have angles of their own. The first layer has no
norm of its own before attention, since the embeddings are normed. Segments are not read, and there is no
pooler.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.attention import MASKED, attention_weights
from msa_jax.nn.bert import (
    BertSettings,
    Injections,
    between_layers,
    normal,
    require_positions,
    word_states,
)
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.layer_mix import LayerMix


class ModernBert(nn.Module):
    """The encoder of kind "modernbert".

    States and attention are kept as :class:`~msa_jax.nn.bert.Bert` keeps them; the last state is that behind
    the final norm.

    Attributes:
      settings: its sizes.
    """

    settings: BertSettings

    @nn.compact
    def __call__(
        self,
        ids: jax.Array,
        mask: jax.Array,
        segments: jax.Array,  # noqa: ARG002  (as the other kinds are called)
        train: bool,
        injections: Injections | None = None,
    ) -> jax.Array:
        """Encodes tokens; real ones never read padding.

        Args:
          ids: token ids, int [B, T], at most ``positions`` steps.
          mask: real tokens, which come first, [B, T].
          segments: not read.
          train: whether dropout is on.
          injections: changes of the states between layers (the last: behind the final norm); None: none.

        Returns:
          The states [B, T, D] that ``settings.layers`` asks for, also of padding.

        Raises:
          ConfigError: if the texts have more steps than the encoder has positions.
        """
        s = self.settings
        x = Embeddings(s, name="embeddings")(ids, mask, train)
        layers = [ModernBertLayer(s, i, name=f"layer_{i}") for i in range(s.n_layers)]
        norm = _layer_norm(s, "final_norm")
        states = between_layers(self, s, layers, x, mask, train, injections, norm)
        return LayerMix(s.layers, name="mix")(states)


class Embeddings(nn.Module):
    """LN(word) with dropout."""

    settings: BertSettings

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """ids, int [B, T], with their real steps, mask [B, T], to [B, T, D]."""
        s = self.settings
        require_positions(s, ids)
        word = word_states(self, s, jnp.where(mask, ids, s.pad))
        return Dropout(s.dropout)(_layer_norm(s, "norm")(word), train)


class ModernBertLayer(nn.Module):
    """x + attention(LN(x)), then x + W_o(gelu(a) * b), where a and b are the halves of W_i LN(x).

    Attributes:
      settings: of the encoder.
      number: of the layer, from 0, which says how far it reads.
    """

    settings: BertSettings
    number: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D], which reads the real steps, mask [B, T], to [B, T, D]."""
        s = self.settings
        local = bool(self.number % s.global_every)
        attention = RotaryAttention(s, local, name="attention")
        x = x + attention(_layer_norm(s, "attention_norm")(x) if self.number else x, mask, train)
        bias = s.biases[1]
        both = _affine(_layer_norm(s, "ff_norm")(x), 2 * s.intermediate, bias, "intermediate")
        inside, gate = jnp.split(both, 2, axis=-1)
        hidden = Dropout(s.dropout)(nn.gelu(inside, approximate=False) * gate, train)
        return x + _affine(hidden, s.width, bias, "output")


class RotaryAttention(nn.Module):
    """Scaled dot-product attention over time with rotary positions, with K heads of width D/K.

    Attributes:
      settings: of the encoder.
      local: whether a step reads those at most ``window`` // 2 away; else all.
    """

    settings: BertSettings
    local: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D] reads its real steps, mask [B, T]; gives [B, T, D]."""
        s, steps = self.settings, x.shape[1]
        head = s.width // s.heads
        joint = _affine(x, 3 * s.width, s.biases[0], "qkv").reshape(*x.shape[:2], 3, s.heads, head)
        query, key, value = (joint[:, :, i].swapaxes(1, 2) for i in range(3))  # [B, K, T, D/K]
        query, key = (rotated(y, s.thetas[int(self.local)]) for y in (query, key))
        bias = None
        if self.local:
            places = jnp.arange(steps)
            near = jnp.abs(places[:, None] - places[None, :]) <= s.window // 2
            bias = jnp.where(near, 0.0, MASKED)
        weights = attention_weights(query, key, head**-0.5, mask, bias)
        self.sow("intermediates", "weights", weights)
        weights, drop = Dropout(s.attention_dropout)(weights, train), Dropout(s.attention_dropout)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, value).swapaxes(1, 2)
        return drop(_affine(heads.reshape(x.shape), s.width, s.biases[0], "output"), train)


def rotated(x: jax.Array, theta: float) -> jax.Array:
    """Queries or keys [B, K, T, H] turned by their step's angles (Su et al. 2021, eq. 34).

    Column i is paired with column i + H/2, and the pair is turned by t * theta ** (-2i / H) at step t.
    """
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[2], dtype=jnp.float32)[:, None] * _rates(half, theta)[None]
    cosine, sine = jnp.cos(angles)[None, None], jnp.sin(angles)[None, None]
    one, two = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    turned = jnp.concatenate([one * cosine - two * sine, two * cosine + one * sine], axis=-1)
    return turned.astype(x.dtype)


def _rates(half: int, theta: float) -> jax.Array:
    """Radians per step of each pair, [H/2]."""
    return jnp.float32(theta) ** -(jnp.arange(half, dtype=jnp.float32) / half)


def _affine(x: jax.Array, features: int, bias: bool, name: str) -> jax.Array:
    """A submodule: linear map [..., D] to [..., features], as a product of two matrices."""
    rows = nn.Dense(features, bias, kernel_init=normal, name=name)(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], features)


def _layer_norm(settings: BertSettings, name: str) -> nn.LayerNorm:
    """LayerNorm with two-pass variance and float32 statistics."""
    bias = settings.biases[2]
    return nn.LayerNorm(settings.layer_norm_eps, use_bias=bias, use_fast_variance=False, name=name)
