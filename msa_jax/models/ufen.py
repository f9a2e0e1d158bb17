"""UFEN, the unimodal feature extraction network of Cai et al. 2025, and its keys of the model block.

Bi-GRU, then a cascade of convolutions, each level gated by self-attention and brought back to the input's
steps, and the levels' sum. "Table n" and "eq. n" are those of Cai et al. 2025. "Reading An" marks what the
paper leaves open; the value here is the reading we recommend, the others are named beside it.
"""

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.errors import ConfigError
from msa_jax.models.settings import require_heads
from msa_jax.models.text import TextSettings
from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.conv import MaskedConv1D, upsample, window_centre
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import GRU
from msa_jax.nn.transformer import layer_norm, sinusoidal_positions
from msa_jax.typed_settings import Count, CountOrZero, Rate


@dataclasses.dataclass(frozen=True)
class UfenSettings(TextSettings):
    """The keys of the text's source and of the extraction network."""

    # Reading A12: the paper's learning rate would destroy a BERT, so it must have been frozen, or had a
    # rate of its own.
    text_encoder: Literal["finetune", "frozen"] = "frozen"
    # fine_grained (what fg says) | concat (whole modalities only)
    frontend: Literal["fine_grained", "concat"] = "fine_grained"
    fg_subnet: Literal["dense", "bigru"] = "dense"  # sub-network of a column group, width d_model
    masking: bool = True  # False: padding counts as zeros, as in code that knows no lengths

    d_model: Count = 128  # d_m is not printed
    use_bigru: bool = True  # Table 9; False: Dense per step
    n_layers: Count = 2  # L, Table 7: 2 is best
    use_conv: bool = True  # Table 9; False: every level is the Bi-GRU's output
    kernel_size: Count = 3  # K is not printed
    filters: CountOrZero = 0  # F_l is not printed; 0: d_model. With upsample=dense 64 is a reading of A3
    # cascade (Fig. 3) | parallel. Reading A2
    conv_topology: Literal["cascade", "parallel"] = "cascade"
    conv_stride: Count = 2  # reading A3: eq. 6 undoes a coarser time axis; 1: nothing to undo
    padding: Literal["same", "valid"] = "same"  # reading A3
    # linear | nearest | dense (stride 1, Dense from F to d). Reading A3
    upsample: Literal["linear", "nearest", "dense"] = "linear"
    use_self_attention: bool = True  # Table 9; False: S = X
    self_heads: Count = 1  # Table 2
    share_self_attention: bool = False  # reading A13: one per layer
    gate: Literal["product", "sigmoid", "residual"] = "product"  # product (eq. 5). Reading A14
    pos_enc: Literal["none", "sinusoidal"] = "none"  # after the Bi-GRU. Reading A16
    ufen_layer_norm: bool = False  # after the Bi-GRU and after the sum. Reading A15: Fig. 3 has none
    # late (sequences meet in MTFN) | early (their means). Reading A4
    ufen_pool: Literal["late", "early"] = "late"

    attention_dropout: Rate = 0.2  # Table 2
    dropout: Rate = 0.1  # Table 2; places: reading A15, A17

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % 2:
            raise ConfigError(
                f"model.d_model={self.d_model} must be even: half of it is the GRU of one direction."
            )
        require_heads(self, "self_heads", self.level_width)
        if self.frontend == "concat" and self.fg != "none":
            raise ConfigError(
                f"model.frontend=concat feeds whole modalities, but model.fg={self.fg} splits them; "
                "set model.fg=none or model.frontend=fine_grained."
            )

    @property
    def level_width(self) -> int:
        """F, width of the convolution levels; without convolutions a level is the Bi-GRU's output."""
        return (self.filters or self.d_model) if self.use_conv else self.d_model

    @property
    def stride(self) -> int:
        """Of the convolutions; upsample=dense means levels that never left the input's steps (A3)."""
        return 1 if self.upsample == "dense" else self.conv_stride


def attention(s: UfenSettings, heads: int, name: str) -> MultiHeadAttention:
    """Attention as the paper prints it: projections without biases."""
    return MultiHeadAttention(heads, use_bias=False, dropout=s.attention_dropout, name=name)


class Subnet(nn.Module):
    """Sub-network of one column group: Dense per step, or a Bi-GRU."""

    width: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] to [B, T, width]; the mask stays."""
        del train
        if self.kind == "bigru":
            return GRU(self.width // 2, bidirectional=True, name="bigru")(x, mask)[0], mask
        return Dense(self.width, name="dense")(x), mask


class Ufen(nn.Module):
    """Unimodal feature extraction network of one modality (eq. 1 to 7).

    Attributes:
      s: the model's settings.
      groups: the modality's column groups where it has a fine-grained front end, else empty.
    """

    s: UfenSettings
    groups: Columns = ()

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """X_i [B, T, D] to X_i^fus [B, T, d], zero at padding (mask [B, T])."""
        s = self.s
        drop = Dropout(s.dropout)
        if self.groups:
            subnet = functools.partial(Subnet, s.d_model, s.fg_subnet)
            front = FineGrained(self.groups, subnet, s.join, name="fine_grained")
            x, _ = front(x, mask, train)
        h = self._encode(x, mask)
        if s.ufen_layer_norm:
            h = layer_norm("norm_bigru")(h)
        h = drop(h, train)
        if s.pos_enc == "sinusoidal":
            h = h + sinusoidal_positions(*h.shape[1:]).astype(h.dtype)[None]
        h = jnp.where(mask[..., None], h, 0)

        level, level_mask = h, mask
        levels = []
        shared = attention(s, s.self_heads, "self_attention") if s.share_self_attention else None
        for layer in range(1, s.n_layers + 1):
            if s.use_conv:
                source = (h, mask) if s.conv_topology == "parallel" else (level, level_mask)
                conv = MaskedConv1D(s.level_width, s.kernel_size, s.stride, s.padding, name=f"conv_{layer}")
                level, level_mask = conv(*source)
                level = nn.relu(level)
            attend = shared or attention(s, s.self_heads, f"self_attention_{layer}")
            gated = self._gate(level, level_mask, attend, train)
            levels.append(self._upsample(gated, level_mask, h.shape[1], layer))
        fused = sum(levels[1:], start=levels[0])
        if s.ufen_layer_norm:
            fused = layer_norm("norm_fused")(fused)
        return jnp.where(mask[..., None], drop(fused, train), 0)

    def _encode(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Bi-GRU with d/2 per direction (eq. 2, 3)."""
        if not self.s.use_bigru:
            return Dense(self.s.d_model, name="dense")(x)
        return GRU(self.s.d_model // 2, bidirectional=True, name="bigru")(x, mask)[0]

    def _gate(self, x: jax.Array, mask: jax.Array, attend: MultiHeadAttention, train: bool) -> jax.Array:
        """S^l = X^l * A^l, A^l = SelfAttention(X^l) (eq. 5)."""
        s = self.s
        if not s.use_self_attention:
            return x
        a = attend(x, x, mask, train=train, query_mask=mask)
        if s.gate == "residual":
            return x + a
        return x * (nn.sigmoid(a) if s.gate == "sigmoid" else a)

    def _upsample(self, x: jax.Array, mask: jax.Array, length: int, layer: int) -> jax.Array:
        """U^l: back to the input's steps and to width d (eq. 6)."""
        s = self.s
        if s.use_conv:
            depth = 1 if s.conv_topology == "parallel" else layer
            scale, offset = window_centre(s.kernel_size, s.stride, s.padding, depth)
            method = "nearest" if s.upsample == "nearest" else "linear"
            x = upsample(x, mask, length, scale, offset, method)
        if s.level_width != s.d_model or (s.use_conv and s.upsample == "dense"):
            x = Dense(s.d_model, name=f"project_{layer}")(x)
        return x
