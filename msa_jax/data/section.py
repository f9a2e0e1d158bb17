"""One split of a feature file, read by the rules of :mod:`msa_jax.data.mmsa`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.padding import front_padding, moved, used_steps
from msa_jax.data.spec import MODALITIES, UNIMODAL_TASKS
from msa_jax.data.split_keys import Fields
from msa_jax.errors import nearest

#: Endings of the label keys, by task.
_ENDINGS = {"M": "", **{task: f"_{task}" for task in UNIMODAL_TASKS.values()}}
_OPTIONAL = (
    *("raw_text", "text_bert", "audio_lengths", "vision_lengths", "annotations"),
    *(f"{kind}_labels{ending}" for kind in ("regression", "classification") for ending in _ENDINGS.values()),
)


class Section(Fields):
    """One split of the file, on its way to a :class:`Split`. Without any labels the split has none.

    Args:
      path: the file.
      name: of the split; empty where the file holds nothing else.
      content: a dict, or whatever stands in its place.
      notes: takes what is changed, one sentence each.
      required: keys that must be there.
      silent: modalities of which the clips have no step; their tables hold one of zeros.
      absent: columns of the modalities that may be missing; clips then have no step of them.
      column: a further text or whole number per clip to read, the key of a speaker, say; "" for none.

    Raises:
      DataError: if there is no dict, or a required key is missing.
    """

    def __init__(
        self,
        path: pathlib.Path,
        name: str,
        content: Any,
        notes: list[str],
        required: Sequence[str],
        silent: Sequence[str] = (),
        absent: Mapping[str, int] | None = None,
        column: str = "",
    ):
        given = content if isinstance(content, dict) else {}
        self.absent = {m: width for m, width in (absent or {}).items() if m not in given}
        needed = (*(key for key in required if key not in self.absent), *filter(None, [column]))
        super().__init__(path, name, content, needed, (*_OPTIONAL, *(absent or ())))
        for m in self.absent:
            self.require_no_misspelling(m)
        self.notes, self.silent, self.column = notes, (*silent, *self.absent), column

    def split(self) -> Split:
        """Reads everything."""
        values = {m: self.features(m) for m in MODALITIES}
        tokens = self.tokens(values["text"].shape[1]) if "text_bert" in self.content else None
        starts, lengths = self.real_steps(values, tokens)
        if tokens is not None:
            tokens = moved(tokens.transpose(0, 2, 1), starts["text"]).transpose(0, 2, 1)
        for m in MODALITIES:
            if late := int((starts[m] > 0).sum()):
                self.notes.append(f"{self.name} {m}: the padding in front of {late} clips was moved behind.")
                values[m] = moved(values[m], starts[m])
        return Split(
            ids=self.ids,
            values=values,
            lengths=lengths,
            labels=self.labels(),
            classes=self.classes(),
            tokens=tokens,
            raw_text=self.texts("raw_text") if "raw_text" in self.content else None,
            clip_columns={self.column: self.texts(self.column, numbers=True)} if self.column else {},
        )

    def real_steps(
        self, values: dict[str, np.ndarray], tokens: np.ndarray | None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Where the real steps of every clip begin, and how many there are, int32 [N] by modality."""
        starts, lengths = {}, {}
        if tokens is None:
            starts["text"], lengths["text"] = used_steps(values["text"])
        else:
            starts["text"], lengths["text"] = self.run_of_ones(tokens[:, 1])
        behind = tokens is not None and not starts["text"].any() and not tokens[:, 1].all()
        aligned = not {"audio_lengths", "vision_lengths"} & set(self.content)
        for m in ("audio", "vision"):
            if f"{m}_lengths" in self.content:
                lengths[m] = self.lengths(f"{m}_lengths", values[m].shape[1])
                starts[m] = self.front_padding(m, values[m], lengths[m])
            elif aligned and values[m].shape[1] == values["text"].shape[1]:
                starts[m], lengths[m] = starts["text"], lengths["text"]
            else:
                starts[m], lengths[m] = used_steps(values[m], behind)
        for m in self.silent:
            starts[m] = lengths[m] = np.zeros(len(self.ids), np.int32)
        return starts, lengths

    def front_padding(self, m: str, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Steps of padding in front of clips whose lengths are stored, int32 [N]."""
        starts, undecided = front_padding(values, lengths)
        if undecided:
            self.notes.append(
                f"{self.name} {m}: {undecided} clips begin and end with zeros, so their padding may be in "
                "front or behind; it counts as behind."
            )
        return starts

    def features(self, m: str) -> np.ndarray:
        """A modality's features, float32 [N, T, D]."""
        if m in self.content:
            return self.table(m, np.float32)
        if m in self.absent:
            return np.zeros((len(self.ids), 1, self.absent[m]), np.float32)
        return self.no_text()

    def require_no_misspelling(self, m: str) -> None:
        """Refuses a key that reads like a modality which may be missing."""
        known = (*MODALITIES, *_OPTIONAL, "id")
        if guess := nearest(m, [k for k in self.content if isinstance(k, str) and k not in known]):
            raise self.error(m, "no such key", "it, or none that reads like it", f"correct it.{guess}")

    def no_text(self) -> np.ndarray:
        """The features [N, T, 0] of a text that has none."""
        steps = self.table("text_bert", np.float32).shape[2] if "text_bert" in self.content else 1
        return np.zeros((len(self.ids), steps, 0), np.float32)

    def tokens(self, steps: int) -> np.ndarray:
        """``text_bert`` as int32 [N, 3, T]."""
        tokens = self.table("text_bert", np.float64)
        if tokens.shape[1:] != (3, steps):
            found, expected = (
                f"shape {tokens.shape}",
                f"shape ({len(self.ids)}, 3, {steps}), with the steps of 'text'",
            )
            raise self.error(
                "text_bert", found, expected, "leave the key out if it belongs to other features"
            )
        whole = (tokens >= 0) & (tokens < 2**31) & (tokens == np.floor(tokens))
        if not (whole.all() and (tokens[:, 1] <= 1).all()):
            expected = "token ids, a mask of 0 and 1, and segment ids on axis 1"
            raise self.error("text_bert", "other numbers", expected, "put them into this order")
        return tokens.astype(np.int32)

    def run_of_ones(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the ones of every mask row [N, T] begin, and how many there are."""
        starts, counts = mask.argmax(1), mask.sum(1)
        steps = np.arange(mask.shape[1])
        run = (steps >= starts[:, None]) & (steps < (starts + counts)[:, None])
        for row in np.flatnonzero((run != mask).any(1))[:1]:
            found = f"holes in the mask of clip {str(self.ids[row])!r}"
            raise self.error("text_bert", found, "one run of ones", "tokenize that clip again")
        return starts.astype(np.int32), counts.astype(np.int32)

    def lengths(self, key: str, steps: int) -> np.ndarray:
        """Stored lengths as int32 [N], clipped to the steps that there are."""
        numbers = self.numbers(key)
        wrong = ~(np.isfinite(numbers) & (numbers >= 0) & (numbers == np.floor(numbers)))
        for row in np.flatnonzero(wrong)[:1]:
            found = f"{numbers[row]} for clip {str(self.ids[row])!r}"
            raise self.error(key, found, "a number of steps", "correct the length")
        if clipped := int((numbers > steps).sum()):
            self.notes.append(f"{self.name} {key}: {clipped} lengths over {steps} steps were cut to {steps}.")
        return np.minimum(numbers, steps).astype(np.int32)

    def labels(self) -> dict[str, np.ndarray]:
        """The scores, float32 [N] per task; those of single modalities only where all three are whole."""
        present = [task for task, ending in _ENDINGS.items() if f"regression_labels{ending}" in self.content]
        labels = {}
        for task in present:
            numbers = self.numbers(f"regression_labels{_ENDINGS[task]}")
            bad = np.flatnonzero(~np.isfinite(numbers))
            if len(bad) and task == "M":
                found = f"{numbers[bad[0]]} for clip {str(self.ids[bad[0]])!r}"
                advice = "label the clip or leave it out"
                raise self.error("regression_labels", found, "a finite score", advice)
            if not len(bad):
                labels[task] = numbers.astype(np.float32)
        if len(labels) not in (0, 1, len(_ENDINGS)):
            lacking = ", ".join(f"regression_labels_{task}" for task in _ENDINGS if task not in labels)
            self.notes.append(
                f"{self.name}: {lacking} are missing or not finite, so the scores of single modalities are "
                "left out."
            )
        return labels if len(labels) == len(_ENDINGS) else {t: y for t, y in labels.items() if t == "M"}

    def classes(self) -> dict[str, np.ndarray]:
        """The class labels, int32 or str [N] per task; what is none of that is left out with a note."""
        classes = {}
        for task, ending in _ENDINGS.items():
            key = f"classification_labels{ending}"
            if key in self.content:
                found = self.class_labels(key)
                if found is None:
                    self.notes.append(
                        f"{self.name} {key}: neither class numbers (0, 1, 2, ...), names nor rows with a "
                        "single one, and so ignored."
                    )
                else:
                    classes[task] = found
        return classes
