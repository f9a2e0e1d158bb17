"""Rows of one or more arrays, which stay where they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows:
    """Chosen rows of arrays as one array [N, T, D] that is read when it is indexed.

    The arrays may be memory maps larger than memory: nothing but the rows that are asked for is read, and
    what is read is a copy. Rows that lie apart on disk cost a seek each, so that a whole pass over chosen
    rows of a map takes longer than one over the map itself.

    Attributes:
      shape: (N, T, D).
      dtype: float32.
    """

    def __init__(self, parts: Sequence[np.ndarray], part: np.ndarray, row: np.ndarray):
        # part, row: int [N], where each of these rows is
        self._parts, self._part, self._row = parts, part, row
        self.shape = (len(row), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> Any:
        """All rows of arrays [n, T, D], one array behind the other.

        The type is Any because a split's features are declared as NumPy arrays, whose part this takes.
        """
        counts = [len(part) for part in parts]
        numbers = np.repeat(np.arange(len(parts)), counts)
        return cls(parts, numbers, np.concatenate([np.arange(count) for count in counts]))

    def take(self, rows: np.ndarray) -> Any:
        """Some of these rows, not read either."""
        return Rows(self._parts, self._part[rows], self._row[rows])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """N T D."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Of all rows, were they read."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: Any) -> np.ndarray:
        """What an array gives for the key: rows (a number, slice or array), and the key of other axes."""
        at, *others = key if isinstance(key, tuple) else (key,)
        part: Any = self._part[at]
        row: Any = self._row[at]
        if np.ndim(part) == 0 or len(self._parts) == 1:
            return np.asarray(self._parts[part if np.ndim(part) == 0 else 0][(row, *others)])
        found = np.empty((len(row), *self._parts[0][(slice(0, 0), *others)].shape[1:]), self.dtype)
        for number in np.unique(part):
            here = part == number
            found[here] = self._parts[number][(row[here], *others)]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
