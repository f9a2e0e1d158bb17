"""Runs, or the rows of a study, under a protocol of missing data: curves, their sums, tables."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from msa_jax import metrics
from msa_jax.configuration import Config
from msa_jax.data.dataset import Split
from msa_jax.data.opening import load_dataset
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError, RunError
from msa_jax.explain.changed import Changed
from msa_jax.files import read_json, write_whole
from msa_jax.inference import Trained
from msa_jax.messages import LOGGER
from msa_jax.robust import protocols, table
from msa_jax.robust.curves import Curve, measure, summary
from msa_jax.robust.protocols import Protocol
from msa_jax.studies import latex, markdown
from msa_jax.studies.folder import STUDY
from msa_jax.studies.grid import SEED
from msa_jax.studies.layout import Entry
from msa_jax.training import pretrained
from msa_jax.training.best import load_best

ALL = "all"
_TRAIN = "give folders of finished runs, or of a study"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
      protocol: which.
      rates: in place of the published ones.
      each: measure every modality alone too.
      compat: lose what the public code does.
      split: "train", "valid" or "test".
      source: a labelled feature file or store in place of the run's own data.
    """

    protocol: Protocol
    rates: tuple[float, ...] = ()
    each: bool = False
    compat: bool = False
    split: str = "test"
    source: pathlib.Path | None = None

    def curves(self) -> list[tuple[str, tuple[str, ...]]]:
        """Names of the curves, and the modalities that are changed in each."""
        alone = [(m, (m,)) for m in MODALITIES] if self.each and self.protocol.rates else []
        return [(ALL, MODALITIES), *alone]


@dataclasses.dataclass(frozen=True)
class Row:
    """The seeds of one model: S runs.

    Attributes:
      label: what they have in common.
      seeds: their names.
      keys: the metrics.
      curves: of every seed, in the order of :meth:`Asked.curves`.
    """

    label: str
    seeds: tuple[str, ...]
    keys: tuple[str, ...]
    curves: tuple[tuple[Curve, ...], ...]

    def scores(self, curve: int, point: int, key: str) -> np.ndarray:
        """A metric of every seed at one point, [S]."""
        return np.array([seed[curve].points[point].scores.get(key, math.nan) for seed in self.curves])

    def sums(self, curve: int, kind: str, key: str) -> dict[str, np.ndarray]:
        """What sums a curve up, by name, of every seed [S]."""
        found = [summary(seed[curve], kind, key) for seed in self.curves]
        return {name: np.array([one[name] for one in found]) for name in found[0]}


def find_runs(folders: Sequence[pathlib.Path]) -> dict[str, dict[str, pathlib.Path]]:
    """The runs in the folders: label -> seed -> folder.

    A study's finished cells have its labels. Other runs are told apart by their configurations: those that
    differ in the seed alone are one model's.

    Raises:
      RunError: if a folder is neither a run's nor a study's, or two runs have the same label and seed.
    """
    found: dict[str, dict[str, pathlib.Path]] = {}
    for label, seed, folder in _labelled(folders):
        seeds = found.setdefault(label, {})
        if seed in seeds:
            raise RunError(f"{folder} and {seeds[seed]} are both {label} with seed {seed}; name one.")
        seeds[seed] = folder
    if not found:
        raise RunError(f"no cell of {', '.join(map(str, folders))} is finished; run the study first.")
    return found


def _labelled(folders: Sequence[pathlib.Path]) -> Iterator[tuple[str, str, pathlib.Path]]:
    plain: dict[str, list[tuple[str, str, pathlib.Path]]] = {}
    for folder in folders:
        if (folder / STUDY).exists():
            for name, cell in read_json(folder / STUDY, _TRAIN)["cells"].items():
                place = folder / "cells" / name
                if not (place / "result.json").exists():
                    LOGGER.warning("%s is not finished and left out.", name)
                    continue
                labels = {axis: label for axis, label in cell["labels"].items() if axis != SEED}
                yield ", ".join(labels.values()), str(cell["config"]["train"]["seed"]), place
            continue
        if not (folder / "config.json").exists():
            raise RunError(f"{folder} holds neither a run nor a study; {_TRAIN}.")
        config = read_json(folder / "config.json", _TRAIN)
        seed, name = str(config["train"].pop("seed", "")), config["model"].get("name", "model")
        plain.setdefault(name, []).append((json.dumps(config, sort_keys=True), seed, folder))
    for name, runs in plain.items():
        same = len({config for config, _, _ in runs}) == 1
        for _, seed, folder in runs:
            yield (name if same else folder.name), seed, folder


def measure_row(
    label: str, runs: Mapping[str, pathlib.Path], asked: Asked, progress: Callable[[], None]
) -> Row:
    """Measures the seeds of one model.

    Raises:
      MsaJaxError: for a protocol that the runs' data or models cannot have.
    """
    curves = []
    keys: tuple[str, ...] = ()
    for folder in runs.values():
        trained = Trained(folder)
        clips = _clips(trained, asked)
        changed = Changed(trained, clips)

        def score(condition: protocols.Condition, trained=trained, clips=clips, changed=changed):
            prediction = changed.predict(condition.change)["M"]
            return trained.scores(clips, _without_rounding(prediction, trained.spec.label_range))

        measured = []
        for name, only in asked.curves():
            points = protocols.conditions(asked.protocol, changed.clips, asked.rates, only, asked.compat)
            measured.append(measure(name, points, changed.clips, score, progress))
        curves.append(tuple(measured))
        keys = _keys(trained.config, trained.model_spec)
    return Row(label, tuple(runs), keys, tuple(curves))


def _without_rounding(prediction: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scores [N] that differ by rounding alone as one number, so that they have no correlation.

    Clips of which all is lost may have been padded to other lengths, whose sums round otherwise.
    """
    if prediction.ndim > 1 or np.ptp(prediction) > 1e-6 * (limits[1] - limits[0]):
        return prediction
    return np.full_like(prediction, prediction[0])


def _keys(config: Config, spec: DatasetSpec) -> tuple[str, ...]:
    if config.model.task == "classification":
        return metrics.classification_keys(spec.class_names)
    return metrics.regression_keys(spec.metrics, spec.label_range)


def _clips(trained: Trained, asked: Asked) -> Split:
    """The labelled clips that are asked for."""
    if asked.source is not None:
        found, notes = trained.read(asked.source, asked.split, labelled=True)
        for note in notes:
            LOGGER.info("note: %s", note)
        return next(iter(found.values()))
    split = load_dataset(trained.config.data).splits.get(asked.split)
    if split is None or not len(split):
        raise ConfigError(
            f"the data of {trained.workdir} has no {asked.split} split; choose another --split."
        )
    return split


def check(runs: Mapping[str, Mapping[str, pathlib.Path]], asked: Asked) -> None:
    """Raises what the runs' configurations already tell, before any data is read.

    Raises:
      MsaJaxError: for a protocol that a run cannot have, or runs that are measured by different metrics.
    """
    keys: dict[tuple[str, ...], pathlib.Path] = {}
    for folder in (folder for seeds in runs.values() for folder in seeds.values()):
        best = load_best(folder)
        protocols.check(asked.protocol, asked.rates, pretrained.is_tuned(best.config.model))
        keys.setdefault(_keys(best.config, best.model_spec), folder)
    if len(keys) > 1:
        one, other, *_ = keys.values()
        raise ConfigError(f"{one} and {other} are measured by different metrics; ask for them one by one.")


def evaluations(asked: Asked, runs: int) -> int:
    """How many conditions are measured in so many runs."""
    points = len(protocols.SUBSETS) if not asked.protocol.rates else len(asked.rates or asked.protocol.rates)
    return runs * points * len(asked.curves())


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
    kind = asked.protocol.summary
    first = "kept" if not asked.protocol.rates else "rate"
    names = [metrics.METRIC_NAMES[key] for key in rows[0].keys]
    found = []
    for number, (name, _) in enumerate(asked.curves()):
        if len(rows) > 1:
            last = list(rows[0].sums(number, kind, rows[0].keys[0]))
            chosen = "area / range" if "area / range" in last else last[0]
            lines = [
                [row.label, *(_entry(key, row.sums(number, kind, key)[chosen]) for key in row.keys)]
                for row in rows
            ]
            found.append(Sheet(f"{_of(name)}: {chosen}", ["model", *names], lines))
    for row in rows:
        for number, (name, _) in enumerate(asked.curves()):
            labels = [point.label for point in row.curves[0][number].points]
            lines = [
                [label, *(_entry(key, row.scores(number, place, key)) for key in row.keys)]
                for place, label in enumerate(labels)
            ]
            by_key = {key: row.sums(number, kind, key) for key in row.keys}
            for what in by_key[row.keys[0]]:
                lines.append([what, *(_entry(key, by_key[key][what]) for key in row.keys)])
            found.append(Sheet(f"{row.label}, {_of(name).lower()}", [first, *names], lines))
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
