"""Reads a feature file in the public MMSA layout.

The file is a pickled dict of the splits ``train``, ``valid`` and ``test``, each a dict of N clips:
``id``, ``text`` [N, T, D], ``audio`` [N, T, D], ``vision`` [N, T, D] and ``regression_labels`` [N] are
required; ``raw_text``, ``text_bert`` [N, 3, T] (token ids, mask, segment ids), ``audio_lengths``,
``vision_lengths``, ``regression_labels_T``, ``_A``, ``_V`` and ``classification_labels`` (with the same
endings) are optional. Everything else, ``annotations`` and a top-level ``config`` included, is ignored.
Arrays may have any numeric type; labels, lengths and texts may be lists, features lists of arrays.

How many steps of a clip are real:

* text: the ones of ``text_bert``'s mask, which must be one run; without ``text_bert`` from the first to
  the last step that is not all zeros.
* audio and vision: as ``audio_lengths`` and ``vision_lengths`` say, at most T. Without either the
  file counts as word-aligned, and a modality with as many steps as the text has the text's real steps;
  otherwise from the first to the last step that is not all zeros, and 1 where there is only one step.

Padding in front is moved behind, together with what is aligned with it: a token mask that begins late,
zeros before the last L steps (:func:`msa_jax.data.padding.front_padding`), and, where lengths are not
stored, zeros in front (but where the token masks show that this file has its padding behind).
Splits may differ in T: the shorter ones are padded with zeros to the longest.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.padding import front_padding, moved, used_steps
from msa_jax.data.pickle import machine
from msa_jax.data.pickle.arrays import Latin1, Span, StoredArray
from msa_jax.data.spec import MODALITIES, SPLITS, UNIMODAL_TASKS
from msa_jax.errors import DataError, nearest

REQUIRED = ("id", *MODALITIES, "regression_labels")
#: Endings of the label keys, by task.
_ENDINGS = {"M": "", **{task: f"_{task}" for task in UNIMODAL_TASKS.values()}}
_OPTIONAL = {
    *("raw_text", "text_bert", "audio_lengths", "vision_lengths", "annotations"),
    *(f"{kind}_labels{ending}" for kind in ("regression", "classification") for ending in _ENDINGS.values()),
}
#: A text table may be as large as the file, or this many bytes.
_SMALL_TABLE = 1 << 26


def read(path: pathlib.Path, by_transcripts: bool = False) -> tuple[dict[str, Split], list[str]]:
    """Reads a feature pickle.

    Features that the file holds as little-endian float32 come as read-only memory maps of it, all
    others as float32 arrays in memory.

    Args:
      path: the file.
      by_transcripts: whether the text's features will be made from the transcripts. ``raw_text`` is
        required then, and ``text`` is not: without it the text has no columns, and the steps of ``text_bert``
        or one.

    Returns:
      The splits, and what the reader changed, one sentence each.

    Raises:
      DataError: if the file is missing, damaged or hostile, or its content is not as described above.
    """
    content = machine.load(path)
    if not isinstance(content, dict) or not set(SPLITS) <= set(content):
        found = ", ".join(sorted(map(repr, content))) if isinstance(content, dict) else "no dict"
        raise DataError(
            f"{path} must hold a dict of the splits 'train', 'valid' and 'test', found {found:.300}; "
            "join the parts of your data set under these names."
        )
    notes: list[str] = []
    required = tuple("raw_text" if by_transcripts and key == "text" else key for key in REQUIRED)
    splits = {name: Section(path, name, content[name], notes, required).split() for name in SPLITS}
    return _harmonised(path, splits, notes), notes


class Section:
    """One split of the file, on its way to a :class:`Split`.

    Its name is empty where the file holds nothing else. Without any labels the split has none.
    """

    def __init__(
        self, path: pathlib.Path, name: str, content: Any, notes: list[str], required: tuple[str, ...]
    ):
        self.where = f"{path}, split {name!r}" if name else str(path)
        if not isinstance(content, dict):
            raise DataError(f"{self.where}: found no dict, expected the keys {', '.join(required)}.")
        self.path, self.name, self.content, self.notes = path, name, content, notes
        for key in required:
            if key not in content:
                keys = [k for k in content if isinstance(k, str)]
                found = f"only {', '.join(map(repr, keys)):.300}"
                unknown = [k for k in keys if k not in required and k not in _OPTIONAL]
                raise self.error(key, found, "this key", f"add it.{nearest(key, unknown)}")
        self.ids = self.texts("id")

    def error(self, key: str, found: str, expected: str, advice: str) -> DataError:
        """What to raise where a key does not hold what it should."""
        end = "" if advice.endswith("?") else "."
        found = f"{self.where}, key {key!r}: found {found}"
        return DataError(f"{found}, expected {expected}; {advice.rstrip('.')}{end}")

    def split(self) -> Split:
        """Reads everything; see the module's text for the rules."""
        values = {m: self.table(m, np.float32) if m in self.content else self.no_text() for m in MODALITIES}
        tokens = self.tokens(values["text"].shape[1]) if "text_bert" in self.content else None
        starts, lengths = {}, {}
        if tokens is None:
            starts["text"], lengths["text"] = used_steps(values["text"])
        else:
            starts["text"], lengths["text"] = self.run_of_ones(tokens[:, 1])
            tokens = moved(tokens.transpose(0, 2, 1), starts["text"]).transpose(0, 2, 1)
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
        )

    def front_padding(self, m: str, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Steps of padding in front of clips whose lengths are stored, int32 [N]."""
        starts, undecided = front_padding(values, lengths)
        if undecided:
            self.notes.append(
                f"{self.name} {m}: {undecided} clips begin and end with zeros, so their padding may be in "
                "front or behind; it counts as behind."
            )
        return starts

    def no_text(self) -> np.ndarray:
        """The features [N, T, 0] of a text that has none."""
        steps = self.table("text_bert", np.float32).shape[2] if "text_bert" in self.content else 1
        return np.zeros((len(self.ids), steps, 0), np.float32)

    def table(self, key: str, dtype: type) -> np.ndarray:
        """A numeric array [N, T, D], or a list of N arrays [T, D]."""
        value = self.content[key]
        stacked = isinstance(value, list | tuple)
        parts = value if isinstance(value, list | tuple) else [value]
        expected = f"numbers of shape ({len(self.ids)}, steps, columns)"
        arrays: list[StoredArray] = []
        for part in parts:
            if not isinstance(part, StoredArray) or part.dtype.kind not in "biuf":
                raise self.error(
                    key, _kind(part), expected, "save the features as one NumPy array of numbers"
                )
            if arrays and part.shape != arrays[0].shape:
                raise self.error(
                    key, "clips of unequal shapes", expected, "pad all clips with zeros to one length"
                )
            arrays.append(part)
        shape = arrays[0].shape if arrays else ()
        shape = (len(arrays), *shape) if stacked else shape
        if len(shape) != 3 or shape[0] != len(self.ids) or 0 in shape:
            advice = (
                "every key must have as many clips as 'id'"
                if len(shape) == 3
                else "a single vector is one step"
            )
            raise self.error(key, f"shape {shape}", expected, advice)
        if not stacked:
            return arrays[0].view(dtype)
        if sum(array.nbytes for array in arrays) > self.path.stat().st_size:
            raise self.error(
                key, "the same array again and again", expected, "save every clip's own features"
            )
        table = np.empty(shape, dtype)
        for row, array in zip(table, arrays, strict=True):
            row[:] = array.load(dtype)
        return table

    def numbers(self, key: str) -> np.ndarray:
        """float64 [N], from an array [N] or [N, 1] or a list."""
        value = self.content[key]
        expected = f"{len(self.ids)} numbers, one for every clip"
        if isinstance(value, StoredArray):
            if value.dtype.kind not in "biuf" or value.shape not in ((len(self.ids),), (len(self.ids), 1)):
                raise self.error(key, f"{value.dtype} {value.shape}", expected, "save it as a NumPy array")
            return value.load(np.float64).reshape(-1)
        if not isinstance(value, list | tuple) or len(value) != len(self.ids):
            found = f"{len(value)} values" if isinstance(value, list | tuple) else _kind(value)
            raise self.error(key, found, expected, "every key must have as many clips as 'id'")
        numbers = np.empty(len(value))
        for row, item in enumerate(value):
            if isinstance(item, list | tuple) and len(item) == 1:
                item = item[0]
            if isinstance(item, StoredArray) and item.dtype.kind in "biuf" and item.shape in ((), (1,)):
                item = item.load(np.float64).item()
            if not isinstance(item, float) and not (isinstance(item, int) and abs(item) < 2**63):
                raise self.error(
                    key, f"{_kind(item)} at position {row}", expected, "save it as a NumPy array"
                )
            numbers[row] = item
        return numbers

    def texts(self, key: str) -> np.ndarray:
        """str [N], from an array or list of strings or UTF-8 bytes."""
        value = self.content[key]
        limit = max(self.path.stat().st_size, _SMALL_TABLE)
        advice = "save it as a list of strings"
        if isinstance(value, StoredArray):
            if value.dtype.kind not in "USO" or len(value.shape) != 1:
                raise self.error(key, f"{value.dtype} {value.shape}", "one text for every clip", advice)
            items: Iterable[Any] = value.objects() if value.dtype.kind == "O" else value.load().tolist()
        elif isinstance(value, list | tuple):
            items = value
        else:
            raise self.error(key, _kind(value), "one text for every clip", advice)
        texts, used = [], 0
        for item in items:
            text = _text(item)
            if text is None:
                raise self.error(key, f"{_kind(item)} at position {len(texts)}", "only texts", advice)
            texts.append(text)
            used += len(text)
            if used > limit:
                break
        longest = max(map(len, texts), default=0)
        if used > limit or 4 * longest * len(texts) > limit:
            raise self.error(
                key, f"a text of {longest} characters", "short texts", "shorten it or leave the key out"
            )
        if key == "id" and not texts:
            raise self.error(key, "no clips", "at least one", "put some clips into this split")
        if key != "id" and len(texts) != len(self.ids):
            raise self.error(key, f"{len(texts)} texts", f"{len(self.ids)}, as many as 'id' has", advice)
        return np.array(texts, np.str_)

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
            raise self.error(key, found, "a number of steps", "mend the length")
        if clipped := int((numbers > steps).sum()):
            self.notes.append(f"{self.name} {key}: {clipped} lengths over {steps} steps were cut to {steps}.")
        return np.minimum(numbers, steps).astype(np.int32)

    def labels(self) -> dict[str, np.ndarray]:
        """The scores, float32 [N] per task."""
        present = [task for task, ending in _ENDINGS.items() if f"regression_labels{ending}" in self.content]
        if len(present) not in (0, 1, len(_ENDINGS)):
            missing = ", ".join(f"'regression_labels_{task}'" for task in _ENDINGS if task not in present)
            raise self.error(
                "regression_labels", f"no {missing}", "all of _T, _A and _V or none", "add or drop"
            )
        labels = {}
        for task in present:
            key = f"regression_labels{_ENDINGS[task]}"
            numbers = self.numbers(key)
            for row in np.flatnonzero(~np.isfinite(numbers))[:1]:
                found = f"{numbers[row]} for clip {str(self.ids[row])!r}"
                raise self.error(key, found, "a finite score", "label the clip or leave it out")
            labels[task] = numbers.astype(np.float32)
        return labels

    def classes(self) -> dict[str, np.ndarray]:
        """The class labels, int32 [N] per task; what is not 0, 1 or 2 is left out with a note."""
        classes = {}
        for task, ending in _ENDINGS.items():
            key = f"classification_labels{ending}"
            if key in self.content:
                numbers = self.numbers(key)
                if np.isin(numbers, (0, 1, 2)).all():
                    classes[task] = numbers.astype(np.int32)
                else:
                    self.notes.append(f"{self.name} {key}: not only 0, 1 and 2, and so ignored.")
        return classes


def _kind(value: Any) -> str:
    if isinstance(value, StoredArray):
        return f"an array of {value.dtype}"
    plain = isinstance(value, str | bytes | int | float | dict | list | tuple)
    return f"a value of type {type(value).__name__}" if plain else "something else"


def _text(item: Any) -> str | None:
    """A string of the file, or None where ``item`` is something else."""
    if isinstance(item, StoredArray) and item.shape == () and item.dtype.kind in "US":
        item = item.load().item()
    try:
        if isinstance(item, Latin1):
            item = b"".join(item.pieces())
        if isinstance(item, bytes):
            item = item.decode()
        return item.decode() if isinstance(item, Span) else item if isinstance(item, str) else None
    except UnicodeError:
        return None


def _harmonised(path: pathlib.Path, splits: Mapping[str, Split], notes: list[str]) -> dict[str, Split]:
    """Pads all splits to common lengths, and refuses splits that are not of one data set."""
    train = splits["train"]
    longest = {m: max(split.values[m].shape[1] for split in splits.values()) for m in MODALITIES}
    classes = set.intersection(*(set(split.classes) for split in splits.values()))
    result = {}
    for name, split in splits.items():
        for m in MODALITIES:
            width, expected = split.values[m].shape[2], train.values[m].shape[2]
            if width != expected:
                raise DataError(
                    f"{path}, split {name!r}, key {m!r}: found {width} columns, "
                    f"expected {expected} as in 'train'; extract all splits alike."
                )
        for what, mine, others in (
            ("unimodal labels", set(split.labels), set(train.labels)),
            ("'text_bert'", split.tokens is None, train.tokens is None),
            ("'raw_text'", split.raw_text is None, train.raw_text is None),
        ):
            if mine != others:
                raise DataError(f"{path}: the splits 'train' and {name!r} must both have {what}, or neither.")
        values = {m: _padded(v, longest[m], axis=1) for m, v in split.values.items()}
        if any(values[m] is not split.values[m] for m in MODALITIES):
            notes.append(f"{name}: padded to the longest split's steps.")
        tokens = None if split.tokens is None else _padded(split.tokens, longest["text"], axis=2)
        kept = {task: split.classes[task] for task in split.classes if task in classes}
        result[name] = dataclasses.replace(split, values=values, tokens=tokens, classes=kept)
    return result


def _padded(array: np.ndarray, steps: int, axis: int) -> np.ndarray:
    if array.shape[axis] == steps:
        return array
    widths = [(0, steps - size if i == axis else 0) for i, size in enumerate(array.shape)]
    return np.pad(array, widths)
