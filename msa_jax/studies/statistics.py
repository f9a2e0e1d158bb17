"""Every row of a study against its base: differences that hold for a handful of seeds.

Two views of each difference. The bootstrap (:mod:`msa_jax.studies.bootstrap`) asks what other seeds and other
clips of the same kind would give. Wilcoxon's signed-rank test asks whether the seeds agree on the sign; with
n pairs of seeds it cannot reach a p below 2 / 2^n, 0.0625 for five. Both are corrected by Holm's method for
all comparisons of a metric in the table.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from msa_jax import metrics
from msa_jax.studies.bootstrap import Bootstrap
from msa_jax.studies.grid import Study
from msa_jax.studies.results import RowResults, StudyResults

#: From which corrected p on a difference counts.
LEVEL = 0.05
#: Values are told apart to so many digits: equal shares of clips must tie whatever way they were added up.
DIGITS = 12
#: Up to so many pairs every choice of signs is tried; with more, ties matter little.
_MOST_EXACT = 13


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One metric of a row against its base, seed by seed.

    Attributes:
      row: its labels.
      base: the labels of the row that it is compared with.
      metric: ours.
      pairs: n, how many seeds both have.
      difference: the mean over these seeds of row - base, in the metric's unit.
      low: where 95 % of the bootstrap's differences begin; None where it cannot be computed.
      high: where they end.
      better: the share of resamples in which the row is better, ties counted half.
      bootstrap_p: two-sided, of no difference.
      bootstrap_holm: the same after Holm's correction.
      wilcoxon_p: two-sided and exact; None for a single pair.
      wilcoxon_least: the smallest p that so many pairs can reach, 2 / 2^n.
      wilcoxon_holm: ``wilcoxon_p`` after Holm's correction.
    """

    row: tuple[str, ...]
    base: tuple[str, ...]
    metric: str
    pairs: int
    difference: float
    low: float | None = None
    high: float | None = None
    better: float | None = None
    bootstrap_p: float | None = None
    bootstrap_holm: float | None = None
    wilcoxon_p: float | None = None
    wilcoxon_least: float | None = None
    wilcoxon_holm: float | None = None

    @property
    def mark(self) -> str:
        """After correction: "†" if the bootstrap finds a difference, "††" if both tests do, else ""."""
        if self.bootstrap_holm is None or self.bootstrap_holm >= LEVEL:
            return ""
        return "††" if self.wilcoxon_holm is not None and self.wilcoxon_holm < LEVEL else "†"


@dataclasses.dataclass(frozen=True)
class Statistics:
    """All comparisons of a study.

    Attributes:
      comparisons: by row and metric, in the order of the table.
      bootstrap: how they were resampled.
      notes: sentences on what could not be computed.
    """

    comparisons: Mapping[tuple[tuple[str, ...], str], Comparison]
    bootstrap: Bootstrap
    notes: tuple[str, ...] = ()


def compare(study: Study, results: StudyResults, bootstrap: Bootstrap | None = None) -> Statistics:
    """Compares every row with its base, by the seeds that both have.

    Args:
      study: says which row is which one's base.
      results: of its finished cells.
      bootstrap: how to resample.
    """
    bootstrap = bootstrap or Bootstrap()
    notes: dict[str, None] = {}
    found: dict[tuple[tuple[str, ...], str], Comparison] = {}
    measured: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for row in results.rows.values():
        base_labels = study.base_of(row.labels)
        if base_labels is None:
            continue
        base = results.rows.get(base_labels)
        if base is None or (obstacle := _obstacle(row, base)):
            why = obstacle if base else "none of its seeds is finished"
            notes[f"{_name(row.labels)} is not compared with {_name(base_labels)}: {why}."] = None
            continue
        for one in (row, base):
            if one.labels not in measured:
                measured[one.labels] = bootstrap.measure(one)
        sides = (measured[row.labels], measured[base.labels])
        for comparison in _compared(row, base, sides, bootstrap, notes):
            found[row.labels, comparison.metric] = comparison
    return Statistics(_corrected(found), bootstrap, tuple(notes))


def _obstacle(row: RowResults, base: RowResults) -> str:
    """Why two rows cannot be compared, or ""."""
    if row.ids != base.ids:
        return "they were tested on different clips"
    if row.class_names == base.class_names and not np.array_equal(row.label, base.label):
        return "their clips have different labels"
    return "" if set(row.seeds) & set(base.seeds) else "they have no seed in common"


def _compared(
    row: RowResults,
    base: RowResults,
    sides: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    bootstrap: Bootstrap,
    notes: dict[str, None],
) -> Iterator[Comparison]:
    """The comparisons of a pair of rows, not yet corrected; ``sides`` are their resampled metrics."""
    here = f"{_name(row.labels)} against {_name(base.labels)}"
    seeds = [seed for seed in row.seeds if seed in base.seeds]
    if len(seeds) < max(len(row.seeds), len(base.seeds)):
        notes[f"{here}: by the {len(seeds)} seeds that both have."] = None
    if len(seeds) == 1:
        notes[
            f"{here}: one seed, so the interval is of other clips alone, and no test over seeds is possible."
        ] = None
    mine, theirs = ([one.seeds.index(seed) for seed in seeds] for one in (row, base))
    for key in row.metric_keys:
        if key not in base.metric_keys:
            notes[f"{here}: {_title(key)} is not compared, {_name(base.labels)} has none."] = None
            continue
        values, base_values = row.metrics[key][mine], base.metrics[key][theirs]
        if np.isnan(values).any() or np.isnan(base_values).any():
            notes[f"{here}: {_title(key)} is not compared, a seed has none (all predictions equal, say)."] = (
                None
            )
            continue
        resampled = bootstrap.differences(sides[0][key][:, mine], sides[1][key][:, theirs])
        known = resampled[~np.isnan(resampled)]
        if lost := len(resampled) - len(known):
            notes[f"{here}: {lost} of {len(resampled)} resamples have no {_title(key)}, left out."] = None
        differences = np.round(values - base_values, DIGITS)
        yield Comparison(
            row=row.labels,
            base=base.labels,
            metric=key,
            pairs=len(seeds),
            difference=float((values - base_values).mean()),
            **_of_resamples(known, key in metrics.LOWER_IS_BETTER),
            **_of_seeds(differences),
        )


def _of_resamples(differences: np.ndarray, lower_is_better: bool) -> dict[str, float]:
    """The interval, share and p of resampled differences [R]; nothing without any."""
    if not len(differences):
        return {}
    low, high = np.quantile(differences, (0.025, 0.975))
    rounded = np.round(differences, DIGITS)
    ties = np.count_nonzero(rounded == 0)
    above = np.count_nonzero(rounded > 0) + ties / 2
    below = len(rounded) - above
    # The sample itself counts as one more resample, so that no p is 0.
    p = min(1.0, float(2 * (min(above, below) + 1) / (len(rounded) + 1)))
    better = float(below if lower_is_better else above) / len(rounded)
    return {"low": float(low), "high": float(high), "better": better, "bootstrap_p": p}


def _of_seeds(differences: np.ndarray) -> dict[str, float]:
    """Wilcoxon's p of differences [S] and the smallest one of so many; nothing for a single one."""
    count = len(differences)
    if count < 2:
        return {}
    return {"wilcoxon_p": wilcoxon(differences), "wilcoxon_least": 2 / 2**count}


def wilcoxon(differences: np.ndarray) -> float:
    """The two-sided p of Wilcoxon's signed-rank test.

    Differences of 0 are left out, as Wilcoxon did; where one or none is left, p is 1.

    Args:
      differences: float64 [S].
    """
    left = differences[differences != 0]
    if len(left) < 2:
        return 1.0
    # SciPy's own exact p knows no ties, which shares of a few hundred clips often have.
    signs = scipy.stats.PermutationMethod(n_resamples=2**_MOST_EXACT)
    method: Any = signs if len(left) <= _MOST_EXACT else "auto"
    found: Any = scipy.stats.wilcoxon(left, method=method)
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values of one family by Holm's step-down method (Holm 1979), in the order given."""
    count = len(p_values)
    corrected = [0.0] * count
    largest = 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _corrected(
    found: Mapping[tuple[tuple[str, ...], str], Comparison],
) -> dict[tuple[tuple[str, ...], str], Comparison]:
    """The comparisons with Holm's correction, each metric a family."""
    corrected = dict(found)
    for metric in dict.fromkeys(metric for _, metric in found):
        for test in ("bootstrap", "wilcoxon"):
            family = {
                place: p
                for place, one in found.items()
                if place[1] == metric and (p := getattr(one, f"{test}_p")) is not None
            }
            for place, p in zip(family, holm(list(family.values())), strict=True):
                corrected[place] = dataclasses.replace(corrected[place], **{f"{test}_holm": p})
    return corrected


def _name(labels: Iterable[str]) -> str:
    return ", ".join(labels)


def _title(key: str) -> str:
    return metrics.METRIC_NAMES.get(key, key)
