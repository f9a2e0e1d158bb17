"""Files that are written whole or not at all."""

import os
import pathlib

from msa_jax.errors import RunError


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
