"""What curves under a protocol are written as: CSV, Markdown, LaTeX, a picture."""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from msa_jax import metrics
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import RunError
from msa_jax.files import write_whole
from msa_jax.messages import LOGGER
from msa_jax.robust import table
from msa_jax.studies import latex, markdown
from msa_jax.studies.layout import Entry
from msa_jax.studies.robustness import ALL, Asked, Row


def write(rows: Sequence[Row], asked: Asked, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes ``robustness.csv``, ``.md``, ``.tex`` and, of curves by rate, ``.svg``.

    The picture needs the extra [report]; without it there is none, and that is said.

    Args:
      rows: with the same metrics.
      asked: what was measured.
      folder: made if absent.

    Returns:
      The files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; choose another --out.") from error
    contents = {".csv": as_csv(rows), ".md": as_markdown(rows, asked), ".tex": as_latex(rows, asked)}
    files = {suffix: text.encode() for suffix, text in contents.items()}
    if asked.protocol.rates and (drawn := picture(rows, asked)) is not None:
        files[".svg"] = drawn
    paths = {(folder / table.FILE).with_suffix(suffix): content for suffix, content in files.items()}
    for path, content in paths.items():
        write_whole(path, content, "make room, or choose another --out")
    return list(paths)


def picture(rows: Sequence[Row], asked: Asked) -> bytes | None:
    """The curves of all modalities, for MAE and Corr or two metrics of classes; None without [report]."""
    try:
        from msa_jax.reports import robustness
    except ImportError:
        LOGGER.info("note: there is no picture: it needs the extra, pip install 'msa_jax[report]'.")
        return None
    shown = [key for key in ("mae", "corr") if key in rows[0].keys] or list(rows[0].keys[:2])

    def band(row: Row, key: str) -> robustness.Band:
        points = row.curves[0][0].points
        scores = np.stack([row.scores(0, place, key) for place in range(len(points))])  # [P, S]
        deviation = scores.std(axis=1, ddof=1) if len(row.seeds) > 1 else np.zeros(len(points))
        return robustness.Band([p.rate or 0.0 for p in points], scores.mean(axis=1), deviation)

    panels = {metrics.METRIC_NAMES[key]: {row.label: band(row, key) for row in rows} for key in shown}
    noise = asked.protocol.name == "noise"
    return robustness.picture(panels, "signal over noise, dB" if noise else "rate", noise)


def as_csv(rows: Sequence[Row]) -> str:
    """A line per model, seed, curve and point, with unrounded metrics; empty where one is not defined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = rows[0].keys
    lost = [f"lost_{m}" for m in MODALITIES]
    writer.writerow([*table.COLUMNS, *lost, *keys])
    for row in rows:
        for seed, curves in zip(row.seeds, row.curves, strict=True):
            for curve in curves:
                for point in curve.points:
                    rate = "" if point.rate is None else f"{point.rate:.9g}"
                    shares = [f"{point.lost[m]:.6g}" for m in MODALITIES]
                    scores = [point.scores.get(key, math.nan) for key in keys]
                    numbers = [f"{x:.9g}" if math.isfinite(x) else "" for x in scores]
                    writer.writerow([row.label, seed, curve.modalities, point.label, rate, *shares, *numbers])
    return text.getvalue()


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table in plain words."""

    title: str
    header: list[str]
    lines: list[list[str]]


def sheets(rows: Sequence[Row], asked: Asked) -> list[Sheet]:
    """The tables: of several models what sums their curves up, and then every curve."""
    first = "kept" if not asked.protocol.rates else "rate"
    names = [metrics.METRIC_NAMES[key] for key in rows[0].keys]
    found = []
    for number, (name, _) in enumerate(asked.curves()):
        if len(rows) > 1:
            sums = [_sums(row, rows, number, asked) for row in rows]
            for what in [what for what in sums[0] if "/ range" in what] or list(sums[0])[:1]:
                lines = [[row.label, *one[what]] for row, one in zip(rows, sums, strict=True)]
                found.append(Sheet(f"{_of(name)}: {what}", ["model", *names], lines))
    for row in rows:
        for number, (name, _) in enumerate(asked.curves()):
            labels = [point.label for point in row.curves[0][number].points]
            lines = [
                [label, *(_entry(key, row.scores(number, place, key)) for key in row.keys)]
                for place, label in enumerate(labels)
            ]
            lines += [[what, *entries] for what, entries in _sums(row, rows, number, asked).items()]
            found.append(Sheet(f"{row.label}, {_of(name).lower()}", [first, *names], lines))
    return found


def _sums(row: Row, rows: Sequence[Row], curve: int, asked: Asked) -> dict[str, list[str]]:
    """What sums a row's curve up: name -> an entry per metric.

    Where a metric of any row is not defined at the last rates, the rates up to there are summed up by
    themselves too, so that all metrics of all rows stand side by side.
    """
    kind = asked.protocol.summary
    by_key = {key: row.sums(curve, kind, key) for key in row.keys}
    found = {what: [_entry(key, by_key[key][what]) for key in row.keys] for what in by_key[row.keys[0]]}
    points, common = row.curves[0][curve].points, min(other.defined(curve) for other in rows)
    if kind.startswith("area") and asked.protocol.rates and 1 < common < len(points):
        name = f"area / range, {points[0].rate:.3g} to {points[common - 1].rate:.3g}"
        found[name] = [_entry(key, row.sums(curve, "area", key, common)["area / range"]) for key in row.keys]
    return found


def _of(curve: str) -> str:
    return "All modalities" if curve == ALL else f"{curve} alone"


def _entry(key: str, values: np.ndarray) -> str:
    """Mean and deviation over the seeds; "–" where a seed has no figure."""
    if not np.isfinite(values).all():
        return Entry(key, None).text
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return Entry(key, float(values.mean()), deviation).text


def notes(rows: Sequence[Row], asked: Asked) -> list[str]:
    """What a reader of the tables must know."""
    protocol, seeds = asked.protocol, {len(row.seeds) for row in rows}
    where = asked.source or "the data of each run"
    found = [
        f"{protocol.name}: {protocol.about}",
        f"On the {asked.split} split of {where}; shares in percent.",
        "Lost steps keep their place: features there are zero as the model reads them"
        + (", words the unknown token." if protocol.words else "."),
    ]
    if seeds != {1}:
        found.append(
            "Mean ± standard deviation over "
            + (f"{seeds.pop()} seeds." if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)} seeds.")
        )
    grid = ", ".join(f"{rate:.3g}" for rate in asked.rates or protocol.rates)
    if protocol.summary.startswith("area") and grid:
        found.append(
            f"area: by trapezoids over the rates {grid} (AUILC, in units of the metric); area / range: "
            "divided by the range of the rates."
        )
        if any(1 < row.defined(k) < len(c.points) for row in rows for k, c in enumerate(row.curves[0])):
            found.append("Areas that name their rates leave out those at which a metric is not defined.")
    if "loss" in protocol.summary:
        found.append("clean - area: the metric at rate 0 less the area (effective robustness).")
    if asked.compat and protocol.compat:
        found.append(f"By the public code's arithmetic: {protocol.compat_about}")
    if any(math.isnan(score) for row in rows for score in _all_scores(row)):
        found.append("\N{EN DASH}: not defined, as the correlation of constant predictions.")
    return found


def _all_scores(row: Row) -> Iterator[float]:
    for curves in row.curves:
        for curve in curves:
            for point in curve.points:
                yield from (point.scores.get(key, math.nan) for key in row.keys)


def as_markdown(rows: Sequence[Row], asked: Asked) -> str:
    """The tables as Markdown."""
    parts = [f"# Robustness: {asked.protocol.name}"]
    for sheet in sheets(rows, asked):
        escaped = [[markdown.escape(text) for text in line] for line in (sheet.header, *sheet.lines)]
        parts += [f"## {markdown.escape(sheet.title)}", markdown.grid(escaped[0], escaped[1:], 1)]
    parts.append("\n".join(f"- {markdown.escape(note)}" for note in notes(rows, asked)))
    return "\n\n".join(parts) + "\n"


def as_latex(rows: Sequence[Row], asked: Asked) -> str:
    """The tables as LaTeX."""
    tables = [(f"{asked.protocol.name}. {s.title}", s.header, s.lines) for s in sheets(rows, asked)]
    return latex.plain_tables(tables, notes(rows, asked))
