"""The report's figures as inline SVG: no files, no fonts, no global state, same data same bytes."""

import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msa_jax.data.spec import THREE_CLASSES

#: Colours that stand for the page's own, which differ between light and dark.
INK, ONE, TWO = "#010203", "#010204", "#010205"
_PAGE_COLOURS = {INK: "currentColor", ONE: "var(--one)", TWO: "var(--two)"}
#: For lines beyond two; each stands out (3:1) from white as well as from the dark page.
SERIES = ("#3b82c4", "#d9722e", "#2f9e6e", "#a368d8", "#c2528b", "#8a8a2e")
#: Negative to positive, readable on both backgrounds and by the colour-blind.
SENTIMENT = LinearSegmentedColormap.from_list("sentiment", ["#d1495b", "#8d8d8d", "#2e86c1"])

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
    "text.parse_math": False,  # a "$" in a name is a "$"
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}
#: Inches: as wide as a phone, so that the text keeps its size there.
WIDTH, HEIGHT = 4.7, 3.3

#: At most so many points in the t-SNE map and over the density of the scatter plot.
MAX_POINTS = 1000
#: Fewer different vectors make no map.
MIN_POINTS = 10


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's own settings are, for this block only."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": salt})
        yield


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
      title: what it shows, in a few words.
      caption: how to read it.
      svg: the element.
    """

    title: str
    caption: str
    svg: Markup


def draw(
    name: str,
    description: str,
    paint: Callable[..., None],
    *data: Any,
    height: float = HEIGHT,
    panels: int = 1,
) -> str:
    """Draws one figure.

    Args:
      name: unique on the page, made of letters and digits; it starts every id in the figure.
      description: what the figure shows, for those who do not see it.
      paint: called with the axes (a list of them where there are several panels) and ``data``.
      *data: passed on.
      height: in inches.
      panels: how many axes, one below the other with one scale from left to right.

    Returns:
      An ``<svg>`` element.
    """
    with _style(name), warnings.catch_warnings():
        # The page's reader has the letters that the font lacks by which widths are measured here.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(panels, sharex=True)
        paint(axes if panels == 1 else list(axes), *data)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return _inline(buffer.getvalue(), name, description)


def _inline(svg: str, name: str, description: str) -> str:
    """Makes a stand-alone SVG file an element of an HTML page."""
    view = re.search(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style\b.*?</style>"):
        body = re.sub(unwanted, "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    # Matplotlib before 3.11 writes size and family as one.
    body = re.sub(r"(font-family: |font: [^;\"]*?[\d.]+px )[^;\"]*", r"\1system-ui, sans-serif", body)
    for sentinel, colour in _PAGE_COLOURS.items():
        body = body.replace(sentinel, colour)
    box = view[1] if view else ""
    return f'<svg role="img" aria-label="{escape(description)}" viewBox="{box}">{body}'


def curves(
    axes: Axes,
    epochs: list[int],
    train: Mapping[str, list[float]],
    valid: Mapping[str, list[float]],
    best: int,
    ylabel: str,
) -> None:
    """Lines over the epochs: training solid, validation dashed, one colour a name.

    Args:
      axes: where to draw.
      epochs: [E].
      train: by name [E]; NaN leaves a gap.
      valid: by name [E].
      best: the epoch whose model was kept; marked.
      ylabel: what the lines measure.
    """
    names = list(dict.fromkeys([*train, *valid]))
    for kind, lines, dashes in (("training", train, "-"), ("validation", valid, "--")):
        for name, values in lines.items():
            if len(names) == 1:
                label, colour = kind, ONE if kind == "training" else TWO
            else:
                label = name if kind == "training" or name not in train else "_unlisted"
                colour = SERIES[names.index(name) % len(SERIES)]
            marker = "o" if len(epochs) < 4 else None
            axes.plot(epochs, values, label=label, color=colour, ls=dashes, marker=marker)
    axes.axvline(best, color=INK, lw=1.4, ls=":", label=f"best epoch ({best})")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(ncols=1 + len(names) // 5)


def scatter(axes: Axes, label: np.ndarray, prediction: np.ndarray, limits: tuple[float, float]) -> None:
    """Predicted against true scores [N]: density as shaded cells, clips as dots, the diagonal.

    Args:
      axes: where to draw.
      label: true scores.
      prediction: predicted scores.
      limits: the labels' range.
    """
    # Eleven columns: on CH-SIMS each holds one of the eleven labels.
    width = (limits[1] - limits[0]) / 10
    height = width / 2
    low, high = min(limits[0], prediction.min()), max(limits[1], prediction.max())
    x = limits[0] + width * (np.arange(12) - 0.5)
    y = height * np.arange(np.floor(low / height - 0.5), np.ceil(high / height + 0.5) + 1)
    counts, _, _ = np.histogram2d(label, prediction, bins=(x, y))
    filled = np.argwhere(counts)
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
    places = filled[:, None] + corners  # [cells, 4, 2]
    # The square root keeps cells with few clips visible beside full ones.
    shares = np.sqrt(counts[tuple(filled.T)] / counts.max())
    colours = [to_rgba(ONE, 0.1 + 0.75 * share) for share in shares]
    cells = np.stack([x[places[..., 0]], y[places[..., 1]]], axis=-1)
    axes.add_collection(PolyCollection(list(cells), facecolors=colours, linewidths=0))
    shown = _sample(len(label))
    axes.scatter(label[shown], prediction[shown], s=5, color=INK, alpha=0.35, linewidths=0)
    axes.plot(limits, limits, color=INK, lw=1, ls="--", alpha=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set(xlim=x[[0, -1]], ylim=y[[0, -1]], xlabel="true score", ylabel="predicted score")


def _sample(n: int, most: int = MAX_POINTS) -> np.ndarray:
    """Rows to show: all, or ``most`` drawn with a fixed seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def embed(features: np.ndarray, most: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray] | None:
    """A t-SNE map of features (perplexity 30, or a third of the clips where they are few).

    Args:
      features: float [N, F].
      most: how many clips to show at most.

    Returns:
      The rows shown, int [P], and their places, float [P, 2]; None where there is nothing to map:
      fewer than ``MIN_POINTS`` different vectors, or values that are not finite.
    """
    rows = _sample(len(features), most)
    points = np.asarray(features[rows], np.float64)
    if not np.isfinite(points).all() or len(np.unique(points, axis=0)) < MIN_POINTS:
        return None
    # These take a second to import: only where a map is drawn.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = "pca" if points.shape[1] > 1 else "random"
    perplexity = min(30.0, (len(rows) - 1) / 3)
    # One thread: for so few points more threads mostly wait, and the sums stay in one order.
    with threadpool_limits(1):
        mapper = TSNE(perplexity=perplexity, init=start, max_iter=500, random_state=0)
        return rows, mapper.fit_transform(points)


def tsne(
    axes: Axes,
    places: np.ndarray,
    label: np.ndarray,
    limits: tuple[float, float],
    name: str,
    classes: tuple[str, ...] = (),
) -> None:
    """The map [P, 2], coloured by the true scores [P], called ``name``, or by the numbers of classes."""
    if classes:
        limits, name = (0.0, len(classes) - 1.0), "true class"
    ordered = set(classes) <= set(THREE_CLASSES)  # or scores
    colours = SENTIMENT if ordered else matplotlib.colormaps["turbo"]
    norm = Normalize(*limits)
    points = axes.scatter(*places.T, c=label, cmap=colours, norm=norm, s=14, alpha=0.85, linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    figure = axes.get_figure()
    assert figure is not None
    # Solid cells: a gradient would be a picture without a name.
    cells = np.arange(len(classes) + 1) - 0.5 if classes else np.linspace(*limits, 22)
    bar = figure.colorbar(points, ax=axes, label=name, boundaries=cells)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if classes:
        bar.set_ticks(list(range(len(classes))), labels=list(classes))
    else:
        bar.set_ticks(np.linspace(*limits, 5).tolist())
