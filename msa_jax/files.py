"""Files that are written whole or not at all, and JSON files that others wrote."""

import json
import os
import pathlib
from typing import Any

from msa_jax.errors import DataError, RunError


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it.

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
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror}; make room, or take another --workdir."
        ) from error


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
