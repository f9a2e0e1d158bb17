"""The files of a study's table: every seed as CSV, means as Markdown and LaTeX, differences as CSV."""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from msa_jax.files import write_whole
from msa_jax.studies.grid import SEED, Study
from msa_jax.studies.latex import to_latex
from msa_jax.studies.layout import footnotes, lay_out, lay_out_watched
from msa_jax.studies.markdown import to_markdown
from msa_jax.studies.results import StudyResults
from msa_jax.studies.statistics import Comparison, Statistics
from msa_jax.training import watched

#: Fields of a comparison that are figures, in the order of the file.
_FIGURES = [
    field.name for field in dataclasses.fields(Comparison) if field.name not in ("row", "base", "metric")
]


def write_tables(
    study: Study,
    results: StudyResults,
    statistics: Statistics,
    folder: str | pathlib.Path,
    operations: Mapping[tuple[str, ...], int] | None = None,
) -> list[pathlib.Path]:
    """Writes ``table.csv``, ``table.md``, ``table.tex`` and ``table_differences.csv``.

    Args:
      study: as declared.
      results: see :func:`msa_jax.studies.results.read_results`.
      statistics: see :func:`msa_jax.studies.statistics.compare`.
      folder: of the study.
      operations: row -> multiplications and additions per clip.

    Returns:
      The files; the last one only where something is compared.

    Raises:
      RunError: if one cannot be written.
    """
    tables = lay_out(study, results, statistics, operations) + lay_out_watched(study, results, statistics)
    notes = footnotes(study, results, statistics, "in italics", operations)
    contents = {
        "table.csv": seeds_csv(study, results, operations),
        "table.md": to_markdown(study, tables, notes, statistics),
        "table.tex": to_latex(study, tables, footnotes(study, results, statistics, "underlined", operations)),
    }
    if statistics.comparisons:
        contents["table_differences.csv"] = differences_csv(study, statistics)
    for name, text in contents.items():
        write_whole(pathlib.Path(folder) / name, text.encode())
    return [pathlib.Path(folder) / name for name in contents]


def seeds_csv(
    study: Study, results: StudyResults, operations: Mapping[tuple[str, ...], int] | None = None
) -> str:
    """A line per seed of every row: axes, seed, all metrics and losses, parameters, seconds, best epoch.

    The scores of the best test epoch follow where a row has watched it, headed as what they are. Figures are
    not rounded, and what a seed lacks is empty.
    """
    rows = results.rows.values()
    measured = list(dict.fromkeys(key for row in rows for key in (*row.metric_keys, *row.metrics)))
    counted = ["operations"] * bool(operations)
    seen = list(dict.fromkeys(key for row in rows for key in row.watched))
    header = [*study.axes(), SEED, *measured, "parameters", *counted, "seconds", "best_epoch"]
    lines = [[*header, *(f"{watched.LABEL}: {key}" for key in seen)]]
    for row in rows:
        for k, seed in enumerate(row.seeds):
            figures = [row.metrics[key][k] if key in row.metrics else None for key in measured]
            known = [row.parameters, *((operations or {}).get(row.labels) for _ in counted)]
            best_test = [row.watched[key][k] if key in row.watched else None for key in seen]
            values = [*figures, *known, row.seconds[k], row.best_epoch[k], *best_test]
            lines.append([*row.labels, seed, *(_text(value) for value in values)])
    return _csv(lines)


def differences_csv(study: Study, statistics: Statistics) -> str:
    """A line per comparison with all its figures, not rounded, and how it was resampled."""
    axes = study.axes()
    lines = [[*axes, *(f"base {axis}" for axis in axes), "metric", *_FIGURES, "resamples", "generator_seed"]]
    how = [str(statistics.bootstrap.resamples), str(statistics.bootstrap.seed)]
    for one in statistics.comparisons.values():
        figures = [_text(getattr(one, name)) for name in _FIGURES]
        lines.append([*one.row, *one.base, one.metric, *figures, *how])
    return _csv(lines)


def _csv(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _text(value: float | None) -> str:
    """A number as it is, "" for none."""
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value)) if isinstance(value, int | np.integer) else repr(float(value))
