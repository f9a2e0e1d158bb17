"""What may be done to raw features, as pure functions on blocks [n, T, D].

The package's rule for broken values is :func:`finite`: every NaN and infinity becomes 0. The public
MMSA loader replaces only a part of them; :func:`as_mmsa` and ``time_mean(..., compat=True)`` do exactly
what it does, for comparisons with results that were got with it.

Functions that an exported program computes too take NumPy's arrays or JAX's and answer in kind, so that
each is written once. NumPy sums in float64; JAX, where that does not exist by default, in float32.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: Float32 values that a streaming function looks at together (half a MB: its copies stay in the cache).
_BLOCK_VALUES = 1 << 17
_LARGEST = float(np.finfo(np.float32).max)


def finite(values: Any) -> Any:
    """A copy [n, T, D] with 0 for every NaN and infinity."""
    xp = values.__array_namespace__()
    return xp.where(xp.abs(values) <= _LARGEST, values, 0)  # false for NaN


def as_mmsa(values: Any, modality: str) -> Any:
    """A copy [n, T, D] as the MMSA loader makes it: -inf in audio becomes 0, all else stays."""
    xp = values.__array_namespace__()
    return xp.where(values == -np.inf, 0, values) if modality == "audio" else xp.where(True, values, 0)


def time_mean(values: Any, lengths: Any, compat: bool = False) -> Any:
    """One vector per clip: the mean over its steps.

    Args:
      values: [n, T, D], padding of any content. Pass it through :func:`finite` first, or, with
        ``compat``, through :func:`as_mmsa`.
      lengths: int [n], real steps.
      compat: what MMSA calls ``need_normalized``: the mean over all T steps, padding included, and
        then 0 for NaN. One NaN step so zeroes the column.

    Returns:
      [n, 1, D]; 0 for a clip without steps.
    """
    xp = values.__array_namespace__()
    if compat:
        with np.errstate(invalid="ignore", over="ignore"):
            mean = values.mean(axis=1, keepdims=True, dtype=values.dtype)
        return xp.where(xp.isnan(mean), 0, mean)
    real = xp.arange(values.shape[1])[None, :] < lengths[:, None]
    total = xp.where(real[:, :, None], values, 0).sum(axis=1, keepdims=True, dtype=sums_in(values))
    return (total / xp.maximum(lengths, 1)[:, None, None]).astype(values.dtype)


def sums_in(values: Any) -> Any:
    """The type that an array's values are summed in: float64 for NumPy's, their own for JAX's."""
    return np.float64 if isinstance(values, np.ndarray) else values.dtype


def standardise(values: Any, mean: np.ndarray, std: np.ndarray) -> Any:
    """``(values - mean) / std`` per column, float32 [n, T, D]; padding is scaled like the rest."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (values - mean[None, None, :]) / std[None, None, :]


@dataclasses.dataclass(frozen=True)
class ColumnSummary:
    """What the columns of one split hold, over the real steps; every array is [D].

    Attributes:
      steps: real steps of all clips together (a number).
      mean: of the finite values, float64; 0 where there are none.
      std: their standard deviation (divided by the count), float64; 1 where a column is constant.
      low: smallest finite value; NaN where there are none.
      high: largest finite value; NaN where there are none.
      nan: how many values are NaN.
      infinite: how many values are infinite.
    """

    steps: int
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    nan: np.ndarray
    infinite: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """bool [D]: columns whose finite values are all the same, or absent."""
        return ~(self.low < self.high)


def statistics(values: np.ndarray, lengths: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of every column, as a :class:`~msa_jax.data.spec.ModalitySpec` keeps them.

    See :func:`summarise`, which says more, for the arguments.
    """
    summary = summarise(values, lengths)
    return tuple(summary.mean.tolist()), tuple(summary.std.tolist())


def summarise(
    values: np.ndarray, lengths: np.ndarray, progress: Callable[[int], None] = lambda _: None
) -> ColumnSummary:
    """Describes the columns of a split that may be larger than memory.

    Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1983) in float64, so a large
    common offset costs no digits.

    Args:
      values: [N, T, D], an array or a memory map; read block by block.
      lengths: int [N], real steps.
      progress: called with the number of bytes of each block.
    """
    width = values.shape[2]
    count, mean, squares = np.zeros(width), np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    nan, infinite = np.zeros(width, np.int64), np.zeros(width, np.int64)
    clips = max(1, _BLOCK_VALUES // (values.shape[1] * width))
    for first in range(0, len(values), clips):
        rows = slice(first, first + clips)
        real = np.arange(values.shape[1]) < lengths[rows, None]
        stored = np.asarray(values[rows])
        block = stored[real]  # [steps, D]
        good = np.isfinite(block)
        some_bad = not good.all()
        more = good.sum(0, dtype=np.int64) if some_bad else np.full(width, len(block))
        bad = np.isnan(block).sum(0) if some_bad else 0
        nan, infinite = nan + bad, infinite + (len(block) - more - bad)
        where = good if some_bad else True  # a mask makes the two searches much slower
        low = np.minimum(low, block.min(0, initial=np.inf, where=where))
        high = np.maximum(high, block.max(0, initial=-np.inf, where=where))
        # Measured from a value of its own, a constant column has deviations of exactly 0.
        pivot = np.where(count > 0, mean, np.where(np.isfinite(low), low, 0))
        away = np.subtract(block, pivot, dtype=np.float64)
        if some_bad:
            away[~good] = 0
        shift = away.sum(0) / np.maximum(more, 1)
        spread = np.square(away, out=away).sum(0) - shift**2 * more
        part = more / np.maximum(count + more, 1)
        delta = pivot + shift - mean
        mean, squares = mean + delta * part, squares + spread + delta**2 * count * part
        count = count + more
        progress(stored.nbytes)
    std = np.where(low < high, np.sqrt(np.maximum(squares, 0) / np.maximum(count, 1)), 1.0)
    low, high = (np.where(count > 0, x, np.nan) for x in (low, high))
    return ColumnSummary(int(np.sum(lengths)), mean, std, low, high, nan, infinite)


def group_statistics(
    mean: np.ndarray, std: np.ndarray, groups: Mapping[str, tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """One mean and deviation for each column group, so that its columns keep their relative scale.

    Args:
      mean: [D] per column.
      std: [D] per column; a constant column counts with the 1 that it was given.
      groups: name -> columns.

    Returns:
      mean [D] and std [D], the same for all columns of a group: those of the group's values taken
      together. Columns of no group get 0 and 1, which leaves them as they are.
    """
    pooled_mean, pooled_std = np.zeros_like(mean), np.ones_like(std)
    for columns in groups.values():
        at = list(columns)
        pooled_mean[at] = mean[at].mean()
        pooled_std[at] = np.sqrt((std[at].astype(np.float64) ** 2).mean() + mean[at].astype(np.float64).var())
    return pooled_mean, pooled_std
