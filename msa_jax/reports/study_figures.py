"""The figures of a study's page, as painters for :func:`msa_jax.reports.figures.draw`."""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from msa_jax.reports.figures import INK, ONE, TWO

#: Letters of a line of a name in a figure, which has two; the tables have all.
_LETTERS = 22


@dataclasses.dataclass(frozen=True)
class Difference:
    """A row's difference from its base.

    Attributes:
      name: of the row.
      mean: of the seeds' differences, in the figure's unit.
      low: where the interval begins; None where there is none.
      high: where it ends.
      better: whether the mean speaks for the row.
      mark: "†", "††" or "".
    """

    name: str
    mean: float
    low: float | None
    high: float | None
    better: bool
    mark: str


def height_of(rows: int) -> float:
    """Inches for a figure with so many rows of words."""
    return 1.1 + 0.32 * rows


def _short(name: str) -> str:
    """The name in one line, or in two of which the second may be cut."""
    first, *rest = textwrap.wrap(name, _LETTERS) or [""]
    second = " ".join(rest)
    second = second if len(second) <= _LETTERS else second[: _LETTERS - 1] + "…"
    return f"{first}\n{second}" if second else first


def seed_curves(
    panels: Sequence[Axes],
    train: np.ndarray,
    valid: np.ndarray,
    score: np.ndarray,
    epochs: np.ndarray,
    score_name: str,
    limits: tuple[float, float] | None,
) -> None:
    """The losses of all seeds in the upper panel, a validation metric in the lower one.

    A line is the mean of the seeds and its band reaches from the lowest to the highest. Where a seed has
    ended, the line goes on thin, as the mean of those that were still trained; ticks at the foot mark where
    seeds ended.

    Args:
      panels: the two axes.
      train: training loss by epoch, float64 [S, E]; NaN where a seed has none.
      valid: the validation loss likewise.
      score: the validation metric likewise.
      epochs: int [S], after how many epochs each seed ended.
      score_name: of the metric.
      limits: of the lower panel; None for its own.
    """
    upper, lower = panels
    for axes, label, colour, dashes, values in (
        (upper, "training", ONE, "-", train),
        (upper, "validation", TWO, "--", valid),
        (lower, "validation", TWO, "--", score),
    ):
        _band(axes, values, int(epochs.min()), label, colour, dashes)
    upper.set_ylabel("loss")
    lower.set_ylabel(score_name)
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if limits:
        lower.set_ylim(*limits)
    if len(set(epochs.tolist())) > 1:
        foot = lower.get_xaxis_transform()  # epochs from left to right, shares of the panel upwards
        lower.plot(epochs, np.full(len(epochs), 0.03), "|", color=INK, ms=9, mew=1.4, transform=foot)
    if upper.lines:
        upper.legend(ncols=2)


def _band(axes: Axes, values: np.ndarray, together: int, label: str, colour: str, dashes: str) -> None:
    """The mean of values [S, E] with its band; thin after the epochs that all seeds were trained."""
    known = ~np.isnan(values)
    some = known.any(axis=0)
    if not some.any():
        return
    epoch = np.arange(1, values.shape[1] + 1)
    count = np.where(some, known.sum(axis=0), 1)
    mean = np.where(some, np.where(known, values, 0).sum(axis=0) / count, np.nan)
    if len(values) > 1:
        low = np.where(some, np.where(known, values, np.inf).min(axis=0), np.nan)
        high = np.where(some, np.where(known, values, -np.inf).max(axis=0), np.nan)
        axes.fill_between(epoch, low, high, color=colour, alpha=0.18, linewidth=0)
    marker = "o" if together < 3 else None
    axes.plot(epoch[:together], mean[:together], dashes, color=colour, label=label, marker=marker, ms=4)
    if together < len(epoch):
        start = max(together - 1, 0)
        axes.plot(epoch[start:], mean[start:], dashes, color=colour, lw=0.8)


def intervals(axes: Axes, differences: Sequence[Difference], name: str) -> None:
    """A bar and an interval for every difference from the base, the first one at the top.

    Args:
      axes: where to draw.
      differences: of the rows.
      name: of the axis from left to right.
    """
    places = np.arange(len(differences))[::-1]
    for place, one in zip(places.tolist(), differences, strict=True):
        colour = INK if one.mean == 0 else ONE if one.better else TWO
        axes.barh(place, one.mean, height=0.55, color=colour, alpha=0.35, linewidth=0)
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [place, place], color=colour, lw=2)
        # A full dot where the difference counts: colour alone says too little.
        axes.plot(one.mean, place, "o", color=colour, ms=6, mfc=colour if one.mark else "none", mew=1.5)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(places, [f"{_short(one.name)} {one.mark}".rstrip() for one in differences])
    axes.set_ylim(-0.6, len(differences) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(name)


def ranks(
    axes: Axes,
    names: Sequence[str],
    average: np.ndarray,
    critical: float,
    cliques: Sequence[Sequence[str]],
) -> None:
    """Average ranks from the best at the top, the critical difference, and bars that join what is alike.

    Args:
      axes: where to draw.
      names: the K competitors, best first.
      average: float64 [K], their average ranks.
      critical: ranks that differ by less cannot be told apart.
      cliques: the groups of neighbours that cannot be told apart.
    """
    places = np.arange(len(names))[::-1].astype(float)
    axes.hlines(places, 1, average, color=INK, lw=0.8, alpha=0.4)
    axes.plot(average, places, "o", color=ONE, ms=7)
    for place, rank in zip(places, average, strict=True):
        axes.annotate(
            f"{rank:.2f}", (rank, place), xytext=(0, 6), textcoords="offset points", ha="center", size=9
        )
    right = float(average.max()) + 0.04 * len(names)
    for number, clique in enumerate(cliques):
        rows = [places[list(names).index(name)] for name in clique]
        x = right + (number + 1) * 0.05 * len(names)
        axes.plot([x, x], [min(rows) - 0.25, max(rows) + 0.25], color=TWO, lw=4, solid_capstyle="butt")
    top = len(names) + 0.1
    axes.plot([1, 1 + critical], [top, top], color=INK, lw=1.6, marker="|", ms=8)
    axes.annotate(
        f"critical difference {critical:.2f}", (1, top), xytext=(0, 6), textcoords="offset points", size=9
    )
    axes.set_yticks(places, [_short(name) for name in names])
    axes.set_ylim(-0.6, top + 0.7)
    axes.grid(axis="y", visible=False)
    axes.set_xticks(np.arange(1, len(names) + 1, 1 + len(names) // 8))
    axes.set_xlabel("average rank (1 is the best)")
