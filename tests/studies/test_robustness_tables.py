"""Tables of curves: what sums them up where a metric is not defined at the last rates."""

import math

from msa_jax.robust.curves import Curve, Point
from msa_jax.robust.protocols import PROTOCOLS
from msa_jax.studies.robustness import Asked, Row
from msa_jax.studies.robustness_tables import notes, sheets

ASKED = Asked(PROTOCOLS["frames"], rates=(0.0, 0.5, 1.0))


def row(label: str, *seeds: list[float]) -> Row:
    """A model with an MAE of 0.5 throughout and these correlations at the rates 0, 0.5 and 1."""
    curves = tuple(
        (
            Curve(
                "all",
                tuple(
                    Point(f"{rate:g}", rate, {}, {"mae": 0.5, "corr": corr})
                    for rate, corr in zip(ASKED.rates, found, strict=True)
                ),
            ),
        )
        for found in seeds
    )
    return Row(label, tuple(map(str, range(len(seeds)))), ("mae", "corr"), curves)


def test_the_rates_where_all_is_defined_are_summed_up_by_themselves():
    rows = [row("a", [0.8, 0.6, math.nan], [0.6, 0.4, 0.1]), row("b", [0.5, 0.3, 0.1])]
    assert [r.defined(0) for r in rows] == [2, 3]
    found = sheets(rows, ASKED)
    assert [sheet.title for sheet in found[:2]] == [
        "All modalities: area / range",
        "All modalities: area / range, 0 to 0.5",
    ]
    whole, part = ([line[2] for line in sheet.lines] for sheet in found[:2])
    assert whole[0] == "\N{EN DASH}"
    assert whole[1].startswith("0.300")
    # By trapezoids 0.7 and 0.5 for the seeds of a, whose deviation is 0.141; b has 0.4.
    assert part[0].startswith("0.600 ± 0.141")
    assert part[1].startswith("0.400")
    assert [line[0] for line in found[2].lines[-3:]] == ["area", "area / range", "area / range, 0 to 0.5"]
    assert any("leave out those at which a metric is not defined" in note for note in notes(rows, ASKED))


def test_where_all_is_defined_or_nothing_there_is_no_other_area():
    for corr in ([0.8, 0.6, 0.4], [math.nan] * 3):
        found = sheets([row("a", corr)], ASKED)
        assert [line[0] for line in found[0].lines[-2:]] == ["area", "area / range"]
        assert not any("leave out" in note for note in notes([row("a", corr)], ASKED))
