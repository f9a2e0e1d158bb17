"""Reads a feature pickle without running anything that the file asks for.

A pickle is a program for a small stack machine; Python's own machine imports and calls whatever the
program names. This one knows only the instructions that plain data and NumPy arrays need, and the
few names of :mod:`msa_jax.data.pickle.names`, each of which stands for a function of ours: nothing is
imported, no class is made and nothing of the file's choice is ever called.

Long strings stay in the file, and arrays come out as :class:`~msa_jax.data.pickle.arrays.StoredArray`. So an
instruction costs some hundred bytes of memory beyond what it reads from the file, and
:data:`MAX_INSTRUCTIONS` bounds their number.

Python 2's pickles are read too (protocols 0 to 2). Their strings are :class:`OldText`: text or bytes,
which the file does not say.
"""

import codecs
import io
import os
import pathlib
import pickle
import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from msa_jax.data.pickle import names
from msa_jax.data.pickle.arrays import Broken, Dtype, OldText, Span, StoredArray
from msa_jax.data.pickle.names import Foreign, Name
from msa_jax.errors import DataError

#: MOSEI has 22,856 clips: half a million, or two if each clip has arrays of its own.
MAX_INSTRUCTIONS = 5_000_000
#: Strings longer than this many bytes stay in the file.
LONG_STRING = 4096
_LONG_NAME = 512

_CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_BYTES = {pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q", pickle.BYTEARRAY8: "<Q"}
_OLD_TEXTS = {pickle.SHORT_BINSTRING: "<B", pickle.BINSTRING: "<i"}
_TEXTS = {pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q"}
# A set becomes a list: feature files have no use for one, and so nothing of the file's is hashed.
_CONTAINERS = {pickle.EMPTY_LIST: list, pickle.EMPTY_SET: list, pickle.EMPTY_DICT: dict}
_TUPLES = {pickle.EMPTY_TUPLE: 0, pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_REFUSED = {
    pickle.OBJ: "make an object of a class",
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
      Numbers, strings, None, lists (for sets too), tuples, dicts, :class:`StoredArray` for arrays and
      NumPy scalars, :class:`Span` for strings over 4 kB, :class:`~msa_jax.data.pickle.names.Foreign` for
      objects of pandas, pathlib and datetime. They hold no open file.

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
    # Protocols 0 and 1 do not say that they are; a feature file begins with a dict then.
    if head.startswith((pickle.PROTO, pickle.MARK + pickle.DICT, pickle.EMPTY_DICT)):
        return
    for start, what in _NOT_PICKLES.items():
        if head.lstrip().startswith(start):
            raise DataError(f"{path} is not a feature pickle but {what}.")
    what = "something else" if head else "an empty file"
    raise DataError(f"{path} is not a feature pickle but {what}.")


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
            pickle.FROZENSET: lambda: push(self.since_mark()),
            pickle.REDUCE: self.reduce,
            pickle.NEWOBJ: lambda: self.new_object([pop()]),
            pickle.NEWOBJ_EX: lambda: self.new_object([pop(), pop()]),
            pickle.BUILD: self.build,
            # Protocol 0 writes lines of text.
            pickle.INT: self.push_int,
            pickle.LONG: lambda: push(int(self.line().removesuffix("L"))),
            pickle.FLOAT: lambda: push(float(self.line())),
            pickle.STRING: lambda: push(self.quoted()),
            pickle.UNICODE: lambda: push(self.long_line().decode("raw-unicode-escape")),
            pickle.LIST: lambda: push(self.since_mark()),
            pickle.DICT: self.push_dict,
            pickle.GET: lambda: push(self.memo[int(self.line())]),
            pickle.PUT: lambda: self.put(int(self.line())),
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
        elif code in _OLD_TEXTS:
            self.stack.append(self.string(self.number(_OLD_TEXTS[code]), text=False, old=True))
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

    def long_line(self) -> bytes:
        """A line of any length; protocol 0 writes whole arrays so."""
        line = self.file.readline(self.size)
        if not line.endswith(b"\n"):
            raise Broken("it ends too early, perhaps an unfinished download")
        return line[:-1]

    def quoted(self) -> OldText:
        line = self.long_line().strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise Broken("a string has no quotes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python never writes
            return OldText(codecs.escape_decode(line[1:-1])[0])

    def push_int(self) -> None:
        line = self.line()
        self.stack.append({"00": False, "01": True}[line] if line in ("00", "01") else int(line))

    def push_dict(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.update(items)

    def string(self, size: int, *, text: bool, old: bool = False) -> str | bytes | Span:
        if not 0 <= size <= self.size - self.at:
            raise Broken("it ends too early, perhaps an unfinished download")
        if size > LONG_STRING:
            span = Span(self.path, self.at, size, text, old)
            self.file.seek(size, os.SEEK_CUR)
            return span
        data = self.read(size)
        if old:
            return OldText(data)
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
        if isinstance(self.stack[-1], Foreign):
            return
        if type(self.stack[-1]) is not list:
            raise Broken("something is appended to what is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Foreign):
            return
        if type(self.stack[-1]) is not dict:
            raise Broken("a key is set in what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            key = key.text() if isinstance(key, OldText) else key
            # Hashing a deeply nested key could overrun the stack; huge integers can be made to collide.
            if not (isinstance(key, str | bytes) or (type(key) is int and abs(key) < 2**31)):
                raise Broken("a dict has a key that is neither text nor a small number")
            self.stack[-1][key] = value

    def find(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Broken("a name is not text")
        known = names.find(f"{module}.{name}")
        if known is None and module.partition(".")[0] == "torch":
            raise DataError(
                f"{self.path} holds PyTorch objects; save it again with every tensor as a NumPy array "
                "(tensor.numpy())."
            )
        return known or self.refuse(f"call {f'{module}.{name}'!r:.200}")

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name):
            raise Broken("something is called that is not a function")
        if function.call is None or not isinstance(args, tuple):
            raise Broken(f"it tries to call {function.name!r}, which is not a function")
        self.stack.append(function.call(self.path, args))

    def new_object(self, arguments: list[Any]) -> None:
        kind = self.stack.pop()
        if not (isinstance(kind, Name) and kind.foreign):
            self.refuse("make an object of a class")
        del arguments  # what is never made needs none
        self.stack.append(Foreign(kind.name))

    def build(self) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, Foreign):
            return
        if not isinstance(thing, StoredArray | Dtype):
            self.refuse("change the inside of an object")
        thing.build(state)

    def refuse(self, deed: str) -> NoReturn:
        raise DataError(
            f"{self.path} is refused: it tries to {deed} (byte {self.at}), which no feature file needs and "
            "which could run foreign code. Do not open it with other programs; ask whoever gave it to you."
        )
