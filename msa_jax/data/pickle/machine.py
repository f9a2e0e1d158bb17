"""Reads a feature pickle without running anything that the file asks for.

A pickle is a program for a small stack machine; Python's own machine imports and calls whatever the
program names. This one knows only the instructions that plain data and NumPy arrays need, and the
dozen names in :data:`_NAMES`, each of which stands for a function of this module: nothing is
imported, no class is made and nothing of the file's choice is ever called.

Long strings stay in the file, and arrays come out as :class:`~msa_jax.data.pickle.arrays.StoredArray`. So an
instruction costs some hundred bytes of memory beyond what it reads from the file, and
:data:`MAX_INSTRUCTIONS` bounds their number.
"""

import io
import os
import pathlib
import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, NoReturn

from msa_jax.data.pickle.arrays import Broken, Dtype, Latin1, Span, StoredArray
from msa_jax.errors import DataError

#: MOSEI has 22,856 clips: half a million, or two if each clip has arrays of its own.
MAX_INSTRUCTIONS = 5_000_000
#: Strings longer than this many bytes stay in the file.
LONG_STRING = 4096
_LONG_NAME = 512

_CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_BYTES = {pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q", pickle.BYTEARRAY8: "<Q"}
_TEXTS = {pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q"}
# A set becomes a list: feature files have no use for one, and so nothing of the file's is hashed.
_CONTAINERS = {pickle.EMPTY_LIST: list, pickle.EMPTY_SET: list, pickle.EMPTY_DICT: dict}
_TUPLES = {pickle.EMPTY_TUPLE: 0, pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_REFUSED = {
    **dict.fromkeys((pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX), "make an object of a class"),
    **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4), "call code from Python's extension registry"),
    **dict.fromkeys((pickle.PERSID, pickle.BINPERSID), "load an object by a persistent id"),
    **dict.fromkeys((pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), "read a buffer outside of itself"),
}
_OPCODES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}

#: How files begin that people take for feature pickles.
_NOT_PICKLES = {
    b"PK": "a ZIP archive (written by torch.save or numpy.savez, or not unpacked yet)",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a single NumPy array",
    b"version https://git-lfs": "a Git LFS pointer, not the data; fetch the file with 'git lfs pull'",
    b"<": "a web page; the download went wrong",
}


def load(path: pathlib.Path) -> Any:
    """Reads a pickle of plain values and NumPy arrays.

    Returns:
      Numbers, strings, None, lists, tuples, dicts, :class:`StoredArray` for arrays and NumPy scalars,
      :class:`Span` for strings over 4 kB. They hold no open file.

    Raises:
      DataError: if the file is missing, damaged, not a pickle, or asks for anything else than data.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'this is no file' if path.exists() else 'there is no such file'}.")
    try:
        with path.open("rb") as file:
            _recognise(path, file)
            return _Machine(path, file).run()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error


def _recognise(path: pathlib.Path, file: BinaryIO) -> None:
    """Refuses a file that does not begin like a pickle, naming what it is."""
    head = file.peek(32) if isinstance(file, io.BufferedReader) else b""
    if head[:1] == pickle.PROTO:
        return
    for start, what in _NOT_PICKLES.items():
        if head.lstrip().startswith(start):
            raise DataError(f"{path} is not a feature pickle but {what}.")
    what = (
        "something else, or a pickle of protocol 0 or 1: save it with protocol 4" if head else "an empty file"
    )
    raise DataError(f"{path} is not a feature pickle but {what}.")


class _Name(NamedTuple):
    """A name that the file may use, and what we do where it is called."""

    name: str
    call: Callable[[pathlib.Path, tuple], Any] | None


def _make_dtype(path: pathlib.Path, args: tuple) -> Dtype:
    del path
    return Dtype(args[0])


def _make_array(path: pathlib.Path, args: tuple) -> StoredArray:
    del args  # (numpy.ndarray, (0,), b"b"): shape and data follow in a later instruction
    return StoredArray(path)


def _make_scalar(path: pathlib.Path, args: tuple) -> StoredArray:
    dtype, content = args
    scalar = StoredArray(path)
    scalar.fill((), dtype, content)
    return scalar


def _from_buffer(path: pathlib.Path, args: tuple) -> StoredArray:
    # Newer NumPy adds a fifth argument: the order of the axes, where it is neither C nor Fortran.
    content, dtype, shape, order, axes = args if len(args) == 5 else (*args, None)
    array = StoredArray(path)
    if order == "F":
        array.fill_fortran(shape, dtype, content)
    else:
        array.fill(shape, dtype, content, axes)
    return array


def _encode(path: pathlib.Path, args: tuple) -> Latin1:
    del path
    text, encoding = args
    is_text = isinstance(text, str) or (isinstance(text, Span) and text.text)
    if encoding not in ("latin1", "latin-1") or not is_text:
        raise Broken("a byte string is written in an unknown way")
    return Latin1(text)


def _empty(make: Callable[[], Any]) -> Callable[[pathlib.Path, tuple], Any]:
    def call(path: pathlib.Path, args: tuple) -> Any:
        del path
        if not all(isinstance(argument, _Name) for argument in args):  # defaultdict(list) is one
            raise Broken("a container is written in an unknown way")
        return make()

    return call


def _set(path: pathlib.Path, args: tuple) -> list:
    del path
    if len(args) != 1 or not isinstance(args[0], list):
        raise Broken("a set is written in an unknown way")
    return args[0]


def _names() -> dict[str, _Name]:
    calls: dict[str, Callable[[pathlib.Path, tuple], Any] | None] = {
        "_codecs.encode": _encode,
        "numpy.ndarray": None,
        "numpy.dtype": _make_dtype,
        "collections.OrderedDict": _empty(dict),
        "collections.defaultdict": _empty(dict),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        calls[f"{core}.multiarray._reconstruct"] = _make_array
        calls[f"{core}.multiarray.scalar"] = _make_scalar
        calls[f"{core}.numeric._frombuffer"] = _from_buffer
    for builtins in ("builtins", "__builtin__"):  # protocol 2 writes the name that Python 2 had
        calls |= {f"{builtins}.bytes": _empty(bytes), f"{builtins}.set": _set}
        calls |= {f"{builtins}.list": None, f"{builtins}.dict": None}
    return {name: _Name(name, call) for name, call in calls.items()}


_NAMES = _names()


class _Machine:
    """Runs the instructions of one file."""

    def __init__(self, path: pathlib.Path, file: BinaryIO):
        self.path, self.file = path, file
        self.size = path.stat().st_size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        push, pop = self.stack.append, self.stack.pop
        self.special: dict[bytes, Callable[[], Any]] = {
            pickle.PROTO: self.check_protocol,
            pickle.FRAME: lambda: self.read(8),  # a frame's length, which a buffered reader does not need
            pickle.MARK: lambda: self.marks.append(len(self.stack)),
            pickle.LONG1: self.push_long,
            pickle.TUPLE: lambda: push(tuple(self.since_mark())),
            pickle.APPEND: lambda: self.extend([pop()]),
            pickle.APPENDS: lambda: self.extend(self.since_mark()),
            pickle.ADDITEMS: lambda: self.extend(self.since_mark()),
            pickle.SETITEM: lambda: self.update([pop(-2), pop()]),
            pickle.SETITEMS: lambda: self.update(self.since_mark()),
            pickle.MEMOIZE: lambda: self.put(len(self.memo)),
            pickle.GLOBAL: lambda: push(self.find(self.line(), self.line())),
            pickle.INST: lambda: self.refuse(f"call {f'{self.line()}.{self.line()}'!r:.200}"),
            pickle.STACK_GLOBAL: lambda: push(self.find(pop(-2), pop())),
            pickle.REDUCE: self.reduce,
            pickle.BUILD: self.build,
        }

    def run(self) -> Any:
        """Runs the program and returns what it leaves on the stack."""
        try:
            for _ in range(MAX_INSTRUCTIONS):
                code = self.read(1)
                if code == pickle.STOP:
                    return self.stack.pop()
                self.step(code)
            raise Broken(
                f"it holds over {MAX_INSTRUCTIONS} single values; features must be NumPy arrays, not lists"
            )
        except (DataError, OSError):
            raise
        except Exception as error:  # whatever a damaged program sets off
            why = str(error) if isinstance(error, Broken) else "an instruction does not fit what came before"
            raise DataError(
                f"{self.path} is damaged or not a feature pickle: {why} "
                f"(byte {self.at} of {self.size}). Get it again, or build it of plain NumPy arrays."
            ) from error

    def step(self, code: bytes) -> None:
        """Does one instruction; most push a value."""
        if code in _GETS:
            self.stack.append(self.memo[self.number(_GETS[code])])
        elif code in _PUTS:
            self.put(self.number(_PUTS[code]))
        elif code in _NUMBERS:
            self.stack.append(self.number(_NUMBERS[code]))
        elif code in _TEXTS:
            self.stack.append(self.string(self.number(_TEXTS[code]), text=True))
        elif code in _BYTES:
            self.stack.append(self.string(self.number(_BYTES[code]), text=False))
        elif code in _TUPLES:
            self.stack.append(tuple(self.stack.pop() for _ in range(_TUPLES[code]))[::-1])
        elif code in self.special:
            self.special[code]()
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in _CONTAINERS:
            self.stack.append(_CONTAINERS[code]())
        elif code in _REFUSED:
            self.refuse(_REFUSED[code])
        else:
            name = _OPCODES.get(code, f"0x{code.hex()}")
            raise Broken(f"feature files have no use for the instruction {name}")

    @property
    def at(self) -> int:
        """The byte that comes next."""
        return self.file.tell()

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise Broken("it ends too early, perhaps an unfinished download")
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def line(self) -> str:
        line = self.file.readline(_LONG_NAME)
        if not line.endswith(b"\n"):
            raise Broken("a name does not end")
        return line[:-1].decode()

    def string(self, size: int, *, text: bool) -> str | bytes | Span:
        if size > self.size - self.at:
            raise Broken("it ends too early, perhaps an unfinished download")
        if size > LONG_STRING:
            span = Span(self.path, self.at, size, text)
            self.file.seek(size, os.SEEK_CUR)
            return span
        data = self.read(size)
        return data.decode("utf-8", "surrogatepass") if text else data

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def check_protocol(self) -> None:
        protocol = self.read(1)[0]
        if protocol > pickle.HIGHEST_PROTOCOL:
            raise Broken(f"pickle protocol {protocol} is newer than this Python")

    def push_long(self) -> None:
        self.stack.append(int.from_bytes(self.read(self.read(1)[0]), "little", signed=True))

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Broken("something is appended to what is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise Broken("a key is set in what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a deeply nested key could overrun the stack; huge integers can be made to collide.
            if not (isinstance(key, str | bytes) or (type(key) is int and abs(key) < 2**31)):
                raise Broken("a dict has a key that is neither text nor a small number")
            self.stack[-1][key] = value

    def find(self, module: Any, name: Any) -> _Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Broken("a name is not text")
        known = _NAMES.get(f"{module}.{name}")
        if known is None and module.partition(".")[0] == "torch":
            raise DataError(
                f"{self.path} holds PyTorch objects; save it again with every tensor as a NumPy array "
                "(tensor.numpy())."
            )
        return known or self.refuse(f"call {f'{module}.{name}'!r:.200}")

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, _Name) and function.call and isinstance(args, tuple)):
            raise Broken("something is called that is not a function")
        self.stack.append(function.call(self.path, args))

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StoredArray | Dtype):
            self.refuse("change the inside of an object")
        self.stack[-1].build(state)

    def refuse(self, deed: str) -> NoReturn:
        raise DataError(
            f"{self.path} is refused: it tries to {deed} (byte {self.at}), which no feature file needs and "
            "which could run foreign code. Do not open it with other programs; ask whoever gave it to you."
        )
