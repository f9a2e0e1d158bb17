"""Two rows of a study looked at closely, base and best: single clips, and maps of their features."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from markupsafe import Markup

from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import MsaJaxError
from msa_jax.metrics import LOWER_IS_BETTER
from msa_jax.reports import figures
from msa_jax.reports.cases import Cases, pick
from msa_jax.reports.clips import tested_clips
from msa_jax.reports.figures import Drawing
from msa_jax.reports.run import Run, read_run
from msa_jax.studies.grid import SEED, Study
from msa_jax.studies.results import RowResults, StudyResults

#: Clips in a table of cases.
CASES = 10
#: Points in a map: a page has eight of them for each data set.
_POINTS = 500
#: What a modality's vector is called among a model's features; MISA has two and this is its own one.
_VECTORS = ("{}", "private_{}")


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the two rows.

    Attributes:
      name: of the row.
      seed: whose run stands for the row.
      folder: of that run.
      run: what its files say.
    """

    name: str
    seed: str
    folder: pathlib.Path
    run: Run


@dataclasses.dataclass(frozen=True)
class Pair:
    """What the page shows of the two rows.

    Attributes:
      members: base and best, or the best alone where nothing is compared.
      cases: single clips; None where there is no such table.
      maps: a figure for each row and stage.
      notes: what is left out and why, a sentence each.
    """

    members: tuple[Member, ...]
    cases: Cases | None
    maps: tuple[Drawing, ...]
    notes: tuple[str, ...]


def main_metric(row: RowResults) -> str:
    """The metric by which rows are called best: the MAE, or of classes the share that is right."""
    return next((key for key in ("mae", "acc3", "accuracy") if key in row.metric_keys), "")


def chosen(study: Study, rows: list[RowResults]) -> list[RowResults]:
    """The best row by :func:`main_metric`, behind the row that it is compared with where there is one.

    Where the best is a base itself, the best of the rows that are compared with it stands beside it. A row
    of which a seed has no such metric is passed over.
    """

    def value(row: RowResults) -> float:
        key = main_metric(row)
        mean = float(row.metrics[key].mean()) if key else np.nan
        return mean if key in LOWER_IS_BETTER else -mean

    known = sorted((row for row in rows if np.isfinite(value(row))), key=value)
    if not known:
        return []
    best = known[0]
    by_labels = {row.labels: row for row in known}
    base = by_labels.get(study.base_of(best.labels) or ())
    if base is None:
        others = [row for row in known if study.base_of(row.labels) == best.labels]
        return [best, *others[:1]]
    return [base, best]


def look_at(
    study: Study,
    results: StudyResults,
    rows: Mapping[str, RowResults],
    cells: pathlib.Path,
    table: str,
) -> Pair:
    """Looks at the chosen rows of one table.

    Args:
      study: as declared.
      results: of its finished cells.
      rows: see :func:`chosen`; by the names that they have on the page.
      cells: the folder with the run folders.
      table: its name on the page, letters and digits; the figures' ids begin with it.
    """
    first = next(iter(rows.values()), None)
    seeds = [seed for seed in first.seeds if all(seed in r.seeds for r in rows.values())] if first else []
    if not seeds:
        why = "the two rows have no seed in common" if rows else "no row has a value to choose by"
        return Pair((), None, (), (f"Cases and maps are left out: {why}.",))
    members = tuple(
        Member(name, seeds[0], folder, read_run(folder))
        for name, row in rows.items()
        for folder in [cells / _cell(study, results, row, seeds[0])]
    )
    notes: dict[str, None] = {}
    maps = tuple(_maps(members, table, notes))
    return Pair(members, _cases(members, notes), maps, tuple(notes))


def _cell(study: Study, results: StudyResults, row: RowResults, seed: str) -> str:
    """The name of the finished cell of a row and seed; a study without an axis of seeds has one a row."""
    return next(
        cell.name
        for cell in study.cells
        if cell.row == row.labels
        and cell.labels.get(SEED, seed) == seed
        and cell.name not in results.left_out
    )


def _cases(members: tuple[Member, ...], notes: dict[str, None]) -> Cases | None:
    """What the second run gets right and the first wrong; of one run its largest errors."""
    rule = "b_right_a_wrong" if len(members) > 1 else "error"
    names = [member.name for member in members]
    runs = [member.run for member in members]
    try:
        return pick(runs, names, CASES, rule)
    except MsaJaxError as error:
        notes[f"Cases are left out: {error}"] = None
        return None


def _maps(members: tuple[Member, ...], table: str, notes: dict[str, None]) -> Iterator[Drawing]:
    """Fused features first, then each modality's, the rows beside each other."""
    vectors = _vectors(members, notes)
    for stage in ("fusion", *MODALITIES):
        for number, member in enumerate(members):
            features = vectors[number].get(stage)
            if features is None:
                continue
            what = "Fused features" if stage == "fusion" else f"Features of {stage}"
            mapped = figures.embed(features, _POINTS)
            if mapped is None:
                few = f"needs {figures.MIN_POINTS} clips with different, finite features"
                notes[f"{what} of {member.name} are left out: a map {few}."] = None
                continue
            yield _map(member, what, f"{table}{stage}{number}", mapped)


def _vectors(members: tuple[Member, ...], notes: dict[str, None]) -> list[dict[str, np.ndarray]]:
    """Per row the vectors [N, F] of every stage that its model has, and notes on the others."""
    found: list[dict[str, np.ndarray]] = []
    read: dict[str, Split] = {}
    for member in members:
        stages = {"fusion": member.run.fusion}
        try:
            # Rows of a table mostly have the same data, which may be large.
            data = json.dumps([member.run.config["data"], member.run.ids], sort_keys=True)
            if data not in read:
                read[data] = tested_clips(member.run)
            stages |= _unimodal(member, read[data], notes)
        except MsaJaxError as error:
            notes[f"Features of single modalities of {member.name} are left out: {error}"] = None
        found.append(stages)
    return found


def _unimodal(member: Member, split: Split, notes: dict[str, None]) -> Mapping[str, np.ndarray]:
    """What the best model of a run makes of each modality of its test clips."""
    from msa_jax.inference import Trained  # here, not at the top: it starts JAX

    features = Trained(member.folder).features(split)
    names = {m: next((v.format(m) for v in _VECTORS if v.format(m) in features), "") for m in MODALITIES}
    if absent := [m for m, name in names.items() if not name]:
        model = member.run.config["model"].get("name", "the model")
        notes[f"{member.name}: {model} has no vector of {', '.join(absent)} alone, so there is no map."] = (
            None
        )
    return {m: features[name] for m, name in names.items() if name}


def _map(member: Member, what: str, name: str, mapped: tuple[np.ndarray, np.ndarray]) -> Drawing:
    rows, places = mapped
    run = member.run
    total = len(run.label)
    shown = f"all {total}" if len(rows) == total else f"{len(rows)} of {total}"
    classes = run.class_names if run.classifies else ()
    svg = figures.draw(
        name,
        f"Map of {what.lower()} of {member.name}, {shown} test clips",
        figures.tsne,
        places,
        run.label[rows],
        run.spec.label_range,
        "true score",
        classes,
    )
    caption = (
        f"t-SNE of {shown} test clips by their true {'class' if classes else 'score'}, seed {member.seed}."
    )
    return Drawing(f"{what}: {member.name}", caption, Markup(svg))
