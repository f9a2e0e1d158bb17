"""Many models on several data sets and metrics: ranks, Friedman's test, Nemenyi's critical difference.

Demšar (2006), Statistical comparisons of classifiers over multiple data sets, Journal of Machine Learning
Research 7.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from msa_jax import metrics
from msa_jax.studies.grid import Study
from msa_jax.studies.results import RowResults, StudyResults
from msa_jax.studies.statistics import DIGITS, LEVEL


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The competitors of an axis, ranked in every block.

    Attributes:
      axis: what competes, "model" say.
      names: the K competitors, the best average rank first.
      ranks: float64 [K], average ranks, 1 the best.
      blocks: what they were ranked on: data set and metric, say.
      chi_square: Friedman's, corrected for ties; None where it cannot be computed.
      p: its p.
      critical_difference: two competitors whose average ranks differ by less cannot be told apart at 0.05.
      notes: sentences on what was left out.
    """

    axis: str
    names: tuple[str, ...]
    ranks: np.ndarray
    blocks: tuple[str, ...]
    chi_square: float | None
    p: float | None
    critical_difference: float
    notes: tuple[str, ...] = ()

    def cliques(self) -> list[tuple[str, ...]]:
        """The largest groups of neighbours that cannot be told apart, as a plot joins them by bars."""
        groups: list[range] = []
        for start in range(len(self.names)):
            within = self.ranks - self.ranks[start] < self.critical_difference
            group = range(start, int(np.flatnonzero(within).max()) + 1)
            if len(group) > 1 and not (groups and group.stop <= groups[-1].stop):
                groups.append(group)
        return [tuple(self.names[place] for place in group) for group in groups]


def rank(
    study: Study, results: StudyResults, axis: str = "model", keys: Sequence[str] = ()
) -> Ranking | None:
    """Ranks the choices of an axis by their means over seeds.

    A block is what is left of a row's labels, and a metric. Metrics of the same predictions depend on each
    other, so that p is only a guide where blocks share their data; a single metric on many data sets is the
    test as it was meant.

    Args:
      study: as declared.
      results: of its finished cells.
      axis: whose choices compete.
      keys: the metrics; all that the rows have if empty.

    Returns:
      None where fewer than three choices or fewer than two blocks can be ranked.
    """
    if axis not in study.axes():
        return None
    place = study.axes().index(axis)
    scores: dict[str, dict[str, float]] = {}
    for row in results.rows.values():
        others = row.labels[:place] + row.labels[place + 1 :]
        for key in row.metric_keys:
            if (not keys or key in keys) and not np.isnan(row.metrics[key]).any():
                block = ", ".join((*others, metrics.METRIC_NAMES[key]))
                scores.setdefault(block, {})[row.labels[place]] = _score(row, key)
    names = list(dict.fromkeys(row[place] for row in results.rows))
    complete = [block for block, of in scores.items() if len(of) == len(names)]
    if len(names) < 3 or len(complete) < 2:
        return None
    lost = len(scores) - len(complete)
    notes = (f"{lost} of {len(scores)} blocks are left out: some {axis} has no value there.",) if lost else ()
    table = np.array([[scores[block][name] for name in names] for block in complete])
    ranks = average_ranks(table)
    chi_square, p = friedman(table)
    order = np.argsort(ranks, kind="stable")
    if chi_square is None:
        notes += (f"no Friedman test: every {axis} has the same values.",)
    return Ranking(
        axis=axis,
        names=tuple(names[k] for k in order),
        ranks=ranks[order],
        blocks=tuple(complete),
        chi_square=chi_square,
        p=p,
        critical_difference=critical_difference(len(names), len(complete)),
        notes=notes,
    )


def average_ranks(scores: np.ndarray) -> np.ndarray:
    """Average ranks [K] of scores [B, K]: the largest of a block has rank 1, equal ones share theirs."""
    return scipy.stats.rankdata(-np.round(scores, DIGITS), axis=1).mean(axis=0)


def friedman(scores: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Friedman's chi-square, corrected for ties, and its p, of scores [B, K] with K of at least 3.

    Nothing where all scores of every block are equal.
    """
    rounded = np.round(scores, DIGITS)
    if not np.ptp(rounded, axis=1).any():
        return None, None
    found = scipy.stats.friedmanchisquare(*rounded.T)
    return float(found.statistic), float(found.pvalue)


def critical_difference(competitors: int, blocks: int, level: float = LEVEL) -> float:
    """Nemenyi's: how far average ranks must be apart to differ at this level."""
    q = scipy.stats.studentized_range.ppf(1 - level, competitors, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(competitors * (competitors + 1) / (6 * blocks)))


def _score(row: RowResults, key: str) -> float:
    mean = float(row.metrics[key].mean())
    return -mean if key in metrics.LOWER_IS_BETTER else mean
