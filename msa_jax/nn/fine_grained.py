"""Fine-grained feature extraction: each group of columns has its own sub-network and its own head.

Zheng et al. 2024: a modality's columns are split into n sub-features (pitch, cepstrum, gaze, ...).
Each goes through a copy of the base model's sub-network; then each is one attention head of full
width h, and W_O brings the n heads back to h (their eq. 6 to 9). What follows stays as it was.

The article prints W_Q, W_K, W_V per group. Its parameter counts say otherwise: one of each per
modality, shared by the groups, without bias, and W_O with bias, 3h^2 + nh^2 + h in all.
"""

import typing
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.configuration import require_choice
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.nn.attention import attention_weights
from msa_jax.nn.initializers import Dense, symmetric_uniform

#: The columns of each group of a modality that is split.
Columns = tuple[tuple[int, ...], ...]
#: Values of ``model.fg``: which modalities are split (Zheng et al. 2024, Table 8).
Fg = Literal["none", "both", "audio", "vision"]
#: Values of ``model.qkv`` and ``model.attend_over``, see :class:`GroupedHeadAttention`.
Qkv = Literal["shared", "per_group"]
AttendOver = Literal["time", "groups"]


def split_modalities(fg: str, spec: DatasetSpec) -> tuple[str, ...]:
    """The modalities that ``fg`` splits into their column groups.

    "both" takes those of audio and vision that have groups: only audio on MOSEI, as in the paper.

    Raises:
      ConfigError: if a modality that ``fg`` names has no groups.
    """
    require_choice("model.fg", fg, typing.get_args(Fg))
    if fg == "none":
        return ()
    asked = ("audio", "vision") if fg == "both" else (fg,)
    grouped = tuple(m for m in asked if spec.modalities[m].groups)
    if not grouped:
        have = [m for m, record in spec.modalities.items() if record.groups]
        raise ConfigError(
            f"model.fg={fg}, but {' and '.join(asked)} of {spec.name} "
            f"{'have' if len(asked) > 1 else 'has'} no column groups (modalities that do: "
            f"{', '.join(have) or 'none'}); name its columns under data.groups or set model.fg=none."
        )
    return grouped


def split_columns(fg: str, spec: DatasetSpec) -> tuple[tuple[str, Columns], ...]:
    """The split modalities with their column groups, as hashable module attributes.

    Raises:
      ConfigError: as :func:`split_modalities`.
    """
    return tuple(
        (m, tuple(map(tuple, spec.modalities[m].group_slices()))) for m in split_modalities(fg, spec)
    )


class GroupedHeadAttention(nn.Module):
    """One attention head of full width per group, then W_O (Zheng et al. 2024, eq. 7 to 9).

    Attributes:
      qkv: "shared" (one W_Q, W_K, W_V for all groups, as the paper's counts show) or "per_group"
        (as its equations print).
      attend_over: "time" (each head over its own group's steps, as printed; with one step it is
        linear) or "groups" (at each step over the groups).
    """

    qkv: str = "shared"
    attend_over: str = "time"

    @nn.compact
    def __call__(self, groups: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Joins the groups, [B, n, S, h] to [B, S, h].

        Args:
          groups: the sub-networks' outputs. Padding steps must be finite.
          mask: real steps, [B, S]; None: all. Only attention over time needs it.
        """
        batch, n, steps, width = groups.shape
        queries, keys, values = (self._project(groups, name) for name in ("query", "key", "value"))
        if self.attend_over == "groups":
            queries, keys, values = (x.swapaxes(1, 2) for x in (queries, keys, values))  # [B, S, n, h]
            mask = None
        weights = attention_weights(queries, keys, width**-0.5, mask)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, values)
        if self.attend_over == "time":
            heads = heads.swapaxes(1, 2)
        return Dense(width, name="output")(heads.reshape(batch, steps, n * width))

    def _project(self, groups: jax.Array, name: str) -> jax.Array:
        n, width = groups.shape[1], groups.shape[-1]
        if self.qkv == "shared":
            return Dense(width, use_bias=False, name=name)(groups)
        # The range of a shared kernel: the fan in is h, not n * h.
        kernel = self.param(f"{name}_kernels", symmetric_uniform(width**-0.5), (n, width, width))
        return jnp.einsum("bnsd,nde->bnse", groups, kernel)


def take_columns(x: jax.Array, columns: tuple[int, ...]) -> jax.Array:
    """The given columns of the last axis, [..., D] to [..., len(columns)]."""
    if columns == tuple(range(columns[0], columns[0] + len(columns))):
        return x[..., columns[0] : columns[0] + len(columns)]
    return jnp.take(x, jnp.array(columns), axis=-1)


class FineGrained(nn.Module):
    """Sub-networks per column group and the attention that joins them.

    Attributes:
      columns: per group, its columns of the modality.
      make_subnet: ``make_subnet(name=...)`` gives a sub-network; ``subnet(x, mask, train)`` with x
        [B, T, columns] and mask [B, T] returns features [B, S, h] and their mask [B, S].
      qkv: see :class:`GroupedHeadAttention`.
      attend_over: see :class:`GroupedHeadAttention`.
    """

    columns: Columns
    make_subnet: Callable[..., nn.Module]
    qkv: str = "shared"
    attend_over: str = "time"

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] with mask [B, T] to [B, S, h], zero at padding, and its mask [B, S]."""
        features = []
        for k, columns in enumerate(self.columns):
            group, group_mask = self.make_subnet(name=f"group_{k}")(take_columns(x, columns), mask, train)
            features.append(jnp.where(group_mask[..., None], group, 0))
        joined = GroupedHeadAttention(self.qkv, self.attend_over, name="attention")(
            jnp.stack(features, axis=1), group_mask
        )
        return jnp.where(group_mask[..., None], joined, 0), group_mask
