"""A picture per clip of what each attention module of a model reads: a heat map per module."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

#: Maps side by side, and the inches of one.
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.4, 2.9
#: With more words along an axis, steps are numbered instead.
_WORDS = 40


def picture(line: Mapping[str, Any]) -> bytes:
    """The maps of a line of ``msa-jax explain --attention`` as SVG, each on its own scale from white to dark.

    Where rows or columns are the text's steps and the line has words, they are named.
    """
    maps = [(one, np.asarray(one["weights"], float)) for one in line["attention"]]
    maps = [(one, weights) for one, weights in maps if weights.size]  # no step, no map
    rows = max(1, -(-len(maps) // _COLUMNS))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "attention", "text.parse_math": False, "font.size": 7})
        figure = Figure(figsize=(_COLUMNS * _WIDTH, rows * _HEIGHT + 0.5), layout="constrained")
        places = figure.subplots(rows, _COLUMNS, squeeze=False).reshape(-1)
        figure.suptitle(f"{line['id']}: what each attention module reads (rows read columns)", fontsize=10)
        words = _words(line)
        for (one, weights), axes in zip(maps, places, strict=False):
            _heat_map(axes, one, weights, words)
        for axes in places[len(maps) :]:
            axes.axis("off")
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue().encode()


def _words(line: Mapping[str, Any]) -> list[str]:
    """The word at each step of the text, "" where there is none; empty if the clip's words have no names."""
    named = ["" for _ in range(line["steps"]["text"])]
    for word in line["words"]:
        if "word" in word and word["steps"][0] < len(named):
            named[word["steps"][0]] = word["word"]
    return named if any(named) else []


def _heat_map(axes: Axes, one: Mapping[str, Any], weights: np.ndarray, words: Sequence[str]) -> None:
    largest = float(np.nanmax(weights)) if np.isfinite(weights).any() else 0.0
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=largest or 1.0, aspect="auto", interpolation="nearest")
    axes.set_title(f"{one['module']}\ndarkest: {largest:.2f}", fontsize=7)
    axes.set(xlabel=one["keys"], ylabel=one["queries"])
    for side, name, count in ((axes.xaxis, one["keys"], 1), (axes.yaxis, one["queries"], 0)):
        steps = weights.shape[count]
        if name == "text" and words and steps == len(words) <= _WORDS:
            side.set_ticks(range(steps), words, rotation=90 * count, fontsize=6)
        else:
            side.set_major_locator(MaxNLocator(integer=True, nbins=6) if steps > 1 else NullLocator())
