"""Which clips there are: those of a folder, of a manifest, or one file.

A manifest is a CSV file whose first line names its columns:

* ``clip``: the file, from the manifest's folder on; the only one that must be there;
* ``id``: a name; by default the file's, from the manifest's folder on and without its ending;
* ``transcript``: what is said; where it is empty, the ``.srt`` or ``.txt`` file beside the clip;
* ``label``, and ``label_T``, ``label_A``, ``label_V`` of the modalities: scores, of all clips or of none;
* ``split``: train, valid or test, of all clips or of none;
* ``openface``: the clip's CSV file of OpenFace;
* any other, such as ``speaker``: kept for ``data.group``.
"""

import csv
import dataclasses
import difflib
import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msa_jax.data.division import COLUMN_NAME
from msa_jax.data.spec import SPLITS
from msa_jax.errors import DataError, nearest
from msa_jax.media import SUFFIXES

#: Columns of scores -> tasks.
LABELS = {"label": "M", "label_T": "T", "label_A": "A", "label_V": "V"}
_COLUMNS = ("clip", "id", "transcript", *LABELS, "split", "openface")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip and what a manifest says of it.

    Attributes:
      id: its name, of no other clip.
      path: its file.
      transcript: what is said, or None where the manifest does not say.
      labels: scores by task, "M" first; empty where there are none.
      split: "train", "valid", "test", or "" where clips are not divided.
      openface: OpenFace's file, or None.
      columns: further columns of the manifest.
    """

    id: str
    path: pathlib.Path
    transcript: str | None = None
    labels: Mapping[str, float] = dataclasses.field(default_factory=dict)
    split: str = ""
    openface: pathlib.Path | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find(source: pathlib.Path) -> list[Clip]:
    """The clips of a folder (with those inside it), of a manifest, or the one file.

    Raises:
      DataError: if nothing is there, a folder has no clips, two clips have one name, or a manifest is wrong.
    """
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not paths:
            raise DataError(f"{source} holds no clips (MP4, MKV, WAV, ...); name the folder that does.")
        clips = [Clip(_name(path, source), path, openface=_beside(path)) for path in paths]
    elif not source.exists():
        raise DataError(f"there is no {source}; name a folder of clips, a manifest (CSV), or a clip.")
    elif source.suffix.lower() == ".csv":
        clips = _read_manifest(source)
    else:
        clips = [Clip(source.stem, source, openface=_beside(source))]
    twice = [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]
    if twice:
        files = ", ".join(str(clip.path) for clip in clips if clip.id == twice[0])
        raise DataError(f"several clips are called {twice[0]!r} ({files:.300}); give them other names.")
    return clips


def _name(path: pathlib.Path, folder: pathlib.Path) -> str:
    try:
        path = path.relative_to(folder)
    except ValueError:  # a manifest may name files elsewhere
        path = pathlib.Path(path.name)
    return path.with_suffix("").as_posix()


def _beside(path: pathlib.Path) -> pathlib.Path | None:
    """OpenFace writes a clip's features into a CSV file of its name."""
    table = path.with_suffix(".csv")
    return table if table.is_file() else None


def _read_manifest(path: pathlib.Path) -> list[Clip]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or [])
            clips = [_clip(path, rows.line_num, row) for row in rows]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error!s:.100}); save it so.") from error
    if not clips:
        raise DataError(f"{path} lists no clips; add a line for each.")
    for what, of in (("a split", lambda c: c.split), ("labels", lambda c: tuple(c.labels))):
        kinds = [of(clip) for clip in clips]
        odd = next((clip for clip, kind in zip(clips, kinds, strict=True) if kind != kinds[0]), None)
        if odd is not None and (what == "labels" or not all(kinds)):
            raise DataError(
                f"{path}: clips {clips[0].id!r:.80} and {odd.id!r:.80} do not both have {what}; "
                "fill the column for all clips, or leave it out."
            )
    return clips


def _check_columns(path: pathlib.Path, names: Sequence[str]) -> None:
    if "clip" not in names:
        found = ", ".join(map(repr, names)) or "none"
        raise DataError(
            f"{path} has no column 'clip', which names the files; its first line has {found:.200}."
            f"{nearest('clip', names)}"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name; rename one.")
    for name in names:
        if name in _COLUMNS:
            continue
        if near := difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=0.75):
            raise DataError(f"{path} has a column {name!r}; did you mean {near[0]!r}?")
        if not COLUMN_NAME.fullmatch(name):
            raise DataError(
                f"{path} has a column {name!r:.80}; name it with letters, digits and _, a letter first."
            )


def _clip(path: pathlib.Path, line: int, row: Mapping[str | None, str | None]) -> Clip:
    """One line of a manifest."""
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise DataError(f"{where}, has other columns than the first line; put texts with commas in quotes.")
    cells = {str(name): (cell or "").strip() for name, cell in row.items()}
    file = path.parent / cells["clip"]
    if not cells["clip"] or not file.is_file():
        raise DataError(f"{where}: {cells['clip']!r} is not a file in {path.parent}; correct its name.")
    openface = path.parent / cells["openface"] if cells.get("openface") else _beside(file)
    if openface is not None and not openface.is_file():
        raise DataError(f"{where}: there is no {openface}; correct the column 'openface'.")
    split = cells.get("split", "")
    if split and split not in SPLITS:
        known = ", ".join(SPLITS)
        raise DataError(f"{where}: unknown split {split!r:.80}, not one of {known}.{nearest(split, SPLITS)}")
    name = cells.get("id") or _name(file, path.parent)
    others = {key: cell for key, cell in cells.items() if key not in _COLUMNS}
    labels = dict(_labels(where, cells))
    return Clip(name, file, cells.get("transcript") or None, labels, split, openface, others)


def _labels(where: str, cells: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for column, task in LABELS.items():
        if cell := cells.get(column, ""):
            try:
                score = float(cell)
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                raise DataError(f"{where}: the {column} {cell!r:.80} is not a number; correct it.")
            yield task, score
