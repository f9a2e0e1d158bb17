"""The names that a feature pickle may use, and what we make where the file calls them.

Each stands for a function of this module: nothing is imported, no class is made and nothing of the
file's choice is ever called. Objects of pandas, pathlib and datetime, which people put into such files
unawares, come out as a :class:`Foreign` that is never more than its name.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

from msa_jax.data.pickle.arrays import (
    Broken,
    Dtype,
    Latin1,
    MaskedArray,
    Span,
    StoredArray,
    as_text,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """An object of a package whose objects we do not make, by the name of its class."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """A name that the file may use, and what we do where it is called."""

    name: str
    call: Callable[[pathlib.Path, tuple], Any] | None
    foreign: bool = False


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
    encoding = as_text(encoding)
    is_text = isinstance(text, str) or (isinstance(text, Span) and text.text)
    if encoding not in ("latin1", "latin-1") or not is_text:
        raise Broken("a byte string is written in an unknown way")
    return Latin1(text)


def _empty(make: Callable[[], Any]) -> Callable[[pathlib.Path, tuple], Any]:
    def call(path: pathlib.Path, args: tuple) -> Any:
        del path
        if not all(isinstance(argument, Name) for argument in args):  # defaultdict(list) is one
            raise Broken("a container is written in an unknown way")
        return make()

    return call


def _set(path: pathlib.Path, args: tuple) -> list:
    del path
    if len(args) != 1 or not isinstance(args[0], list):
        raise Broken("a set is written in an unknown way")
    return args[0]


def _make_masked(path: pathlib.Path, args: tuple) -> MaskedArray:
    if len(args) != 4 or not all(isinstance(argument, Name) for argument in args[:2]):
        raise Broken("a masked array is written in an unknown way")
    return MaskedArray(path)


def _foreign(name: str) -> Name:
    def call(path: pathlib.Path, args: tuple) -> Foreign:
        del path
        # _new_Index(pandas.Index, ...) makes an Index.
        made = next((a.name for a in args if isinstance(a, Name) and a.name.startswith("pandas.")), name)
        return Foreign(made)

    return Name(name, call, foreign=True)


def _names() -> dict[str, Name]:
    calls: dict[str, Callable[[pathlib.Path, tuple], Any] | None] = {
        "_codecs.encode": _encode,
        "numpy.ndarray": None,
        "numpy.memmap": None,  # written like a plain array; where it once was mapped is not said
        "numpy.dtype": _make_dtype,
        "collections.OrderedDict": _empty(dict),
        "collections.defaultdict": _empty(dict),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        calls[f"{core}.multiarray._reconstruct"] = _make_array
        calls[f"{core}.multiarray.scalar"] = _make_scalar
        calls[f"{core}.numeric._frombuffer"] = _from_buffer
        calls[f"{core}.memmap.memmap"] = None
    for masked in ("numpy.ma.core", "numpy.ma"):
        calls |= {f"{masked}._mareconstruct": _make_masked, f"{masked}.MaskedArray": None}
    known = {name: Name(name, call) for name, call in calls.items()}
    for builtins in ("builtins", "__builtin__"):  # protocol 2 writes the name that Python 2 had
        for name, call in (("bytes", _empty(bytes)), ("set", _set), ("frozenset", _set)):
            known[f"{builtins}.{name}"] = Name(f"{builtins}.{name}", call)
        known |= {f"{builtins}.{name}": Name(f"{builtins}.{name}", None) for name in ("list", "dict")}
        known |= {f"{builtins}.{name}": _foreign(f"builtins.{name}") for name in ("slice", "complex")}
    paths = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    dates = ("date", "datetime", "time", "timedelta", "timezone")
    for module, classes in (("pathlib", paths), ("pathlib._local", paths), ("datetime", dates)):
        known |= {f"{module}.{name}": _foreign(f"{module.partition('.')[0]}.{name}") for name in classes}
    return known


_NAMES = _names()
#: The tables and columns of pandas and what they are made of; no function of it that reads or writes.
_PANDAS = re.compile(
    r"pandas(\.(core|_libs|arrays)(\.\w+)*)?"
    r"\.(DataFrame|Series|Categorical|NA|Timestamp|Timedelta|Day|(Single)?BlockManager"
    r"|[A-Z]\w*(Index|Dtype|Array|Block)|Index|_new_(\w*Index)|_unpickle_block|new_block"
    r"|__pyx_unpickle_NDArrayBacked|_nat_unpickle|_unpickle_timestamp|_timedelta_unpickle)",
    re.ASCII,
)


def find(name: str) -> Name | None:
    """What ``module.attribute`` stands for; None for all names that no feature file needs."""
    if name in _NAMES:
        return _NAMES[name]
    return _foreign(name) if len(name) < 200 and _PANDAS.fullmatch(name) else None
