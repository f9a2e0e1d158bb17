"""The values under the keys of one split of a feature file, as arrays of as many clips as it has.

Every key that does not hold what it should is one sentence: where, what was found, what was expected,
what to do.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_jax.data.pickle.arrays import Latin1, OldText, Span, StoredArray
from msa_jax.data.pickle.names import Foreign
from msa_jax.errors import DataError, nearest

#: A text table may be as large as the file, or this many bytes.
_SMALL_TABLE = 1 << 26
#: As many classes a row of zeros and a single one may stand for.
_MOST_COLUMNS = 100
#: What to do with objects that we do not make, by their package.
_WAYS_OUT = {
    "pandas": "save its values as a NumPy array (.to_numpy())",
    "pathlib": "save each path as text (str(path))",
    "datetime": "save each date as text (str(date))",
}


class Fields:
    """One split of the file; a split's name is empty where the file holds nothing else.

    Args:
      path: the file.
      name: of the split.
      content: a dict, or whatever stands in its place.
      required: keys that must be there.
      optional: keys that may be there.

    Raises:
      DataError: if there is no dict, or a required key is missing.
    """

    def __init__(
        self, path: pathlib.Path, name: str, content: Any, required: Sequence[str], optional: Sequence[str]
    ):
        self.where = f"{path}, split {name!r}" if name else str(path)
        if not isinstance(content, dict):
            raise DataError(f"{self.where}: found no dict, expected the keys {', '.join(required)}.")
        self.path, self.name, self.content = path, name, content
        for key in required:
            if key not in content:
                keys = [k for k in content if isinstance(k, str)]
                found = f"only {', '.join(map(repr, keys)):.300}"
                unknown = [k for k in keys if k not in (*required, *optional)]
                raise self.error(key, found, "this key", f"add it.{nearest(key, unknown)}")
        self.ids = self.texts("id", numbers=True)

    def error(self, key: str, found: str, expected: str, advice: str) -> DataError:
        """What to raise where a key does not hold what it should."""
        end = "" if advice.endswith("?") else "."
        found = f"{self.where}, key {key!r}: found {found}"
        return DataError(f"{found}, expected {expected}; {advice.rstrip('.')}{end}")

    def wrong(
        self, key: str, value: Any, expected: str, advice: str, position: int | None = None
    ) -> DataError:
        """What to raise where a key holds a value of another kind, perhaps at a position of a list."""
        at = "" if position is None else f" at position {position}"
        if isinstance(value, Foreign):
            advice = _WAYS_OUT.get(value.name.partition(".")[0], advice)
        return self.error(key, f"{_kind(value)}{at}", expected, advice)

    def table(self, key: str, dtype: type) -> np.ndarray:
        """A numeric array [N, T, D], from one array or a list of N arrays [T, D]."""
        value: Any = self.content[key]
        if isinstance(value, StoredArray) and value.dtype.kind == "O" and len(value.shape) == 1:
            value = value.objects()
        stacked = isinstance(value, list | tuple)
        parts = value if isinstance(value, list | tuple) else [value]
        expected = f"numbers of shape ({len(self.ids)}, steps, columns)"
        arrays: list[StoredArray] = []
        for part in parts:
            if not isinstance(part, StoredArray) or part.dtype.kind not in "biuf":
                raise self.wrong(key, part, expected, "save the features as one NumPy array of numbers")
            if arrays and part.shape != arrays[0].shape:
                advice = "pad all clips with zeros to one length"
                raise self.error(key, "clips of unequal shapes", expected, advice)
            arrays.append(part)
        shape = arrays[0].shape if arrays else ()
        shape = (len(arrays), *shape) if stacked else shape
        if len(shape) != 3 or shape[0] != len(self.ids) or 0 in shape:
            many, single = "every key must have as many clips as 'id'", "a single vector is one step"
            raise self.error(key, f"shape {shape}", expected, many if len(shape) == 3 else single)
        if not stacked:
            return arrays[0].view(dtype)
        if sum(array.nbytes for array in arrays) > self.path.stat().st_size:
            advice = "save every clip's own features"
            raise self.error(key, "the same array again and again", expected, advice)
        table = np.empty(shape, dtype)
        for row, array in zip(table, arrays, strict=True):
            row[:] = array.load(dtype)
        return table

    def numbers(self, key: str) -> np.ndarray:
        """float64 [N], from an array or list of N numbers; each may stand alone in further axes."""
        value = self.content[key]
        count = len(self.ids)
        expected = f"{count} numbers, one for every clip"
        if isinstance(value, StoredArray):
            found = f"{value.dtype} {value.shape}"
            if value.dtype.kind not in "biufO":
                raise self.error(key, found, expected, "save it as a NumPy array of numbers")
            if value.shape[:1] != (count,) or math.prod(value.shape[1:]) != 1:
                many = value.shape[:1] == (count,)
                advice = "keep one number a clip" if many else "every key must have as many clips as 'id'"
                raise self.error(key, found, expected, advice)
            if value.dtype.kind != "O":
                return value.load(np.float64).reshape(-1)
            value = value.objects()
        if not isinstance(value, list | tuple):
            raise self.wrong(key, value, expected, "save it as a NumPy array")
        if len(value) != count:
            raise self.error(
                key, f"{len(value)} values", expected, "every key must have as many clips as 'id'"
            )
        numbers = np.empty(count)
        for row, item in enumerate(value):
            number = _number(item)
            if number is None:
                raise self.wrong(key, item, expected, "save it as a NumPy array of numbers", row)
            numbers[row] = number
        return numbers

    def texts(self, key: str, numbers: bool = False) -> np.ndarray:
        """str [N], from an array or list of strings or UTF-8 bytes, or of whole ``numbers``."""
        value = self.content[key]
        limit = max(self.path.stat().st_size, _SMALL_TABLE)
        expected, advice = "one text for every clip", "save it as a list of strings"
        if numbers and key != "id":
            expected = "one text or whole number for every clip"
        if isinstance(value, StoredArray):
            kinds = "USOiu" if numbers else "USO"
            if value.dtype.kind not in kinds or len(value.shape) != 1:
                raise self.error(key, f"{value.dtype} {value.shape}", expected, advice)
            value = value.objects() if value.dtype.kind == "O" else value.load().tolist()
        elif not isinstance(value, list | tuple):
            raise self.wrong(key, value, expected, advice)
        texts, used = [], 0
        for item in value:
            text = _whole(item) if numbers else None
            text = _text(item) if text is None else text
            if text is None:
                raise self.wrong(key, item, "only texts", advice, len(texts))
            texts.append(text)
            used += len(text)
            if used > limit:
                break
        longest = max(map(len, texts), default=0)
        if used > limit or 4 * longest * len(texts) > limit:
            found = f"a text of {longest} characters"
            raise self.error(key, found, "short texts", "shorten it or leave the key out")
        if key == "id" and not texts:
            raise self.error(key, "no clips", "at least one", "put some clips into this split")
        if key != "id" and len(texts) != len(self.ids):
            raise self.error(key, f"{len(texts)} texts", f"{len(self.ids)}, as many as 'id' has", advice)
        return np.array(texts, np.str_)

    def class_labels(self, key: str) -> np.ndarray | None:
        """Class numbers, int32 [N], or names, str [N]; None where the key holds nothing of the kind.

        Rows of zeros and a single one ([N, K]) are the numbers of the ones.
        """
        value, count = self.content[key], len(self.ids)
        try:
            if isinstance(value, StoredArray) and value.dtype.kind in "US":
                return self.texts(key)
            numbers = _ones(value, count)
            if numbers is None:
                first = value.objects() if isinstance(value, StoredArray) else value
                named = isinstance(first, list | tuple) and first and _text(first[0]) is not None
                numbers = self.texts(key) if named else self.numbers(key)
        except DataError:
            if _length(value) not in (None, count):
                raise
            return None
        if numbers.dtype.kind == "U":
            return numbers
        whole = np.isfinite(numbers) & (numbers >= 0) & (numbers < 2**31) & (numbers == np.floor(numbers))
        return numbers.astype(np.int32) if whole.all() else None


def _length(value: Any) -> int | None:
    """How many values there are, where they can be counted."""
    if isinstance(value, StoredArray):
        return value.shape[0] if value.shape else None
    return len(value) if isinstance(value, list | tuple) else None


def _ones(value: Any, count: int) -> np.ndarray | None:
    """Where the one of each row is, float64 [N], of an array [N, K] or N rows of K numbers with K over 1.

    NaN for a row that is not one 1 among zeros; None for values of any other form.
    """
    if isinstance(value, StoredArray):
        wide = len(value.shape) == 2 and value.shape[0] == count and value.shape[1] > 1
        if not wide or value.dtype.kind not in "biuf":
            return None
        rows: Any = value.load(np.float64)
    elif isinstance(value, list | tuple) and len(value) == count:
        rows = value
    else:
        return None
    places, width = np.empty(count), None
    for number, item in enumerate(rows):
        row = _row(item)
        if row is None or len(row) != (width or len(row)):
            return None
        width = len(row)
        ones = [place for place, x in enumerate(row) if x == 1]
        places[number] = ones[0] if len(ones) == 1 and sum(x != 0 for x in row) == 1 else np.nan
    return places


def _row(item: Any) -> Sequence[float] | None:
    """A short row of numbers; None where ``item`` is something else."""
    if isinstance(item, StoredArray):
        short = len(item.shape) == 1 and item.dtype.kind in "biuf" and item.shape[0] <= _MOST_COLUMNS
        item = item.load(np.float64) if short else None
    if isinstance(item, np.ndarray):
        item = item.tolist() if len(item) <= _MOST_COLUMNS else None
    if not isinstance(item, list | tuple) or not 1 < len(item) <= _MOST_COLUMNS:
        return None
    return item if all(isinstance(x, int | float) for x in item) else None


def _number(item: Any) -> float | None:
    """A number of the file, or the one number of a list or array; None where ``item`` is something else."""
    for _ in range(2):  # a file may hold a list that holds itself
        if isinstance(item, list | tuple) and len(item) == 1:
            item = item[0]
    if isinstance(item, StoredArray) and item.dtype.kind in "biuf" and math.prod(item.shape) == 1:
        return float(item.load(np.float64).reshape(()))
    if isinstance(item, int):
        return float(item) if abs(item) < 2**63 else None
    return item if isinstance(item, float) else None


def _whole(item: Any) -> str | None:
    """A whole number as text, or None where ``item`` is something else."""
    if isinstance(item, StoredArray) and item.shape == () and item.dtype.kind in "iu":
        item = item.load().item()
    return str(item) if type(item) is int and abs(item) < 2**63 else None


def _kind(value: Any) -> str:
    if isinstance(value, StoredArray):
        return f"an array of {value.dtype}"
    if isinstance(value, Foreign):
        return f"a {value.name.partition('.')[0]} object ({value.name.rpartition('.')[2]})"
    if isinstance(value, OldText | Span | Latin1):
        return "a text"
    plain = isinstance(value, str | bytes | int | float | dict | list | tuple)
    return f"a value of type {type(value).__name__}" if plain else "something else"


def _text(item: Any) -> str | None:
    """A string of the file, or None where ``item`` is something else."""
    if isinstance(item, StoredArray) and item.shape == () and item.dtype.kind in "US":
        item = item.load().item()
    try:
        if isinstance(item, Latin1):
            item = b"".join(item.pieces())
        if isinstance(item, OldText):
            return item.text()
        if isinstance(item, bytes):
            item = item.decode()
        return item.decode() if isinstance(item, Span) else item if isinstance(item, str) else None
    except UnicodeError:
        return None
