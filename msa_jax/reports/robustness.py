"""Curves by rate of lost words, frames and modalities: a picture of several runs, a section of a report."""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from msa_jax.messages import LOGGER
from msa_jax.metrics import METRIC_NAMES
from msa_jax.reports import figures
from msa_jax.robust import table
from msa_jax.robust.protocols import PROTOCOLS
from msa_jax.robust.table import Measured


@dataclasses.dataclass(frozen=True)
class Section:
    """One protocol on the page.

    Attributes:
      title: its name.
      about: what is lost, in one sentence; "" for a protocol that this version does not know.
      drawings: curves by rate.
      header: of the table, where there are no rates.
      rows: of the table.
    """

    title: str
    about: str
    drawings: list[figures.Drawing]
    header: list[str]
    rows: list[list[str]]


def read(folder: pathlib.Path) -> list[Measured]:
    """What was measured of the run in a folder; a damaged file is left out, and that is said."""
    found = []
    for path in sorted((folder / table.FOLDER).glob(f"*/{table.FILE}")):
        try:
            found.append(table.parse(path.parent.name, path.read_bytes()))
        except (OSError, ValueError, csv.Error) as error:
            LOGGER.warning("%s is left out: it is not what msa-jax robustness writes (%s).", path, error)
    return found


def section(measured: Measured, keys: Sequence[str], written: Callable[[str, float], str]) -> Section:
    """One protocol for the page.

    Args:
      measured: what was read.
      keys: metrics to be drawn, or to be columns.
      written: a metric and its value as text.
    """
    known = PROTOCOLS.get(measured.protocol)
    about = known.about if known else ""
    by_rate = any(row["rate"] for rows in measured.curves.values() for row in rows)
    if by_rate:
        drawings = [_drawing(measured, key) for key in keys]
        return Section(measured.protocol, about, drawings, [], [])
    header = ["kept", *(METRIC_NAMES[key] for key in keys)]
    points = next(iter(measured.curves.values()))
    rows = [[p["condition"], *(written(key, _number(p.get(key, ""))) for key in keys)] for p in points]
    return Section(measured.protocol, about, [], header, rows)


def _drawing(measured: Measured, key: str) -> figures.Drawing:
    name = METRIC_NAMES[key]
    lines = {
        changed: ([_number(row["rate"]) for row in rows], [_number(row.get(key, "")) for row in rows])
        for changed, rows in measured.curves.items()
    }
    noise = measured.protocol == "noise"
    svg = figures.draw(
        f"robust{measured.protocol.replace('_', '')}{key.replace('_', '')}",
        f"{name} by rate under {measured.protocol}",
        _paint,
        lines,
        "signal over noise, dB" if noise else "rate",
        name,
        noise,
    )
    caption = "Of the test split." if len(lines) == 1 else "All modalities changed, and each alone."
    return figures.Drawing(f"{name} by rate", caption, Markup(svg))


@dataclasses.dataclass(frozen=True)
class Band:
    """A curve of several runs.

    Attributes:
      rates: [P].
      mean: of the runs, [P]; NaN leaves a gap.
      deviation: of the runs, [P]; 0 for one.
    """

    rates: Sequence[float]
    mean: np.ndarray
    deviation: np.ndarray


def picture(panels: Mapping[str, Mapping[str, Band]], xlabel: str, falling: bool) -> bytes:
    """An SVG file with a panel per metric, and in it a line per model with its deviation as a band.

    Args:
      panels: metric's name -> model -> its curve.
      xlabel: below the panels.
      falling: whether rates grow to the left.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "robustness", "text.parse_math": False, "font.size": 9})
        figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
        places = list(figure.subplots(1, len(panels), squeeze=False)[0])
        for axes, (name, bands) in zip(places, panels.items(), strict=True):
            for number, (model, band) in enumerate(bands.items()):
                colour = figures.SERIES[number % len(figures.SERIES)]
                axes.plot(band.rates, band.mean, label=model, color=colour, marker="o", markersize=3)
                low, high = band.mean - band.deviation, band.mean + band.deviation
                axes.fill_between(band.rates, low, high, color=colour, alpha=0.2, lw=0)
            axes.set(xlabel=xlabel, ylabel=name)
            if falling:
                axes.invert_xaxis()
            axes.grid(alpha=0.2)
            axes.spines[["top", "right"]].set_visible(False)
        places[0].legend(frameon=False)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue().encode()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _paint(axes: Axes, lines: Mapping[str, tuple], xlabel: str, ylabel: str, falling: bool) -> None:
    """A line per curve; NaN leaves a gap."""
    for number, (name, (rates, values)) in enumerate(lines.items()):
        colour = figures.ONE if len(lines) == 1 else figures.SERIES[number % len(figures.SERIES)]
        # Curves may coincide: the first lies wide below the others.
        wide = {"lw": 5, "alpha": 0.4} if number == 0 and len(lines) > 1 else {}
        axes.plot(rates, values, label=name, color=colour, marker="o", markersize=3, **wide)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if falling:  # the noise grows to the right
        axes.invert_xaxis()
    if len(lines) > 1:
        axes.legend()
