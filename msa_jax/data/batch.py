"""The one structure that models and objectives read."""

from collections.abc import Mapping

import flax.struct
import jax


@flax.struct.dataclass
class Batch:
    """B clips, padded to common lengths. Any B works, 1 included.

    Attributes:
      values: per modality float [B, T, D]. Padding steps may hold anything, NaN included.
      mask: per modality bool [B, T], True = real step; real steps come first.
      labels: per task float [B] (M, and T, A, V where the data has them).
      index: int [B], the clip's row in its split.
      weight: float [B], 1 for a real clip and 0 for a row that only fills the batch.
      tokens: int [B, 3, T] (token ids, mask, segment ids) where the data has them, else None.
    """

    values: Mapping[str, jax.Array]
    mask: Mapping[str, jax.Array]
    labels: Mapping[str, jax.Array]
    index: jax.Array
    weight: jax.Array
    tokens: jax.Array | None = None
