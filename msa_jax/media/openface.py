"""The user's own OpenFace 2 output: one CSV for each clip, to the 709 columns of CH-SIMS.

OpenFace is licensed for academic use and is not run here; its files are read.
"""

import csv
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from msa_jax.data.columns import SIMS_VISION, column_names
from msa_jax.data.recipe import Part
from msa_jax.errors import DataError
from msa_jax.media.decode import Absent

#: Frames that are averaged to a step, as in public extraction code for CH-SIMS.
AVERAGED = 5
#: Frames whose face is less sure than this count as without one; OpenFace's own bound of a success.
LEAST_CONFIDENCE = 0.7
_BOOKKEEPING = ("timestamp", "confidence", "success")
_COLUMNS = tuple(column_names("sims", "vision"))


def part() -> Part:
    """The recipe; OpenFace's files do not say which version made them."""
    arguments = {"averaged frames": AVERAGED, "least confidence": LEAST_CONFIDENCE}
    return Part("openface", {}, arguments, columns=_COLUMNS, groups=SIMS_VISION)


def extract(path: pathlib.Path, note: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    """Reads one clip's file.

    Every five frames are one step, the mean of those with a sure face; five frames without any have no step.

    Returns:
      float32 [T, 709], and the seconds [T] of the steps' first frames.

    Raises:
      Absent: if there is no sure face in any frame.
      DataError: if the file is not OpenFace 2's.
    """
    rows, times, count, kept = [], [], 0, 0
    frames = _frames(path)
    while block := list(itertools.islice(frames, AVERAGED)):
        count += len(block)
        if sure := [frame.values for frame in block if frame.sure]:
            kept += len(sure)
            rows.append(np.mean(sure, axis=0))
            times.append(block[0].time)
    if not rows:
        raise Absent(f"{path} has no sure face in any of {count} frames")
    if kept < count:
        note(f"{count - kept} of {count} frames in {path.name} have no sure face and are left out")
    return np.array(rows, np.float32), np.array(times)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A line of the file: its second, whether the face is sure, and float64 [709]."""

    time: float
    sure: bool
    values: np.ndarray


def _frames(path: pathlib.Path) -> Iterator[_Frame]:
    """The lines of one face: where several were followed, those of the first that the file names."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file)
            place = _places(path, next(lines, []))
            features = [place[name] for name in _COLUMNS]
            face = None
            for number, line in enumerate(lines, start=2):
                if not line:
                    continue
                try:
                    cells = [float(line[i]) for i in features]
                    time, sure = float(line[place["timestamp"]]), float(line[place["confidence"]])
                    whole = float(line[place["success"]]) > 0
                except (ValueError, IndexError):
                    raise DataError(
                        f"{path}, line {number}, is not a line of OpenFace's; run OpenFace on the clip again."
                    ) from None
                which = line[place["face_id"]].strip() if "face_id" in place else ""
                face = which if face is None else face
                if which == face:
                    values = np.array(cells)
                    finite = bool(np.isfinite(values).all())
                    yield _Frame(time, whole and finite and sure >= LEAST_CONFIDENCE, values)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error!s:.100}); give OpenFace's own.") from error


def _places(path: pathlib.Path, header: list[str]) -> dict[str, int]:
    """Column name -> its place; some builds of OpenFace write blanks around the names."""
    place = {name.strip(): number for number, name in enumerate(header)}
    missing = [name for name in (*_BOOKKEEPING, *_COLUMNS) if name not in place]
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} columns of OpenFace 2, {missing[0]!r} among them; give the CSV "
            "file of its FeatureExtraction with all features."
        )
    return place
