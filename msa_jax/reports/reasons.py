"""A picture per clip of why it got its score: words, sound and picture over time, coloured by their part."""

import io
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from msa_jax.errors import DataError
from msa_jax.files import write_whole
from msa_jax.reports import attention
from msa_jax.reports.figures import SENTIMENT

#: Inches.
_WIDTH, _LINE = 7.0, 0.28
_ADVICE = "make room, or choose another --pictures"
#: Letters that fit in a line of words, and at most so many lines.
_LETTERS, _LINES = 84, 12


def draw(lines: Iterable[Mapping[str, Any]], folder: pathlib.Path) -> None:
    """Writes a picture ``ID.svg`` for every line that ``msa-jax explain`` gives.

    Where a line has attention, its maps are another picture, ``ID.attention.svg``.

    Raises:
      DataError: if the folder cannot be made, or a picture not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror}; choose another --pictures.") from error
    used: set[str] = set()
    for line in lines:
        name = re.sub(r"[^\w.$-]", "_", str(line["id"])).strip(".") or "clip"
        while (
            name in used or f"{name}.attention" in used
        ):  # ids that differ in letters that no file name may have
            name += "_"
        used.add(name)
        write_whole(folder / f"{name}.svg", picture(line), _ADVICE)
        if "attention" in line:
            write_whole(folder / f"{name}.attention.svg", attention.picture(line), _ADVICE)
            used.add(f"{name}.attention")


def picture(line: Mapping[str, Any]) -> bytes:
    """One clip as SVG: modalities and groups as bars, words and stretches of time as coloured cells."""
    words = _wrapped(line["words"])
    bars = [(m, part) for m, part in line["modalities"].items()]
    bars += [(f"{m}: {g}", part) for m, own in line["groups"].items() for g, part in own.items()]
    strips = [(m, line[m]) for m in ("audio", "vision") if line[m]]
    effects = [w["effect"] for w in line["words"]] + [s["effect"] for _, own in strips for s in own]
    bound = max([abs(e) for e in effects] + [abs(part) for _, part in bars] + [1e-9])
    heights = [_LINE * len(bars), *([_LINE * len(words)] if words else []), *[2 * _LINE] * len(strips)]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "reasons", "text.parse_math": False, "font.size": 9})
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5 * len(heights) + 0.8), layout="constrained")
        axes = list(figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0])
        figure.suptitle(_title(line), fontsize=10)
        norm = Normalize(-bound, bound)
        _bars(axes.pop(0), bars, norm)
        if words:
            _words(axes.pop(0), words, bound)
        for (modality, own), place in zip(strips, axes, strict=True):
            _strip(place, modality, own, norm)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue().encode()


def _title(line: Mapping[str, Any]) -> str:
    said = f"{line['class']} ({line['probability']:.2f})" if "class" in line else f"{line['score']:+.2f}"
    return f"{line['id']}: {said}, with nothing known {line['nothing_known']:+.2f}"


def _bars(axes: Axes, bars: list[tuple[str, float]], norm: Normalize) -> None:
    names = [name for name, _ in bars]
    values = [value for _, value in bars]
    axes.barh(range(len(bars)), values, color=[SENTIMENT(norm(v)) for v in values], height=0.7)
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("part of the score: modalities (Shapley values), groups of columns (by removal)")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _wrapped(words: list[Mapping[str, Any]]) -> list[list[tuple[str, float]]]:
    """Words, or numbers of steps, in lines."""
    lines: list[list[tuple[str, float]]] = []
    length = _LETTERS + 1
    for word in words:
        text = str(word.get("word", word["steps"][0]))[:_LETTERS]
        if length + len(text) + 1 > _LETTERS:
            if len(lines) == _LINES:
                break
            lines.append([])
            length = 0
        lines[-1].append((text, word["effect"]))
        length += len(text) + 1
    return lines


def _words(axes: Axes, lines: list[list[tuple[str, float]]], bound: float) -> None:
    norm = Normalize(-bound, bound)
    axes.set(xlim=(0, _LETTERS), ylim=(len(lines), 0))
    axes.axis("off")
    for row, line in enumerate(lines):
        place = 0
        for text, effect in line:
            width = len(text) + 0.6
            colour = (*SENTIMENT(norm(effect))[:3], min(1.0, abs(effect) / bound))
            axes.barh(row + 0.5, width, left=place, height=0.8, color=[colour])
            axes.text(place + width / 2, row + 0.5, text, ha="center", va="center", fontsize=8)
            place += len(text) + 1


def _strip(axes: Axes, modality: str, stretches: list[Mapping[str, Any]], norm: Normalize) -> None:
    for stretch in stretches:
        start, end = stretch["steps"]
        axes.barh(0, end - start, left=start, height=1, color=[SENTIMENT(norm(stretch["effect"]))])
    axes.set(yticks=[0], yticklabels=[modality], xlim=(0, stretches[-1]["steps"][1]), ylim=(-0.5, 0.5))
    axes.set_xlabel("steps")
    axes.spines[:].set_visible(False)
