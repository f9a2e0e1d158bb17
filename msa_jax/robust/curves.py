"""A run's metrics by rate, and the figures that sum a curve up."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from msa_jax.data.spec import MODALITIES
from msa_jax.robust.protocols import Clips, Condition

#: Predicts what a change leaves of the clips, and measures it.
Measure = Callable[[Condition], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Point:
    """One condition of a curve.

    Attributes:
      label: of the condition.
      rate: of the condition; None where it has none.
      lost: per modality the share of real steps that were lost; of exchanged modalities, of clips.
      scores: by metric; NaN where a metric is not defined, as the correlation of constant predictions.
    """

    label: str
    rate: float | None
    lost: Mapping[str, float]
    scores: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Curve:
    """What one run reaches while certain modalities are changed.

    Attributes:
      modalities: that are changed, joined by "+", or "all".
      points: by rate.
    """

    modalities: str
    points: tuple[Point, ...]


def lost_shares(condition: Condition, clips: Clips) -> dict[str, float]:
    """Per modality the share that a condition takes away; see :class:`Point`."""
    lost = {}
    for m in MODALITIES:
        if m in condition.change.kept:
            real = int(np.minimum(clips.lengths[m], clips.steps[m]).sum())
            lost[m] = 1 - int(condition.change.kept[m].sum()) / max(real, 1)
        elif m in condition.change.rows:
            rows = condition.change.rows[m]
            lost[m] = float((rows != np.arange(len(rows))).mean())
        else:
            lost[m] = 0.0
    return lost


def measure(
    name: str, conditions: Sequence[Condition], clips: Clips, score: Measure, progress: Callable[[], None]
) -> Curve:
    """Measures a curve.

    Args:
      name: see :attr:`Curve.modalities`.
      conditions: its points.
      clips: of the split.
      score: called once per condition.
      progress: called after each.
    """
    points = []
    for condition in conditions:
        scores = {key: float(value) for key, value in score(condition).items()}
        points.append(Point(condition.label, condition.rate, lost_shares(condition, clips), scores))
        progress()
    return Curve(name, tuple(points))


def area(rates: Sequence[float], values: Sequence[float]) -> float:
    """The area under a curve by trapezoids (AUILC), in units of the metric times those of the rate.

    Over rates from 0 to 1 it is the curve's mean; over 0 to 0.5 half of it. NaN if a value is.
    """
    return float(np.trapezoid(np.asarray(values, np.float64), np.asarray(rates, np.float64)))


def summary(curve: Curve, kind: str, metric: str) -> dict[str, float]:
    """What sums up a metric over a curve, by name.

    Args:
      curve: with ascending rates.
      kind: "area": the area, as published, and divided by the range of the rates; "area and loss": these,
        and what is lost from the first rate to the area ("effective robustness"), which has a meaning where
        the rates go from 0 to 1 only; "mean": the plain mean of the points, of a curve without rates of those
        where something is lost.
      metric: which.
    """
    values = [point.scores.get(metric, math.nan) for point in curve.points]
    rates = [point.rate for point in curve.points if point.rate is not None]
    if not rates:
        values = [
            value for point, value in zip(curve.points, values, strict=True) if any(point.lost.values())
        ]
    if kind == "mean" or len(rates) < 2:
        return {"mean": float(np.mean(values))}
    whole = area(rates, values)
    found = {"area": whole, "area / range": whole / (rates[-1] - rates[0])}
    if kind == "area and loss" and (rates[0], rates[-1]) == (0, 1):
        found["clean - area"] = values[0] - whole
    return found
