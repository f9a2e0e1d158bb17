"""The page of a study, ``study.html``: tables, differences, ranks, curves, confusion matrices, cases,
maps."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from msa_jax.files import write_whole
from msa_jax.metrics import LOWER_IS_BETTER, METRIC_NAMES, NUMBERS
from msa_jax.reports import confusion, figures, study_figures, templates
from msa_jax.reports.figures import Drawing
from msa_jax.studies import pairs
from msa_jax.studies.grid import FOLD, Study
from msa_jax.studies.layout import DATA, NONE, Table, figure, footnotes, lay_out
from msa_jax.studies.ranking import Ranking, rank
from msa_jax.studies.results import RowResults, StudyResults
from msa_jax.studies.statistics import Statistics

PAGE = "study.html"


@dataclasses.dataclass(frozen=True)
class Part:
    """What the page shows of one table's rows.

    Attributes:
      table: see :class:`msa_jax.studies.layout.Table`.
      differences: a figure per metric.
      curves: a figure per row.
      confusion: per row its name, what was pooled, and the matrix.
      pair: see :mod:`msa_jax.studies.pairs`.
    """

    table: Table
    differences: list[Drawing]
    curves: list[Drawing]
    confusion: list[tuple[str, str, Mapping[str, Any]]]
    pair: pairs.Pair


def write_page(
    study: Study,
    results: StudyResults,
    statistics: Statistics,
    folder: str | pathlib.Path,
    operations: Mapping[tuple[str, ...], int],
) -> pathlib.Path:
    """Writes ``study.html``, which needs nothing but itself.

    Args:
      study: as declared.
      results: of its finished cells.
      statistics: of these results.
      folder: of the study, with the run folders in ``cells``.
      operations: row -> multiplications and additions per clip.

    Returns:
      Where the page is.

    Raises:
      RunError: if it cannot be written.
    """
    folder = pathlib.Path(folder)
    tables = lay_out(study, results, statistics, operations)
    parts = []
    for number, table in enumerate(tables):
        rows = [results.rows[line.row] for line in table.lines]
        single = [row for row in rows if not _is_pooled(study, row.labels)]  # those that a run stands for
        chosen = {_plain_name(row.labels, table): row for row in pairs.chosen(study, single)}
        pair = pairs.look_at(study, results, chosen, folder / "cells", f"part{number}")
        parts.append(
            Part(
                table=table,
                differences=_differences(table, statistics, number),
                curves=_curves(rows, table, number),
                confusion=_confusion(rows, table),
                pair=pair,
            )
        )
    ranking = _ranking(study, results, tables)
    html = templates.render(
        "study.html",
        study=study,
        synthetic=any(row.synthetic for row in results.rows.values()),
        done=len(study.cells) - len(results.left_out),
        cells=len(study.cells),
        parts=parts,
        notes=footnotes(study, results, statistics, "underlined", operations),
        has={
            name: any(getattr(part, name) for part in parts)
            for name in ("differences", "curves", "confusion")
        },
        ranking=ranking,
        rank_drawing=_rank_drawing(ranking) if ranking else None,
        figure_of=figure,
        dash=NONE,
        lower_is_better=LOWER_IS_BETTER,
    )
    path = folder / PAGE
    write_whole(path, html.encode())
    return path


def _differences(table: Table, statistics: Statistics, number: int) -> list[Drawing]:
    """A figure for each shown metric by which something is compared."""
    drawings = []
    for key in dict.fromkeys(key for column in table.columns for key in column.keys):
        unit = 1 if key in NUMBERS else 100
        rows = [
            study_figures.Difference(
                name=_plain_name(line.row, table),
                mean=unit * one.difference,
                low=None if one.low is None else unit * one.low,
                high=None if one.high is None else unit * one.high,
                better=(one.difference < 0) == (key in LOWER_IS_BETTER),
                mark=one.mark,
            )
            for line in table.lines
            if (one := statistics.comparisons.get((line.row, key)))
        ]
        if not rows:
            continue
        name, less = METRIC_NAMES[key], key in LOWER_IS_BETTER
        svg = figures.draw(
            f"part{number}difference{key.replace('_', '')}",
            f"{name}: differences of {len(rows)} rows from the base, with intervals",
            study_figures.intervals,
            rows,
            "row minus base" if unit == 1 else "row minus base, percentage points",
            height=study_figures.height_of(len(rows)),
        )
        caption = "Better to the left." if less else "Better to the right."
        drawings.append(Drawing(name, caption, Markup(svg)))
    return drawings


def _is_pooled(study: Study, row: tuple[str, ...]) -> bool:
    """Whether a row is measured on all folds together."""
    return any(row == cell.pooled_row for cell in study.cells)


def _plain_name(row: tuple[str, ...], table: Table) -> str:
    """What of a row's labels is not the same in all rows; a setting's value goes with the setting's name.

    Without the data set, which is the heading's.
    """
    of_data = len(row) > len(table.axes) and row[0] == table.data
    labels = row[1:] if of_data else row
    others = [line.row[len(line.row) - len(labels) :] for line in table.lines]
    kept = [k for k, label in enumerate(labels) if any(other[k] != label for other in others)]
    pairs_of = zip(table.axes, labels, strict=True)
    named = [f"{axis.rpartition('.')[2]} {x}" if "." in axis else x for axis, x in pairs_of]
    return ", ".join(named[k] for k in kept) if kept else ", ".join(named)


def _curves(rows: Sequence[RowResults], table: Table, number: int) -> list[Drawing]:
    """A figure for each row whose epochs are known; the metric's scale is the same for all."""
    drawn = [row for row in rows if len(row.epochs)]
    scores = {row.labels: row.history.get(("valid", pairs.main_metric(row))) for row in drawn}
    known = [score[~np.isnan(score)] for score in scores.values() if score is not None]
    values = np.concatenate(known) if known else np.zeros(0)
    limits = None
    if len(values) and np.ptp(values) > 0:
        room = 0.05 * float(np.ptp(values))
        limits = float(values.min()) - room, float(values.max()) + room
    drawings = []
    for place, row in enumerate(drawn):
        name, score = _plain_name(row.labels, table), scores[row.labels]
        none = np.full((len(row.epochs), int(row.epochs.max())), np.nan)
        metric = METRIC_NAMES.get(pairs.main_metric(row), "metric")
        svg = figures.draw(
            f"part{number}curves{place}",
            f"Losses and validation {metric} of {name} by epoch",
            study_figures.seed_curves,
            row.history.get(("train", "loss"), none),
            row.history.get(("valid", "loss"), none),
            none if score is None else score,
            row.epochs,
            metric,
            limits,
            height=4.2,
            panels=2,
        )
        drawings.append(Drawing(name, _of_epochs(row), Markup(svg)))
    return drawings


def _of_epochs(row: RowResults) -> str:
    """How long each seed was trained, and which epoch was kept."""
    several = len(row.seeds) > 1
    ended = ", ".join(map(str, row.epochs.tolist()))
    kept = ", ".join(map(str, row.best_epoch.tolist()))
    seeds = f"Seeds {', '.join(row.seeds)}" if several else f"Seed {row.seeds[0]}"
    return f"{seeds}: {ended} epochs, kept {kept}."


def _confusion(rows: Sequence[RowResults], table: Table) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Per row the finest matrix that its metrics know, the counts of all seeds added up."""
    found = []
    for row in rows:
        per_seed = [
            confusion.matrices(row.metric_set, row.label_range, row.class_names, row.label, prediction)
            for prediction in row.predictions["M"]
        ]
        if not per_seed[0]:
            continue
        finest = max(per_seed[0])
        pooled = np.sum([matrices[finest][0] for matrices in per_seed], axis=0)
        of = f"{len(row.label)} clips, {len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}"
        found.append((_plain_name(row.labels, table), of, confusion.as_table(pooled, per_seed[0][finest][1])))
    return found


def _ranking(study: Study, results: StudyResults, tables: Sequence[Table]) -> Ranking | None:
    """The choices of the largest axis by the metrics that the tables show; of folds the pooled rows."""
    axes = [axis for axis in study.axes() if axis not in (DATA, FOLD)]
    if not axes or not tables:
        return None
    if any(cell.folds for cell in study.cells):
        rows = {labels: row for labels, row in results.rows.items() if _is_pooled(study, labels)}
        results = dataclasses.replace(results, rows=rows)
    place = study.axes().index
    largest = max(axes, key=lambda axis: len({row[place(axis)] for row in results.rows}))
    keys = list(dict.fromkeys(key for table in tables for column in table.columns for key in column.keys))
    return rank(study, results, largest, keys)


def _rank_drawing(ranking: Ranking) -> Drawing:
    svg = figures.draw(
        "ranks",
        f"Average ranks of {len(ranking.names)} choices of {ranking.axis}",
        study_figures.ranks,
        ranking.names,
        ranking.ranks,
        ranking.critical_difference,
        ranking.cliques(),
        height=study_figures.height_of(len(ranking.names)) + 0.5,
    )
    caption = "Those that a bar on the right joins cannot be told apart (Nemenyi, 0.05)."
    return Drawing(f"Average rank of each {ranking.axis}", caption, Markup(svg))
