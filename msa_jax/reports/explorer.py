"""The explorer of a run's test clips: a page with a table to sort, search and filter, and a map."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES, UNIMODAL_TASKS, has_centre
from msa_jax.errors import DataError
from msa_jax.files import write_whole
from msa_jax.messages import LOGGER
from msa_jax.reports import cases, figures, templates
from msa_jax.reports.clips import tested_clips
from msa_jax.reports.run import Run, ordered

#: The page in a run's folder, and the lines of ``msa-jax explain`` that it takes modalities' parts from.
FILE, REASONS = "explorer.html", "reasons.jsonl"
#: What a browser plays.
_PLAYED = (".mp4", ".webm", ".m4v", ".mov", ".ogv", ".mp3", ".wav", ".m4a", ".ogg")


def write(workdir: pathlib.Path, run: Run, media: pathlib.Path | None = None) -> pathlib.Path:
    """Writes ``explorer.html`` into a run's folder.

    Args:
      workdir: the run's folder.
      run: what it holds.
      media: a folder with the clips themselves, ``ID.mp4`` say; the page plays them from there. None: from
        where they lay when ``msa-jax extract`` made the run's data.

    Raises:
      DataError: if the folder of media is none.
    """
    if media is not None and not media.is_dir():
        raise DataError(f"{media} is not a folder; name the folder of the clips with --media.")
    path = workdir / FILE
    write_whole(path, render(run, _reasons(workdir / REASONS), media).encode())
    return path


def render(
    run: Run, reasons: Mapping[str, Mapping[str, float]] | None = None, media: pathlib.Path | None = None
) -> str:
    """The page as HTML.

    Args:
      run: with N test clips.
      reasons: clip -> the parts of its modalities, of those clips that were explained.
      media: see :func:`write`.
    """
    heads = tuple(ordered(run.predictions))
    split, notes = _tested(run)
    transcripts = _transcripts(run, split)
    places = _places(run)
    wrong, apart = _wrong(run), _apart(run)
    errors = cases.errors(run)
    played = _recorded(split) if media is None else _media(run.ids, media)
    clips = [
        {
            "id": name,
            "text": transcripts[row],
            "label": _plain(run, run.label[row]),
            "heads": [_plain(run, run.predictions[head][row]) for head in heads],
            "error": _number(errors[row]),
            "wrong": bool(wrong[row]),
            "apart": bool(apart[row]),
            "map": places.get(row),
            "parts": _parts(reasons, name),
            "media": played.get(name, ""),
        }
        for row, name in enumerate(run.ids)
    ]
    shown = {
        "clips": clips,
        "heads": list(heads),
        "classes": run.classifies,
        "limits": list(run.spec.label_range),
    }
    return templates.render(
        "explorer.html",
        title=f"Test clips of {run.config['model'].get('name', 'model')} on {run.spec.name}",
        data=Markup(as_script(shown)),
        count=len(clips),
        has_wrong=bool(wrong.any()),
        has_apart=bool(apart.any()),
        has_text=any(transcripts),
        has_parts=any(clip["parts"] for clip in clips),
        has_scatter=not run.classifies,
        has_map=bool(places),
        heads=heads,
        notes=notes,
    )


def as_script(value: Any) -> str:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _plain(run: Run, value: float) -> float | str | None:
    return run.class_names[int(value)] if run.classifies else _number(value)


def _number(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _tested(run: Run) -> tuple[Split | None, list[str]]:
    """The run's test clips, where they are found, and why there are no transcripts."""
    try:
        split = tested_clips(run)
    except DataError as error:
        return None, [f"There are no transcripts: {error}"]
    return split, [] if split.raw_text is not None else ["There are no transcripts: the data has none."]


def _transcripts(run: Run, split: Split | None) -> list[str]:
    """What is said in the clips, "" where nobody knows."""
    if split is None or split.raw_text is None:
        return [""] * len(run.ids)
    return [" ".join(str(text).split()) for text in split.raw_text]


def _places(run: Run) -> dict[int, list[float]]:
    """Row -> its place on the map of fused features, of those that are shown."""
    found = figures.embed(run.fusion)
    if found is None:
        return {}
    rows, points = found
    return {int(row): [round(float(x), 2) for x in place] for row, place in zip(rows, points, strict=True)}


def _wrong(run: Run) -> np.ndarray:
    """Clips of which the class is wrong, or the sign as Acc-2 non0 has it, bool [N]."""
    final = run.predictions["M"]
    if run.classifies:
        return final != run.label
    if not has_centre(run.spec.label_range):
        return np.zeros(len(run.ids), bool)
    return (run.label != 0) & ((final > 0) != (run.label > 0))


def _apart(run: Run) -> np.ndarray:
    """Clips whose single modalities disagree in sign, or in class, bool [N]."""
    heads = [run.predictions[task] for task in UNIMODAL_TASKS.values() if task in run.predictions]
    if len(heads) < 2:
        return np.zeros(len(run.ids), bool)
    stacked = np.stack(heads)
    if run.classifies:
        return stacked.min(axis=0) != stacked.max(axis=0)
    return (stacked.min(axis=0) < 0) & (stacked.max(axis=0) > 0)


def _parts(reasons: Mapping[str, Mapping[str, float]] | None, name: str) -> list[float | None] | None:
    if not reasons or name not in reasons:
        return None
    return [_number(reasons[name].get(m, math.nan)) for m in MODALITIES]


def _reasons(path: pathlib.Path) -> dict[str, Mapping[str, float]]:
    """Clip -> the parts of its modalities, of what ``msa-jax explain`` wrote; {} where there is none."""
    if not path.exists():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {str(line["id"]): {m: float(line["modalities"][m]) for m in MODALITIES} for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOGGER.warning("%s is left out: it is not what msa-jax explain writes (%s).", path, error)
        return {}


def _recorded(split: Split | None) -> dict[str, str]:
    """Clip -> the address of its file, where that lies as it did when the clips were extracted."""
    if split is None or split.media is None:
        return {}
    found, gone = {}, []
    for name, place in zip(split.ids.tolist(), split.media.tolist(), strict=True):
        path = pathlib.Path(place)
        if path.suffix.lower() not in _PLAYED:
            continue
        if address := _address(path):
            found[name] = address
        else:
            gone.append(place)
    if gone:
        LOGGER.info(
            "note: the files of %d of %d clips are not where they were extracted from (the first: %.300s); "
            "name the folder of the clips with --media.",
            len(gone),
            len(split),
            repr(gone[0]),
        )
    return found


def _address(path: pathlib.Path) -> str | None:
    """The address of a file of this machine; None where there is none.

    A store that somebody else made may name anything, so that no other machine is asked for it (two slashes
    in front are a host on Windows), and the address begins with ``file:`` whatever the name is.
    """
    try:
        there = path.is_absolute() and not str(path).startswith(("//", "\\\\")) and path.is_file()
        return path.as_uri() if there else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _media(ids: Sequence[str], folder: pathlib.Path) -> dict[str, str]:
    """Clip -> the address of its file in a folder."""
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _PLAYED}
    return {name: files[name].resolve().as_uri() for name in ids if name in files}
