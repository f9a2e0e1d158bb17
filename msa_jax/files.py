"""Files and folders that are written whole or not at all, and JSON, ours and of others."""

import contextlib
import json
import math
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from msa_jax.errors import DataError, MsaJaxError, RunError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

#: What to do where a run's own file cannot be written.
_OF_A_RUN = "make room, or choose another --workdir"


def write_whole(path: pathlib.Path, content: bytes, advice: str = _OF_A_RUN) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it.

    Args:
      path: the file.
      content: of it.
      advice: what to do where it cannot be written, for the message.

    Raises:
      RunError: if the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}; {advice}.") from error


def check_target(option: str, out: pathlib.Path, *kept: pathlib.Path) -> None:
    """Refuses, before any work, a place that cannot be written, and to write over what is ``kept``.

    Args:
      option: by which the place is named, ``"--out"``.
      out: the file to be written.
      *kept: files, and folders with all that is in them.

    Raises:
      RunError: for such a place.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise RunError(f"{option}={out} is no place for a file: name a file in a folder that exists.")
    for path in kept:
        if out.exists() and path.resolve() in (out.resolve(), *out.resolve().parents):
            raise RunError(f"{option}={out} would be written over a file of {path}; name another file.")


def check_new_folder(folder: pathlib.Path) -> pathlib.Path:
    """Refuses a place where no new folder can be put.

    Returns:
      The nearest folder around it that is there.

    Raises:
      DataError: if something is there already, or a file stands where a folder around it should be.
    """
    above = next(path for path in folder.absolute().parents if path.exists())
    if not above.is_dir():
        raise DataError(f"{above} is a file, so {folder} cannot be made in it; name another folder.")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise DataError(f"{folder} exists already and is kept as it is; remove it or name another folder.")
    return above


@contextlib.contextmanager
def locked(lock: pathlib.Path, busy: MsaJaxError, advice: str = _OF_A_RUN) -> Iterator[None]:
    """Within it no other process holds a lock; the system frees it when this one ends, however it does.

    Args:
      lock: a file, made where it is not there.
      busy: raised if another process holds it.
      advice: what to do where it cannot be written, for the message.

    Raises:
      RunError: if it is a file that cannot be written.
    """
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot write {lock}: {error.strerror}; {advice}.") from None
    with os.fdopen(descriptor, "wb") as file:
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy from None
            except OSError:  # some network file systems have no locks
                pass
        yield


def user_cache() -> pathlib.Path:
    """The folder for what can be made again at any time; it may not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "msa_jax"


@contextlib.contextmanager
def in_turn(name: str) -> Iterator[None]:
    """Waits until no other process of this user is within it; where no lock can be had, it does not wait.

    Args:
      name: of the file in the user's cache folder that stands for the lock.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a home that cannot be written, or holds no locks
            user_cache().mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(user_cache() / name, "ab"))
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A hidden folder that becomes ``target`` at the end, or vanishes after an exception (also Ctrl-C).

    Folders around it are made where they are not there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        made.mkdir()
        yield made
        _sync(made)
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _sync(target.parent)


def _sync(folder: pathlib.Path) -> None:
    """Sees a folder's list of files onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON as its standard has it: numbers that are not finite become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(value), indent=indent, allow_nan=False)


def read_json(path: pathlib.Path, advice: str) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
      path: the file.
      advice: what to do where it is missing or broken, for the message.

    Raises:
      DataError: if it cannot be read or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {advice}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON file ({error!s:.100}); {advice}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; {advice}.")
    return content
