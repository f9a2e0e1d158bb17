"""The tables of a study before they are set in any language: the papers' columns, lines, footnotes."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from msa_jax.metrics import LOWER_IS_BETTER, METRIC_NAMES, NUMBERS, REGRESSION_KEYS
from msa_jax.studies.grid import FOLD, Study
from msa_jax.studies.results import RowResults, StudyResults
from msa_jax.studies.statistics import LEVEL, Statistics
from msa_jax.training import watched

#: The axis whose choices have a table each.
DATA = "data"
#: What stands where there is no figure.
NONE = "\N{EN DASH}"
#: The papers' double columns.
_HAS0_NON0: dict[str, tuple[str, ...]] = {
    "Acc-2 has0/non0": ("acc2_has0", "acc2_non0"),
    "F1 has0/non0": ("f1_has0", "f1_non0"),
}
#: Repeated in the table of classes under another name.
_REPEATED = ("accuracy", "f1_weighted")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One metric of one row.

    Attributes:
      key: the metric.
      mean: over seeds; None where there is none.
      deviation: the sample's, divided by S - 1; None for one seed.
      place: 1 for the best of the column as printed, 2 for the second best, 0 for the rest.
      mark: see :attr:`msa_jax.studies.statistics.Comparison.mark`.
    """

    key: str
    mean: float | None
    deviation: float | None = None
    place: int = 0
    mark: str = ""

    @property
    def text(self) -> str:
        """Such as "78.86 ± 0.52"."""
        if self.deviation is None:
            return figure(self.key, self.mean)
        return f"{figure(self.key, self.mean)} ± {figure(self.key, self.deviation)}"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
      title: such as "Acc-2 has0/non0".
      keys: the metrics that it shows, parted by strokes.
      has_target: whether a column of the paper's figures stands beside it.
    """

    title: str
    keys: tuple[str, ...]
    has_target: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
      row: its choices on all axes but the seed.
      labels: of the table's axes; with the number of seeds where it is smaller than other rows'.
      entries: per column an entry per key.
      targets: per column the paper's figure per key, None for none.
      parameters: of the model.
      operations: multiplications and additions per clip, where they are known.
      seconds: of training, the mean over seeds.
    """

    row: tuple[str, ...]
    labels: tuple[str, ...]
    entries: tuple[tuple[Entry, ...], ...]
    targets: tuple[tuple[float | None, ...], ...]
    parameters: int
    operations: int | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one data set that have the same columns.

    Attributes:
      data: the data set, "" for a study without an axis of them.
      axes: names of the labels.
      columns: of figures.
      lines: in the order of the study.
      kind: what its figures are; "" for those of the epoch that the validation split picked.
    """

    data: str
    axes: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    kind: str = ""

    @property
    def heading(self) -> str:
        """Data set and kind, "" for a table that needs none."""
        return ": ".join(filter(None, (self.data, self.kind)))

    @property
    def has_operations(self) -> bool:
        """Whether any line knows its operations."""
        return any(line.operations is not None for line in self.lines)


def figure(key: str, value: float | None, sign: str = "") -> str:
    """A metric without its unit: shares in percent with two decimals, MAE, Corr and their like with three."""
    if value is None:
        return NONE
    return f"{value:{sign}.3f}" if key in NUMBERS else f"{100 * value:{sign}.2f}"


def lay_out(
    study: Study,
    results: StudyResults,
    statistics: Statistics,
    operations: Mapping[tuple[str, ...], int] | None = None,
) -> list[Table]:
    """The tables of a study, one per data set and kind of metrics.

    Args:
      study: as declared.
      results: of its finished cells.
      statistics: of these results.
      operations: row -> multiplications and additions per clip.
    """
    axes = study.axes()
    place, fold = (axes.index(name) if name in axes else None for name in (DATA, FOLD))
    groups: dict[tuple[str, tuple[tuple[str, ...], ...]], list[RowResults]] = {}
    for row in results.rows.values():
        data = "" if place is None else row.labels[place]
        groups.setdefault((data, _keys(row)), []).append(row)
    shown = [k for k in range(len(axes)) if k != place] or list(range(len(axes)))
    most = max((len(row.seeds) for row in results.rows.values()), default=0)
    tables = []
    for (data, kind), rows in groups.items():
        columns = _columns(kind, rows, study)
        lines = [
            Line(
                row=row.labels,
                labels=_labels(study, row, most, shown),
                entries=entries,
                targets=tuple(
                    tuple(study.targets.get(row.labels, {}).get(key) for key in column.keys)
                    for column in columns
                ),
                parameters=row.parameters,
                operations=(operations or {}).get(row.labels),
                seconds=float(row.seconds.mean()),
            )
            for row, entries in zip(rows, _entries(rows, columns, statistics, fold), strict=True)
        ]
        tables.append(Table(data, tuple(axes[k] for k in shown), columns, tuple(lines)))
    return tables


def lay_out_watched(study: Study, results: StudyResults, statistics: Statistics) -> list[Table]:
    """As :func:`lay_out`, of each seed's best test epoch where it was watched; with nothing compared."""
    rows = {
        labels: dataclasses.replace(row, metrics=row.watched)
        for labels, row in results.rows.items()
        if row.watched
    }
    plain = dataclasses.replace(study, targets={}, base={})
    alone = dataclasses.replace(statistics, comparisons={})
    tables = lay_out(plain, dataclasses.replace(results, rows=rows), alone)
    return [dataclasses.replace(table, kind=watched.LABEL) for table in tables]


def as_text(
    table: Table, escape: Callable[[str], str], entry: Callable[[Entry], str]
) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table in some language.

    Args:
      table: to be set.
      escape: makes text that the language shows as it is.
      entry: sets one figure.
    """
    header = list(table.axes)
    for column in table.columns:
        header += [column.title] + ["printed"] * column.has_target
    header += ["parameters"] + ["operations per clip"] * table.has_operations + ["seconds"]
    rows = []
    for line in table.lines:
        row = [escape(label) for label in line.labels]
        for column, entries, targets in zip(table.columns, line.entries, line.targets, strict=True):
            row.append(" / ".join(entry(one) for one in entries))
            if column.has_target:
                printed = (figure(key, value) for key, value in zip(column.keys, targets, strict=True))
                row.append(escape(" / ".join(printed)))
        row.append(f"{line.parameters:,}")
        if table.has_operations:
            row.append(escape(NONE) if line.operations is None else f"{line.operations:,}")
        rows.append([*row, f"{line.seconds:.0f}"])
    return [escape(title) for title in header], rows


def _keys(row: RowResults) -> tuple[tuple[str, ...], ...]:
    """The keys of a row's columns, in the papers' order."""
    keys = row.metric_keys
    if keys == REGRESSION_KEYS["mosi"]:
        return (*_HAS0_NON0.values(), ("acc7",), ("mae",), ("corr",))
    if "acc3" in keys and row.class_names:
        single = [
            (key,)
            for key in keys
            if key not in _REPEATED and not key.startswith(("acc2", "f1_has", "f1_non"))
        ]
        return (*single[:2], *_HAS0_NON0.values(), *single[2:])
    return tuple((key,) for key in keys)


def _columns(
    kind: tuple[tuple[str, ...], ...], rows: Sequence[RowResults], study: Study
) -> tuple[Column, ...]:
    """The columns, with those that only a printed figure asks for."""
    printed = {key for row in rows for key in study.targets.get(row.labels, {})}
    shown = {key for keys in kind for key in keys}
    asked = [(key,) for key in rows[0].metric_keys if key in printed and key not in shown]
    before = next((k for k, keys in enumerate(kind) if keys == ("mae",)), len(kind))
    titles = {keys: title for title, keys in _HAS0_NON0.items()}
    return tuple(
        Column(titles.get(keys) or METRIC_NAMES[keys[0]], keys, not printed.isdisjoint(keys))
        for keys in (*kind[:before], *asked, *kind[before:])
    )


def _entries(
    rows: Sequence[RowResults], columns: Sequence[Column], statistics: Statistics, fold: int | None
) -> list[tuple[tuple[Entry, ...], ...]]:
    """Per row and column the entries, with the best two of each metric.

    Where a label of the rows is their ``fold``, only rows of the same one compete: others have other clips.
    """
    clips = ["" if fold is None else row.labels[fold] for row in rows]
    of_key: dict[str, list[Entry]] = {}
    for key in dict.fromkeys(key for column in columns for key in column.keys):
        plain = [_entry(row, key, statistics) for row in rows]
        sign = 1 if key in LOWER_IS_BETTER else -1
        printed = [None if e.mean is None else sign * float(figure(key, e.mean)) for e in plain]
        places: dict[tuple[str, float | None], int] = {}
        for tested in dict.fromkeys(clips):
            pairs = zip(printed, clips, strict=True)
            order = sorted({value for value, at in pairs if value is not None and at == tested})
            if len(order) > 1:  # where all rows are equal none is the best
                places |= {(tested, value): place for place, value in enumerate(order[:2], start=1)}
        of_key[key] = [
            dataclasses.replace(entry, place=places.get((at, value), 0))
            for entry, value, at in zip(plain, printed, clips, strict=True)
        ]
    return [
        tuple(tuple(of_key[key][k] for key in column.keys) for column in columns) for k in range(len(rows))
    ]


def _entry(row: RowResults, key: str, statistics: Statistics) -> Entry:
    values = row.metrics.get(key)
    if values is None or np.isnan(values).any():
        return Entry(key, None)
    compared = statistics.comparisons.get((row.labels, key))
    return Entry(
        key,
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else None,
        mark=compared.mark if compared else "",
    )


def _labels(study: Study, row: RowResults, most: int, shown: Sequence[int]) -> tuple[str, ...]:
    """The labels that a table shows, the last one with what sets the row apart."""
    labels = [row.labels[k] for k in shown]
    if any(study.base_of(other) == row.labels for other in study.rows()):
        labels[-1] += " (base)"
    if (count := len(row.seeds)) < most:
        labels[-1] += f" ({count} seed{'s' * (count > 1)})"
    return tuple(labels)


def footnotes(
    study: Study,
    results: StudyResults,
    statistics: Statistics,
    second: str,
    operations: Mapping[tuple[str, ...], int] | None = None,
) -> list[str]:
    """What a reader must know of the tables, a sentence or two each.

    Args:
      study: as declared.
      results: of its finished cells.
      statistics: of these results.
      second: how the second best figure is set, "underlined".
      operations: row -> multiplications and additions per clip.
    """
    notes = [
        "Mean ± sample deviation over seeds, test split; shares in percent. The best of a column is bold, "
        f"the second best {second}, both as rounded here."
    ]
    if any(cell.folds for cell in study.cells):
        notes.append(
            'Rows "pooled" are measured on the test predictions of all folds together, for each seed. Only '
            "rows of the same fold, or pooled rows, are held against each other."
        )
    notes += results.notes
    if statistics.comparisons:
        notes += _of_marks(study, statistics)
    if study.targets:
        notes.append(f'Columns headed "printed" have the figures of {study.source or "the paper"}.')
    undefined = [
        f"{METRIC_NAMES[key]} of {', '.join(row.labels)}"
        for row in results.rows.values()
        for key in row.metric_keys
        if np.isnan(row.metrics[key]).any()
    ]
    if undefined:
        notes.append(
            "Not defined for some seed, as the correlation of constant predictions is not: "
            f"{'; '.join(undefined)}."
        )
    if operations:
        notes.append("Operations are multiply-accumulates of one clip at full length, one a product.")
        uncounted = [", ".join(row) for row in results.rows if row not in operations]
        if uncounted:
            notes.append(f"Operations could not be counted for {'; '.join(uncounted)}.")
    notes += statistics.notes
    unfinished = [name for name, why in results.left_out.items() if why == "not finished"]
    if unfinished:
        notes.append(f"Not finished and left out: {', '.join(unfinished)}.")
    notes += [f"Left out: {name}: {why}" for name, why in results.left_out.items() if name not in unfinished]
    return [*notes, study.note] if study.note else notes


def _of_marks(study: Study, statistics: Statistics) -> Iterable[str]:
    """What the daggers mean and what p the tests can reach at all."""
    compared = list(statistics.comparisons.values())
    resamples = statistics.bootstrap.resamples
    base = ", ".join(f"{axis} {choice}" for axis, choice in study.base.items())
    yield (
        f"† differs from the row with {base} at {LEVEL} by a bootstrap over seeds and clips ({resamples} "
        f"resamples, generator seed {statistics.bootstrap.seed}); †† by Wilcoxon's signed-rank test over "
        "paired seeds too. Both after Holm's correction for all comparisons of a metric."
    )
    sizes = [sum(one.metric == other.metric for other in compared) for one in compared]
    least: dict[int, int] = {}
    for one, size in zip(compared, sizes, strict=True):
        if one.wilcoxon_least is not None:
            least[one.pairs] = max(size, least.get(one.pairs, 0))
    for pairs, size in least.items():
        p = 2 / 2**pairs
        reach = f"{p:.3g}, {min(1.0, p * size):.3g} after correction for {size} comparisons"
        yield (
            f"The smallest p that Wilcoxon's test can reach with {pairs} pairs of seeds is {reach}"
            + (": †† cannot occur." if min(1.0, p * size) >= LEVEL else ".")
        )
    smallest = 2 / (resamples + 1) * max(sizes)
    if smallest >= LEVEL:
        yield f"The bootstrap's smallest p after correction is {smallest:.3g}: † asks for more resamples."
