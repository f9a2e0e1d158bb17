"""The report's section on lost words, frames and modalities, from what ``msa-jax robustness`` wrote."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from msa_jax.metrics import METRIC_NAMES
from msa_jax.reports import figures
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
