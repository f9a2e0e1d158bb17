"""Clips that somebody holds as plain arrays, as a split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError


def split_of(
    features: Mapping[str, Any],
    text_bert: Any = None,
    raw_text: Sequence[str] | str | None = None,
    ids: Sequence[str] | None = None,
    absent: Mapping[str, int] | None = None,
) -> Split:
    """Plain arrays to a split without labels.

    Args:
      features: "text", "audio" and "vision", each [T, D] for one clip, [N, T, D] where every step is real,
        or a list of N arrays [T, D] of any lengths; a modality that is missing or None is told apart
        from one without steps, [0, D].
      text_bert: token ids, mask and segment ids in place of text, [3, T], [N, 3, T] or a list of [3, T].
      raw_text: N transcripts, or one, in place of text.
      ids: N names; by default the clips' numbers.
      absent: columns of the modalities that may be missing, as a whole or, with None in a list, of a clip.

    Raises:
      DataError: if something is no table of numbers, or the counts or widths differ.
    """
    absent = absent or {}
    tables = {
        m: _tables(m, _without_gaps(features[m], absent.get(m)))
        for m in MODALITIES
        if features.get(m) is not None
    }
    tokens = None if text_bert is None else _tables("text_bert", text_bert)
    texts = [raw_text] if isinstance(raw_text, str) else raw_text
    counts = {name: len(found) for name, found in tables.items()}
    counts |= {"text_bert": len(tokens)} if tokens is not None else {}
    counts |= {"raw_text": len(texts)} if texts is not None else {}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
        raise DataError(f"every modality needs the same number of clips; found {found}.")
    count = next(iter(counts.values()))
    for m in absent:
        if m not in tables and (m != "text" or (tokens is None and texts is None)):
            tables[m] = [np.zeros((0, absent[m]), np.float32)] * count
    if "text" not in tables:
        if tokens is None and texts is None:
            raise DataError("text is missing: give text features, text_bert (token ids) or raw_text.")
        steps = [table.shape[1] for table in tokens] if tokens is not None else [1] * count
        tables["text"] = [np.zeros((n, 0), np.float32) for n in steps]
    for m in MODALITIES:
        if m not in tables:
            raise DataError(f"{m} is missing: give {m}=, one array of steps and columns for every clip.")
    if ids is not None and len(ids) != count:
        raise DataError(f"there are {len(ids)} ids for {count} clips; give one for each.")
    padded = {m: _padded(found, axis=0) for m, found in tables.items()}
    lengths = {m: np.array([len(table) for table in found], np.int32) for m, found in tables.items()}
    made = None
    if tokens is not None:
        made = _padded(tokens, axis=1).astype(np.int32)
        lengths["text"] = made[:, 1].sum(axis=1, dtype=np.int32)
    names = np.array(ids if ids is not None else np.arange(count), np.str_)
    written = None if texts is None else np.array(texts, np.str_)
    return Split(names, padded, lengths, {}, tokens=made, raw_text=written)


def _without_gaps(given: Any, width: int | None) -> Any:
    """A list of tables with [0, D] for each None."""
    if width is None or not isinstance(given, list | tuple):
        return given
    return [np.zeros((0, width), np.float32) if table is None else table for table in given]


def _tables(name: str, given: Any) -> list[np.ndarray]:
    """One array of two axes for each clip."""
    expected = "token ids, mask and segment ids [3, T]" if name == "text_bert" else "steps and columns [T, D]"
    one = not isinstance(given, list | tuple)
    try:
        whole = [np.asarray(given)] if one else [np.asarray(table) for table in given]
        tables = list(whole[0]) if one and whole[0].ndim == 3 else whole
        found = [np.asarray(table, np.float32) for table in tables]
    except (TypeError, ValueError):
        raise DataError(f"{name} does not hold numbers; give {expected} for every clip.") from None
    for number, table in enumerate(found):
        wrong = table.ndim != 2 or (name == "text_bert" and table.shape[0] != 3)
        if wrong or (name != "text_bert" and table.shape[1:] != found[0].shape[1:]):
            raise DataError(
                f"clip {number} of {name} has the shape {table.shape}; give {expected}, as many columns for "
                "every clip, one array or a list of arrays."
            )
    if not found:
        raise DataError(f"{name} holds no clips.")
    return found


def _padded(tables: list[np.ndarray], axis: int) -> np.ndarray:
    """[N, ...] with zeros behind the shorter ones along an axis of theirs, at least one step."""
    steps = max(1, *(table.shape[axis] for table in tables)) if tables else 1
    made = np.zeros((len(tables), *(steps if i == axis else n for i, n in enumerate(tables[0].shape))))
    made = made.astype(np.float32)
    for row, table in zip(made, tables, strict=True):
        row[tuple(slice(n) for n in table.shape)] = table
    return made
