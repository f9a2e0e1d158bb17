"""The tables of a study as Markdown."""

import re
from collections.abc import Sequence

from msa_jax import metrics
from msa_jax.studies.grid import Study
from msa_jax.studies.layout import NONE, Entry, Table, as_text, figure
from msa_jax.studies.statistics import Comparison, Statistics


def to_markdown(study: Study, tables: Sequence[Table], notes: Sequence[str], statistics: Statistics) -> str:
    """A page with the tables, their footnotes, and the differences from the base.

    Args:
      study: as declared.
      tables: see :func:`msa_jax.studies.layout.lay_out`.
      notes: footnotes.
      statistics: of the study.
    """
    parts = [f"# {escape(study.title)}"]
    for table in tables:
        parts += [f"## {escape(table.heading)}"] * bool(table.heading) + [_table(table)]
    parts += ["\n".join(f"- {escape(note)}" for note in notes)]
    if statistics.comparisons:
        parts += ["## Differences", _differences(study, tables, statistics)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_|\[\]<>~#])", r"\\\1", " ".join(text.split()))


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first columns, ``words`` many, hold words and the others figures."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _table(table: Table) -> str:
    header, rows = as_text(table, escape, _entry)
    return grid(header, rows, len(table.axes))


def _entry(entry: Entry) -> str:
    around = ("", "**", "*")[entry.place]
    return f"{around}{entry.text}{around}{entry.mark}"


def _differences(study: Study, tables: Sequence[Table], statistics: Statistics) -> str:
    """A line per row and shown metric."""
    shown = {key for table in tables for column in table.columns for key in column.keys}
    header = [escape(axis) for axis in study.axes()]
    header += ["metric", "difference", "95 % interval", "share better", "bootstrap p (Holm)"]
    header += ["Wilcoxon p (Holm)", "smallest p", "seeds"]
    rows = [
        [*(escape(label) for label in one.row), metrics.METRIC_NAMES[one.metric], *_figures(one)]
        for one in statistics.comparisons.values()
        if one.metric in shown
    ]
    about = (
        "Of each row from its base, by the seeds that both have; shares in percentage points. The interval "
        "and the share of resamples in which the row is better come from the bootstrap."
    )
    return f"{about}\n\n{grid(header, rows, len(study.axes()) + 1)}"


def _figures(one: Comparison) -> list[str]:
    low, high = figure(one.metric, one.low, "+"), figure(one.metric, one.high, "+")
    return [
        figure(one.metric, one.difference, "+"),
        NONE if one.low is None else f"{low} to {high}",
        _number(one.better),
        _corrected(one.bootstrap_p, one.bootstrap_holm),
        _corrected(one.wilcoxon_p, one.wilcoxon_holm),
        _number(one.wilcoxon_least),
        str(one.pairs),
    ]


def _corrected(p: float | None, holm: float | None) -> str:
    return NONE if p is None else f"{_number(p)} ({_number(holm)})"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"
