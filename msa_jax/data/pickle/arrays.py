"""NumPy arrays that still lie in a pickle: described, not read.

A file may say the same long string a million times in a few bytes each, so nothing here is copied
until :class:`StoredArray` is asked for numbers, and then some MB at a time.
"""

import codecs
import dataclasses
import math
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from msa_jax.errors import DataError

_PIECE = 1 << 20


class Broken(Exception):
    """The file is not a pickle of the kind that we read; the text says why."""


class OldText(bytes):
    """A string of Python 2: bytes, which may be meant as text."""

    def text(self) -> str:
        """As UTF-8, or as Latin-1 where it is not that."""
        try:
            return self.decode()
        except UnicodeError:
            return self.decode("latin-1")


def as_text(value: Any) -> Any:
    """A string of Python 2 as text; all else as it is."""
    return value.text() if isinstance(value, OldText) else value


@dataclasses.dataclass(frozen=True, slots=True)  # no tuple, which a list of clips may be
class Span:
    """A long string that stays in the file: UTF-8 text where ``text`` is set, else bytes.

    Where ``old`` is set it is a string of Python 2 (see :class:`OldText`).
    """

    path: pathlib.Path
    start: int
    size: int
    text: bool
    old: bool = False

    def pieces(self) -> Iterator[bytes]:
        """Yields the stored bytes, some MB at a time."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            for first in range(0, self.size, _PIECE):
                yield file.read(min(_PIECE, self.size - first))

    def decode(self) -> str:
        """The whole string; bytes are taken for UTF-8 too."""
        if self.old:
            return OldText(b"".join(self.pieces())).text()
        return b"".join(self.pieces()).decode("utf-8", "surrogatepass")


@dataclasses.dataclass(frozen=True, slots=True)
class Latin1:
    """Bytes that protocol 2 wrote as text, one character a byte."""

    text: str | Span

    def pieces(self) -> Iterator[bytes]:
        """Yields the bytes that were meant."""
        if isinstance(self.text, str):
            yield self.text.encode("latin-1")
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        for piece in self.text.pieces():
            yield decoder.decode(piece).encode("latin-1")
        decoder.decode(b"", final=True)


class Dtype:
    """What the file says of an element type; its byte order comes in a later instruction.

    Dates, complex numbers and records are known by their size only, so that an array of them can be
    passed over.
    """

    _CODES = re.compile(r"b1|[iuf](1|2|4|8)|[SUV][1-9]\d{0,6}|O8?|[mM]8|c(8|16)", re.ASCII)

    def __init__(self, code: Any):
        code = as_text(code)
        if not (isinstance(code, str) and self._CODES.fullmatch(code)):
            raise Broken("an array's elements are neither numbers nor strings")
        self.dtype = np.dtype("O" if code[0] == "O" else code)

    def build(self, state: Any) -> None:
        """Takes the state that NumPy writes: version, byte order, then three None for plain types."""
        orders = ("<", ">", "|", "=")
        if not (isinstance(state, tuple) and len(state) >= 5 and as_text(state[1]) in orders):
            raise Broken("an array's element type is described in an unknown way")
        if self.dtype.kind == "V":
            return
        if any(part is not None for part in state[2:5]):
            raise Broken("an array has named fields or sub-arrays; features must be plain numbers")
        self.dtype = self.dtype.newbyteorder(as_text(state[1]))


class StoredArray:
    """A NumPy array in the file, read when asked for. A NumPy scalar is one of shape ``()``.

    Attributes:
      shape: as NumPy would give it.
      dtype: as stored; the byte order may differ from the machine's.
    """

    def __init__(self, path: pathlib.Path):
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype(np.float32)
        self._path = path
        self._content: Any = b""
        self._axes: tuple[int, ...] = (0,)
        self._stored_shape: tuple[int, ...] = (0,)

    @classmethod
    def zeros(cls, path: pathlib.Path, shape: tuple[int, ...]) -> "StoredArray":
        """A float32 array of zeros, in place of one that the file lacks."""
        array = cls(path)
        array.fill(shape, Dtype("f4"), bytes(4 * math.prod(shape)))
        return array

    def fill(self, shape: Any, dtype: Any, content: Any, axes: Any = None) -> None:
        """Says what the array is.

        Args:
          shape: of the data as they lie in the file, last axis fastest.
          dtype: a :class:`Dtype`.
          content: bytes, :class:`Span` or :class:`Latin1`; for an object array a list.
          axes: which stored axis each axis of the array is; None where they are the same.

        Raises:
          Broken: if these do not go together.
        """
        sizes = _small_numbers(shape)
        order = tuple(range(len(sizes))) if axes is None else _small_numbers(axes)
        if sorted(order) != list(range(len(sizes))):
            raise Broken("an array's axes are in an impossible order")
        if not isinstance(dtype, Dtype):
            raise Broken("an array has no element type")
        if not _fits(content, dtype.dtype, math.prod(sizes)):
            raise Broken("an array's data do not fit its shape and element type")
        self.shape, self.dtype = tuple(sizes[axis] for axis in order), dtype.dtype
        self._stored_shape, self._axes, self._content = sizes, order, content

    def fill_fortran(self, shape: Any, dtype: Any, content: Any) -> None:
        """The same for an array whose first axis is the fastest."""
        sizes = _small_numbers(shape)[::-1]
        self.fill(sizes, dtype, content, tuple(range(len(sizes)))[::-1])

    def build(self, state: Any) -> None:
        """Takes the state that NumPy writes: version, shape, element type, Fortran order, data."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise Broken("an array is described in an unknown way")
        _, shape, dtype, fortran, content = state
        (self.fill_fortran if fortran else self.fill)(shape, dtype, content)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, as stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    def objects(self) -> list[Any]:
        """The elements of an object array, flat; whoever asks checks what they are."""
        return list(self._content) if self.dtype.kind == "O" else []

    def load(self, dtype: np.dtype | type | None = None) -> np.ndarray:
        """The array in memory, cast to ``dtype``, read some MB at a time.

        Raises:
          DataError: if it is an object array, or its data end early or cannot be read.
        """
        if self.dtype.kind == "O":
            raise DataError(f"{self._path}: an array holds Python objects where numbers are expected.")
        flat = np.empty(math.prod(self.shape), self.dtype.newbyteorder("=") if dtype is None else dtype)
        pieces = [self._content] if isinstance(self._content, bytes) else self._content.pieces()
        size, at, rest = self.dtype.itemsize, 0, b""
        try:
            # A float64 beyond float32's range becomes infinite, and is counted and reported as such.
            with np.errstate(over="ignore", invalid="ignore"):
                for piece in pieces:
                    data = rest + piece
                    count = len(data) // size
                    flat[at : at + count] = np.frombuffer(data, self.dtype, count)
                    at, rest = at + count, data[count * size :]
        except (OSError, ValueError) as error:
            raise DataError(f"{self._path}: an array cannot be read ({error}).") from error
        if at != len(flat) or rest:
            raise DataError(f"{self._path}: an array's data end early; the file is damaged, get it again.")
        if not readable(flat):
            raise DataError(f"{self._path}: an array of texts holds characters that do not exist.")
        return flat.reshape(self._stored_shape).transpose(self._axes)

    def view(self, dtype: np.dtype | type) -> np.ndarray:
        """The array as ``dtype``: a read-only memory map where the file holds exactly that, else loaded.

        Raises:
          DataError: as :meth:`load`.
        """
        if self.dtype != np.dtype(dtype) or not isinstance(self._content, Span):
            return self.load(dtype)
        try:
            mapped = np.memmap(self._path, self.dtype, "r", self._content.start, self._stored_shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self._path}: an array cannot be read ({error}).") from error
        return mapped.transpose(self._axes)


class MaskedArray(StoredArray):
    """A masked array; what is masked counts as NaN."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        self._mask = StoredArray(path)

    def build(self, state: Any) -> None:
        """Takes the state that NumPy writes: an array's, then the mask's data and a fill value."""
        if not (isinstance(state, tuple) and len(state) == 7):
            raise Broken("a masked array is described in an unknown way")
        super().build(state[:5])
        self._mask.build((*state[:2], Dtype("b1"), state[3], state[5]))

    def objects(self) -> list[Any]:
        """The elements of an object array, flat; None where masked."""
        hidden = self._mask.load().reshape(-1)
        return [None if mask else item for item, mask in zip(super().objects(), hidden, strict=False)]

    def load(self, dtype: np.dtype | type | None = None) -> np.ndarray:
        """The array in memory, as :meth:`StoredArray.load` gives it, NaN where masked.

        Raises:
          DataError: if something is masked that can't be NaN.
        """
        array, hidden = super().load(dtype), self._mask.load()
        if hidden.any():
            if array.dtype.kind != "f":
                raise DataError(
                    f"{self._path}: a masked array of {array.dtype} hides values that are needed; fill them."
                )
            array[hidden] = np.nan
        return array

    def view(self, dtype: np.dtype | type) -> np.ndarray:
        """The same as :meth:`load`; the file holds no NaN for what is masked."""
        return self.load(dtype)


def readable(texts: np.ndarray) -> bool:
    """Whether a fixed-width string array holds code points only; Python raises on others."""
    if texts.dtype.kind != "U" or not texts.size:
        return True
    return bool(np.ascontiguousarray(texts).reshape(-1).view(np.uint32).max() <= sys.maxunicode)


def _small_numbers(value: Any) -> tuple[int, ...]:
    """A shape or an order of axes, as it stands in the file."""
    if isinstance(value, tuple) and len(value) <= 8 and all(type(n) is int and n >= 0 for n in value):
        return value
    raise Broken("an array has an impossible shape")


def _fits(content: Any, dtype: np.dtype, count: int) -> bool:
    """Whether ``content`` can be the data of ``count`` elements."""
    if dtype.kind == "O":
        return isinstance(content, list) and len(content) == count
    if isinstance(content, bytes):
        return len(content) == count * dtype.itemsize
    if isinstance(content, Span):
        return content.size == count * dtype.itemsize and not content.text
    if isinstance(content, Latin1) and isinstance(content.text, Span):
        # UTF-8 writes such a character in one or two bytes; the exact count is checked on loading.
        return count * dtype.itemsize <= content.text.size <= 2 * count * dtype.itemsize
    if isinstance(content, Latin1) and isinstance(content.text, str):
        return len(content.text) == count * dtype.itemsize
    return False
