"""Media files that clients send: received into a temporary folder, which ends with the request."""

import asyncio
import math
import pathlib
import re
import shutil
from typing import Any

from msa_jax.errors import nearest
from msa_jax.serve.limits import Refused

#: Seconds of a point of the curve over time, and from one to the next, unless the client asks for others.
WINDOW, STRIDE = 4.0, 1.0
FIELDS = ("file", "window", "stride")
_LONGEST = 600.0


async def received(request: Any, folder: pathlib.Path) -> tuple[pathlib.Path, float, float]:
    """The file of a multipart request, with its window and stride.

    Args:
      request: Starlette's.
      folder: where the file is put, under a name of our own.

    Raises:
      Refused: if a part is missing, repeated, unknown or empty.
    """
    async with request.form(max_files=1, max_fields=len(FIELDS)) as form:
        for name, _ in form.multi_items():
            if name not in FIELDS:
                advice = nearest(name[:50], FIELDS) or f" The parts are {', '.join(FIELDS)}."
                shown = name[:50].encode("ascii", "backslashreplace").decode()
                raise Refused(f"the form has an unknown part '{shown}'.{advice}")
            if len(form.getlist(name)) > 1:
                raise Refused(f"the form has {name} more than once.")
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise Refused("the form has no file; send one as the part named file.")
        if not file.size:
            raise Refused("the file is empty.")
        window = _seconds("window", form.get("window"), WINDOW)
        stride = _seconds("stride", form.get("stride"), STRIDE)
        path = folder / f"clip{_suffix(file.filename)}"
        with path.open("wb") as target:
            await asyncio.to_thread(shutil.copyfileobj, file.file, target)
    return path, window, stride


def _suffix(name: str | None) -> str:
    """What stands behind the last dot, by which some readers know a format; "" for anything odd."""
    suffix = pathlib.PurePosixPath(name or "").suffix
    return suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""


def _seconds(name: str, given: Any, default: float) -> float:
    if given is None:
        return default
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.1 <= value <= _LONGEST:
        raise Refused(f"{name} is a number of seconds from 0.1 to {_LONGEST:g}.")
    return value
