"""The tolerance rule of tests/golden/README.md."""

from collections.abc import Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-5


class Errors:
    """Collects scaled errors: 1 is the tolerance.

    Args:
      arrays: the golden file's arrays by key.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays
        self.scaled: dict[str, float] = {}

    def compare(self, key: str, ours: Any, row_of: str = "") -> None:
        """An output, loss or table: within 1e-5 of the array's largest value.

        Args:
          key: of the file's array.
          ours: the same.
          row_of: the array that it is a row of, whose largest value counts.
        """
        self._add(key, ours, np.abs(self.arrays[row_of or key]).max(initial=0))

    def compare_gradient(self, key: str, ours: Any, theirs: Any) -> None:
        """A gradient: the same, with a floor at 1e-2 of the largest gradient beside it.

        ``theirs`` is the file's array in the layout of ``ours``.
        """
        folder = key[: key.index("grad")]
        beside = [np.abs(a).max() for k, a in self.arrays.items() if k.startswith(f"{folder}grad")]
        self._add(key, ours, max(np.abs(self.arrays[key]).max(), 1e-2 * max(beside)), theirs)

    def compare_exactly(self, key: str, ours: Any, within: float = 1e-9) -> None:
        """A rounded figure."""
        self._add(key, ours, within / TOLERANCE)

    def missing(self, key: str) -> None:
        """Something the file holds and we have nothing for."""
        self.scaled[key] = float("inf")

    def _add(self, key: str, ours: Any, scale: float, theirs: Any = None) -> None:
        theirs = np.asarray(self.arrays[key] if theirs is None else theirs, np.float64)
        ours = np.asarray(ours, np.float64)
        if theirs.shape != ours.shape:
            return self.missing(f"{key} (shape {ours.shape}, not {theirs.shape})")
        same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
        error = np.where(same, 0, np.abs(theirs - ours)).max(initial=0)
        error = error / (TOLERANCE * max(scale, np.finfo(np.float32).tiny))
        self.scaled[key] = float(error) if np.isfinite(error) else float("inf")

    def over(self) -> list[str]:
        """Keys over the tolerance, the worst first."""
        bad = {k: v for k, v in self.scaled.items() if not v <= 1}
        return sorted(bad, key=lambda k: -bad[k])

    def largest(self) -> dict[str, float]:
        """The largest scaled error of each kind (the key up to its first slash, "train/" kept)."""
        kinds: dict[str, float] = {}
        for key, value in self.scaled.items():
            parts = key.split("/")
            kind = "/".join(parts[: 2 if parts[0] in ("train", "stage1") else 1])
            kinds[kind] = max(kinds.get(kind, 0.0), value)
        return kinds
