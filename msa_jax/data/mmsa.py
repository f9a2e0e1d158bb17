"""Reads a feature file in the public MMSA layout.

The file is a pickled dict of the splits ``train``, ``valid`` and ``test``, each a dict of N clips:
``id``, ``text`` [N, T, D], ``audio`` [N, T, D], ``vision`` [N, T, D] and ``regression_labels`` [N] are
required; ``raw_text``, ``text_bert`` [N, 3, T] (token ids, mask, segment ids), ``audio_lengths``,
``vision_lengths``, ``regression_labels_T``, ``_A``, ``_V`` and ``classification_labels`` (with the same
endings) are optional. Everything else, ``annotations`` and a top-level ``config`` included, is ignored.
Arrays may have any numeric type, be memory-mapped or masked (what is masked counts as NaN); labels, lengths
and texts may be lists, features lists of arrays, ids whole numbers. Scores of single modalities that are not
all there are left out with a note, and so are class labels that are neither numbers, names nor one-hot rows.

How many steps of a clip are real:

* text: the ones of ``text_bert``'s mask, which must be one run; without ``text_bert`` from the first to
  the last step that is not all zeros.
* audio and vision: as ``audio_lengths`` and ``vision_lengths`` say, at most T. Without either the
  file counts as word-aligned, and a modality with as many steps as the text has the text's real steps;
  otherwise from the first to the last step that is not all zeros, and 1 where there is only one step.

Padding in front is moved behind, together with what is aligned with it: a token mask that begins late,
zeros before the last L steps (:func:`msa_jax.data.padding.front_padding`), and, where lengths are not
stored, zeros in front (but where the token masks show that this file has its padding behind).
With ``data.split=by_group`` a file may also hold one block: the keys of a split at the top level. Of
further keys that one is read which ``data.group`` (``convert --group``) names: N texts or whole numbers.

Splits may differ in T: the shorter ones are padded with zeros to the longest.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.pickle import machine
from msa_jax.data.section import Section
from msa_jax.data.spec import MODALITIES, SPLITS
from msa_jax.errors import DataError

REQUIRED = ("id", *MODALITIES, "regression_labels")


def read(
    path: pathlib.Path, by_transcripts: bool = False, column: str = ""
) -> tuple[dict[str, Split], list[str]]:
    """Reads a feature pickle.

    Features that the file holds as little-endian float32 come as read-only memory maps of it, all
    others as float32 arrays in memory.

    Args:
      path: the file.
      by_transcripts: whether the text's features will be made from the transcripts. ``raw_text`` is
        required then, and ``text`` is not: without it the text has no columns, and the steps of ``text_bert``
        or one.
      column: a further text or whole number per clip to read, of every split; "" for none.

    Returns:
      The splits, and what the reader changed, one sentence each.

    Raises:
      DataError: if the file is missing, damaged or hostile, or its content is not as described above.
    """
    content = machine.load(path)
    if not isinstance(content, dict) or not set(SPLITS) <= set(content):
        found = ", ".join(sorted(map(repr, content))) if isinstance(content, dict) else "no dict"
        advice = "join the parts of your data set under these names"
        if _holds_clips(content):
            advice += ", or divide all clips with data.split=by_group (check-data: --split=by_group)"
        raise DataError(
            f"{path} must hold a dict of the splits 'train', 'valid' and 'test', found {found:.300}; "
            f"{advice}."
        )
    required = tuple("raw_text" if by_transcripts and key == "text" else key for key in REQUIRED)
    return _read(path, {name: content[name] for name in SPLITS}, required, column)


def read_any(
    path: pathlib.Path, column: str = "", needs_text: bool = True
) -> tuple[dict[str, Split], list[str]]:
    """Reads a feature pickle for a division of one's own: any of the three splits, or one block of clips.

    A block is a dict that has the keys of a split, without a split's name around them.

    Args:
      path: the file.
      column: as :func:`read`.
      needs_text: whether text features are required.

    Returns:
      As :func:`read`; a block has the name "".

    Raises:
      DataError: as :func:`read`.
    """
    content = machine.load(path)
    if not _holds_clips(content):
        found = ", ".join(sorted(map(repr, content))) if isinstance(content, dict) else "no dict"
        raise DataError(
            f"{path} must hold the keys {', '.join(REQUIRED)} of some clips, or a dict of splits of such, "
            f"found {found:.300}; save it so."
        )
    sections = {name: content[name] for name in SPLITS if name in content} or {"": content}
    required = tuple(key for key in REQUIRED if needs_text or key != "text")
    splits, notes = _read(path, sections, required, column)
    return splits, [note.lstrip() for note in notes]


def _holds_clips(content: Any) -> bool:
    """Whether there is a split, or a key of one."""
    return isinstance(content, dict) and not {*SPLITS, *REQUIRED}.isdisjoint(content)


def _read(
    path: pathlib.Path, sections: Mapping[str, Any], required: tuple[str, ...], column: str
) -> tuple[dict[str, Split], list[str]]:
    """Splits of one data set, and what was changed."""
    notes: list[str] = []
    splits = {
        name: Section(path, name, section, notes, required, column=column).split()
        for name, section in sections.items()
    }
    return _harmonised(path, splits, notes), notes


def _harmonised(path: pathlib.Path, splits: Mapping[str, Split], notes: list[str]) -> dict[str, Split]:
    """Pads all splits to common lengths, and refuses splits that are not of one data set."""
    first, start = next(iter(splits.items()))
    longest = {m: max(split.values[m].shape[1] for split in splits.values()) for m in MODALITIES}
    classes = set.intersection(*(set(split.classes) for split in splits.values()))
    tasks = set.intersection(*(set(split.labels) for split in splits.values()))
    if tasks != set.union(*(set(split.labels) for split in splits.values())):
        notes.append("not all splits have scores of single modalities, so these are left out.")
    result = {}
    for name, split in splits.items():
        for m in MODALITIES:
            width, expected = split.values[m].shape[2], start.values[m].shape[2]
            if width != expected:
                raise DataError(
                    f"{path}, split {name!r}, key {m!r}: found {width} columns, "
                    f"expected {expected} as in {first!r}; extract all splits alike."
                )
        for what, mine, others in (
            ("'text_bert'", split.tokens is None, start.tokens is None),
            ("'raw_text'", split.raw_text is None, start.raw_text is None),
        ):
            if mine != others:
                raise DataError(
                    f"{path}: the splits {first!r} and {name!r} must both have {what}, or neither."
                )
        values = {m: _padded(v, longest[m], axis=1) for m, v in split.values.items()}
        if any(values[m] is not split.values[m] for m in MODALITIES):
            notes.append(f"{name}: padded to the longest split's steps.")
        tokens = None if split.tokens is None else _padded(split.tokens, longest["text"], axis=2)
        kept = {task: split.classes[task] for task in split.classes if task in classes}
        labels = {task: split.labels[task] for task in split.labels if task in tasks}
        result[name] = dataclasses.replace(split, values=values, labels=labels, tokens=tokens, classes=kept)
    return result


def _padded(array: np.ndarray, steps: int, axis: int) -> np.ndarray:
    if array.shape[axis] == steps:
        return array
    widths = [(0, steps - size if i == axis else 0) for i, size in enumerate(array.shape)]
    return np.pad(array, widths)
