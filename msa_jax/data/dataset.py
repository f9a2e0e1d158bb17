"""A data set in memory or on disk: three splits and their description."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from msa_jax.data.spec import DatasetSpec


@dataclasses.dataclass(frozen=True)
class Split:
    """The N clips of one split, as stored: nothing is cleaned, scaled or cut here.

    Attributes:
      ids: str [N], as in the file.
      values: per modality float32 [N, T, D], arrays, read-only memory maps, or rows of such
        (:class:`msa_jax.data.rows.Rows`). May hold NaN or
        infinities, and anything past a clip's length (see :mod:`msa_jax.data.clean`).
      lengths: per modality int32 [N], real steps, 0 to T.
      labels: per task float32 [N].
      classes: per task int32 [N] class labels, where the file has them; what the numbers mean, the
        description's ``class_names`` say. Of a split fresh from a file they may be texts.
      tokens: int32 [N, 3, T] or None: ids, mask, segment ids. What a model reads may have more steps than its
        text, where utterances before a clip stand behind its own (:mod:`msa_jax.data.context`).
      raw_text: str [N] or None.
      clip_columns: further texts per clip, str [N] by name, such as "speaker"; those alone that were asked
        for.
      media: str [N], the absolute path of each clip's file as ``msa-jax extract`` read it, or None. It may
        be gone, and a store that somebody changed may name anything.
    """

    ids: np.ndarray
    values: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    classes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    tokens: np.ndarray | None = None
    raw_text: np.ndarray | None = None
    clip_columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    media: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits with one description.

    Attributes:
      spec: what the data set is; its feature statistics are fitted.
      splits: "train", "valid", "test".
      notes: what a reader should know (non-finite values, clipped lengths), one sentence each.
      best_reachable: for generated data the best scores that any model can expect on the test
        split, by metric name; empty for real data.
    """

    spec: DatasetSpec
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    best_reachable: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def only(self, splits: Sequence[str]) -> "Dataset":
        """The data set with these splits alone; without the test split also without what is best on it."""
        best = self.best_reachable if "test" in splits else {}
        chosen = {name: self.splits[name] for name in splits}
        return dataclasses.replace(self, splits=chosen, best_reachable=best)
