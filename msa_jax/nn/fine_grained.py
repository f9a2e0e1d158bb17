"""Fine-grained feature extraction: each group of columns has its own sub-network and its own head.

Zheng et al. 2024: a modality's columns are split into n sub-features (pitch, cepstrum, gaze, ...).
Each goes through a copy of the base model's sub-network; then each is one attention head of full
width h, and W_O brings the n heads back to h (their eq. 6 to 9). What follows stays as it was.

The article prints W_Q, W_K, W_V per group. Its parameter counts say otherwise: one of each per
modality, shared by the groups, without bias, and W_O with bias, 3h^2 + nh^2 + h in all.

The published block has neither a residual nor a norm. From PyTorch's initial values each of its two products
(W_V, W_O) leaves a third of the variance, so that a modality enters the fusion with a third of its size, and
weight decay takes more. :class:`Join` has what mends that; "Does fine-grained extraction help?" in the
documentation measures it.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.configuration import require_choice
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.nn.attention import attention_weights, keep
from msa_jax.nn.initializers import Dense, symmetric_uniform
from msa_jax.nn.pooling import masked_mean
from msa_jax.nn.transformer import layer_norm

#: The columns of each group of a modality that is split.
Columns = tuple[tuple[int, ...], ...]
#: Values of ``model.fg``: which modalities are split (Zheng et al. 2024, Table 8).
Fg = Literal["none", "both", "audio", "vision"]
#: Values of ``model.qkv`` and ``model.attend_over``, see :class:`Join`.
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


@dataclasses.dataclass(frozen=True)
class Join:
    """How groups become one. The defaults are the published block.

    Attributes:
      qkv: "shared" (one W_Q, W_K, W_V for all groups, as the paper's counts show) or "per_group"
        (as its equations print).
      attend_over: "time" (each head over its own group's steps, as printed; with one step it is
        linear) or "groups" (at each step over the groups).
      scale: times the initial range of W_V and W_O. Each leaves a third of the variance at 1, and all of
        it at the square root of 3.
      residual: whether the groups' mean is added to what W_O gives.
      norm: whether a layer norm follows.
    """

    qkv: str = "shared"
    attend_over: str = "time"
    scale: float = 1.0
    residual: bool = False
    norm: bool = False


class GroupedHeadAttention(nn.Module):
    """One attention head of full width per group, then W_O (Zheng et al. 2024, eq. 7 to 9).

    Attributes:
      join: variants of it, and what may follow.
    """

    join: Join = Join()

    @nn.compact
    def __call__(self, groups: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Joins the groups, [B, n, S, h] to [B, S, h].

        Args:
          groups: the sub-networks' outputs. Padding steps must be finite.
          mask: real steps, [B, S]; None: all. Only attention over time needs it, and what is kept of either
            (:func:`~msa_jax.nn.attention.keep`): nothing is without.
        """
        join = self.join
        batch, n, steps, width = groups.shape
        queries, keys, values = (self._project(groups, name) for name in ("query", "key", "value"))
        over_groups = join.attend_over == "groups"
        if over_groups:
            queries, keys, values = (x.swapaxes(1, 2) for x in (queries, keys, values))  # [B, S, n, h]
        weights = attention_weights(queries, keys, width**-0.5, None if over_groups else mask)
        if mask is not None and self.is_mutable_collection("intermediates"):
            self._keep(weights, mask)
        heads = jnp.einsum("bkqt,bkth->bkqh", weights, values)
        if join.attend_over == "time":
            heads = heads.swapaxes(1, 2)
        init = symmetric_uniform(join.scale * (n * width) ** -0.5)
        y = Dense(width, kernel_init=init, name="output")(heads.reshape(batch, steps, n * width))
        if join.residual:
            y = y + jnp.mean(groups, axis=1)
        return layer_norm("norm")(y) if join.norm else y

    def _keep(self, weights: jax.Array, mask: jax.Array) -> None:
        """Keeps the groups' weights over time [B, n, S, S], or the steps' mean of those over groups."""
        if self.join.attend_over == "time":
            keep(self, weights, mask, mask)
            return
        mean = masked_mean(weights.reshape(*mask.shape, -1), mask)
        n = weights.shape[-1]
        there = jnp.broadcast_to(mask.any(axis=1)[:, None], (len(mask), n))
        keep(self, mean.reshape(-1, 1, n, n), there, None)

    def _project(self, groups: jax.Array, name: str) -> jax.Array:
        n, width = groups.shape[1], groups.shape[-1]
        init = symmetric_uniform((self.join.scale if name == "value" else 1.0) * width**-0.5)
        if self.join.qkv == "shared":
            return Dense(width, use_bias=False, kernel_init=init, name=name)(groups)
        # The range of a shared kernel: the fan in is h, not n * h.
        kernel = self.param(f"{name}_kernels", init, (n, width, width))
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
      join: how the groups become one.
    """

    columns: Columns
    make_subnet: Callable[..., nn.Module]
    join: Join = Join()

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Takes x [B, T, D] with mask [B, T] to [B, S, h], zero at padding, and its mask [B, S]."""
        features = []
        for k, columns in enumerate(self.columns):
            group, group_mask = self.make_subnet(name=f"group_{k}")(take_columns(x, columns), mask, train)
            features.append(jnp.where(group_mask[..., None], group, 0))
        attention = GroupedHeadAttention(self.join, name="attention")
        joined = attention(jnp.stack(features, axis=1), group_mask)
        return jnp.where(group_mask[..., None], joined, 0), group_mask


#: Where the block's parameters lie: beside a group's sub-network, or, in a system of LSTMs, beside its input.
_GROUP = re.compile(r"((?:.*/)?)group_\d+/")
_CELL = re.compile(r"((?:.*/)?)(\w+)_input_\d+/")


def paths_of_blocks(paths: Iterable[str]) -> set[str]:
    """Those of a model's parameters that ``fg`` brought: the groups' sub-networks and what joins them.

    Args:
      paths: of all its parameters, components joined by "/".
    """
    paths, starts = list(paths), set()
    for path in paths:
        if found := _GROUP.match(path):
            starts |= {f"{found[1]}group_", f"{found[1]}attention/"}
        elif found := _CELL.match(path):
            inside, m = found.groups()
            starts |= {f"{inside}{m}_input_", f"{inside}{m}_attention/", f"{inside}steps/{m}/"}
    return {path for path in paths if path.startswith(tuple(starts))}
