import dataclasses
import itertools
import math

import fake_study
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.studies import statistics
from msa_jax.studies.bootstrap import Bootstrap
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds
from msa_jax.studies.results import StudyResults
from msa_jax.studies.statistics import compare, holm, wilcoxon

PLAN = Bootstrap(resamples=200)
LABEL = fake_study.labels_of("mosi", 80)


def study(*names, base="tfn"):
    return Study("a study", grid(data_sets("mosi"), models(*names), seeds(5)), base={"model": base})


def noisy(noise, seed, count=5):
    return LABEL + np.random.default_rng(seed).normal(0, noise, (count, len(LABEL)))


def results(**predictions):
    rows = [fake_study.row(("mosi", name), array, LABEL) for name, array in predictions.items()]
    return StudyResults({row.labels: row for row in rows}, {})


def test_identical_models_do_not_differ():
    same = noisy(1, 0)
    found = compare(study("tfn", "lmf"), results(tfn=same, lmf=same), PLAN)
    assert len(found.comparisons) == 9
    assert not found.notes
    for one in found.comparisons.values():
        assert (one.low, one.difference, one.high, one.better) == (0, 0, 0, 0.5)
        assert one.bootstrap_p == one.bootstrap_holm == one.wilcoxon_p == one.wilcoxon_holm == 1
        assert one.mark == ""


def test_a_clear_difference_is_found_in_the_direction_of_better():
    found = compare(study("tfn", "lmf"), results(tfn=noisy(1.5, 0), lmf=noisy(0.5, 1)), PLAN)
    for key, sign in (("mae", -1), ("corr", 1), ("acc7", 1)):
        one = found.comparisons[("mosi", "lmf"), key]
        assert sign * one.difference > 0
        assert one.low < one.difference < one.high
        assert sign * one.low > 0
        assert sign * one.high > 0
        assert one.better == 1
        assert one.bootstrap_p == pytest.approx(2 / 201)
        assert (one.wilcoxon_p, one.wilcoxon_least, one.pairs) == (0.0625, 0.0625, 5)
        assert one.mark == "†"  # five seeds are too few for Wilcoxon's test


def test_swapping_the_sides_mirrors():
    sides = results(tfn=noisy(1, 0), lmf=noisy(1.1, 1))
    there = compare(study("tfn", "lmf"), sides, PLAN).comparisons
    back = compare(study("tfn", "lmf", base="lmf"), sides, PLAN).comparisons
    for (_, key), one in there.items():
        other = back[("mosi", "tfn"), key]
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
        assert one.difference == pytest.approx(-other.difference)
        assert one.better == pytest.approx(1 - other.better)
        assert (one.bootstrap_p, one.wilcoxon_p) == (other.bootstrap_p, other.wilcoxon_p)


def test_same_seed_same_figures_and_another_seed_others():
    sides = results(tfn=noisy(1, 0), lmf=noisy(1.1, 1))
    first, again = (compare(study("tfn", "lmf"), sides, PLAN) for _ in range(2))
    assert first == again
    other = compare(study("tfn", "lmf"), sides, Bootstrap(200, seed=1))
    place = (("mosi", "lmf"), "mae")
    assert other.comparisons[place].low != first.comparisons[place].low
    assert other.bootstrap == Bootstrap(200, seed=1)


def test_seeds_are_paired_by_name():
    """Seeds that stand in another order are still compared with themselves."""
    base, other = noisy(1, 0), noisy(1.1, 1)
    order = [3, 1, 4, 0, 2]
    turned = fake_study.row(("mosi", "lmf"), other[order], LABEL, seeds=tuple(str(1111 + k) for k in order))
    rows = dict(results(tfn=base, lmf=other).rows)
    straight = compare(study("tfn", "lmf"), StudyResults(rows, {}), PLAN).comparisons
    rows["mosi", "lmf"] = turned
    for place, one in compare(study("tfn", "lmf"), StudyResults(rows, {}), PLAN).comparisons.items():
        assert one.difference == pytest.approx(straight[place].difference, abs=1e-12)
        assert one.wilcoxon_p == straight[place].wilcoxon_p


def test_only_common_seeds_are_compared_and_it_is_said():
    rows = dict(results(tfn=noisy(1, 0), lmf=noisy(0.5, 1)).rows)
    rows["mosi", "lmf"] = fake_study.row(("mosi", "lmf"), noisy(0.5, 1, 2), LABEL, seeds=("1112", "1115"))
    found = compare(study("tfn", "lmf"), StudyResults(rows, {}), PLAN)
    assert found.notes == ("mosi, lmf against mosi, tfn: by the 2 seeds that both have.",)
    one = found.comparisons[("mosi", "lmf"), "mae"]
    mine, theirs = rows["mosi", "lmf"].metrics["mae"], rows["mosi", "tfn"].metrics["mae"]
    assert one.difference == pytest.approx((mine - theirs[[1, 4]]).mean())
    assert (one.pairs, one.wilcoxon_least) == (2, 0.5)


def test_one_seed_has_an_interval_of_clips_and_no_wilcoxon():
    found = compare(study("tfn", "lmf"), results(tfn=noisy(1, 0, 1), lmf=noisy(0.5, 1, 1)), PLAN)
    one = found.comparisons[("mosi", "lmf"), "mae"]
    assert one.low < one.difference < one.high < 0
    assert one.wilcoxon_p is one.wilcoxon_least is one.wilcoxon_holm is None
    assert len(found.notes) == 1
    assert "one seed" in found.notes[0]


def test_what_cannot_be_compared_is_said_and_no_figure_is_nan():
    rows = results(tfn=noisy(1, 0), lmf=noisy(1, 1), mult=noisy(1, 2), mfn=noisy(1, 3)).rows
    changed = {
        "lmf": {"ids": ("other",) * len(LABEL)},
        "mult": {"label": -LABEL},
        "mfn": {"seeds": ("1", "2", "3", "4", "5")},
    }
    rows = dict(rows) | {
        ("mosi", name): dataclasses.replace(rows["mosi", name], **change) for name, change in changed.items()
    }
    constant = np.full((5, len(LABEL)), 0.4)
    rows["mosi", "misa"] = fake_study.row(("mosi", "misa"), constant, LABEL)
    found = compare(study("tfn", "lmf", "mult", "mfn", "misa"), StudyResults(rows, {}), PLAN)
    said = "\n".join(found.notes)
    for words in (
        "lmf is not compared with mosi, tfn: they were tested on different clips",
        "mult is not compared with mosi, tfn: their clips have different labels",
        "mfn is not compared with mosi, tfn: they have no seed in common",
        "misa against mosi, tfn: Corr is not compared",
    ):
        assert words in said
    assert {row for row, _ in found.comparisons} == {("mosi", "misa")}
    assert "corr" not in {key for _, key in found.comparisons}
    for one in found.comparisons.values():
        figures = [value for value in dataclasses.astuple(one) if isinstance(value, float)]
        assert all(map(math.isfinite, figures))


def test_a_base_that_is_not_finished_is_said():
    found = compare(study("tfn", "lmf"), results(lmf=noisy(1, 1)), PLAN)
    assert found.notes == ("mosi, lmf is not compared with mosi, tfn: none of its seeds is finished.",)
    assert not found.comparisons


def test_resamples_without_a_value_are_counted():
    """One clip in four has a label other than 0: some resamples of the four have none."""
    label = np.array([0.0, 0.0, 0.0, 1.0])
    rows = [
        fake_study.row(("mosi", name), np.random.default_rng(k).normal(0, 1, (5, 4)), label)
        for k, name in enumerate(("tfn", "lmf"))
    ]
    found = compare(study("tfn", "lmf"), StudyResults({row.labels: row for row in rows}, {}), PLAN)
    note = next(note for note in found.notes if "Acc-2 Non0" in note)
    lost = int(note.split(": ")[1].split()[0])
    assert 30 < lost < 95  # (3/4)^4 of 200 is 63
    assert found.comparisons[("mosi", "lmf"), "acc2_non0"].low is not None


def test_classes_are_compared_by_their_logits():
    label = np.sign(LABEL) + 1
    rng = np.random.default_rng(0)
    weak, strong = (
        strength * np.eye(3)[label.astype(int)] + rng.normal(0, 1, (5, 80, 3)) for strength in (0, 3)
    )
    rows = [fake_study.row(("mosi", name), x, label) for name, x in (("tfn", weak), ("lmf", strong))]
    found = compare(study("tfn", "lmf"), StudyResults({row.labels: row for row in rows}, {}), PLAN)
    one = found.comparisons[("mosi", "lmf"), "f1_macro"]
    assert one.better == 1
    assert (("mosi", "lmf"), "acc2_non0_compat") in found.comparisons


def test_holm_on_worked_numbers():
    """Four p values at steps 4, 3, 2 and 1: 0.04, 0.06, 0.06 (not 0.04 again), 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(p_values):
    found = holm(p_values)
    assert all(p <= q <= min(1, len(p_values) * p) for p, q in zip(p_values, found, strict=True))
    ordered = [q for _, q in sorted(zip(p_values, found, strict=True))]
    assert ordered == sorted(ordered)


def test_each_metric_is_a_family_of_holms():
    found = compare(
        study("tfn", "lmf", "mult"), results(tfn=noisy(1, 0), lmf=noisy(0.9, 1), mult=noisy(1.05, 2)), PLAN
    )
    for key in ("mae", "corr"):
        family = [one for (_, metric), one in found.comparisons.items() if metric == key]
        assert [one.bootstrap_holm for one in family] == holm([one.bootstrap_p for one in family])
        assert [one.wilcoxon_holm for one in family] == holm([one.wilcoxon_p for one in family])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, -2, 3, 4, 5], 6 / 32),
        ([-1, -2, -3, -4, -5], 2 / 32),
        ([0, 0, 0, 0, 0], 1),
        ([0, 0, 3, 0, 0], 1),
        ([0, 1, 2, 3, 4], 2 / 16),
    ],
)
def test_wilcoxon_on_worked_numbers(differences, p):
    assert wilcoxon(np.array(differences, float)) == pytest.approx(p)


@settings(max_examples=40)
@given(st.lists(st.integers(-3, 3).filter(bool), min_size=2, max_size=8))
def test_wilcoxon_is_exact_with_ties(differences):
    """Against every choice of signs of the mean ranks."""
    sizes = np.abs(differences)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    seen = ranks[np.array(differences) > 0].sum()
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    sums = signs @ ranks
    one_sided = min((sums >= seen - 1e-9).mean(), (sums <= seen + 1e-9).mean())
    assert wilcoxon(np.array(differences, float)) == pytest.approx(min(1, 2 * one_sided))


def test_many_pairs_are_quick_and_close_to_exact():
    differences = np.random.default_rng(0).normal(0.5, 1, 20)
    assert 0 < wilcoxon(differences) < 0.2


def test_equal_shares_tie_whatever_way_they_were_added_up():
    """0.3 - 0.2 and 0.2 - 0.1 are the same difference, though not the same number."""
    values = np.array([0.3, 0.2, 0.5]) - np.array([0.2, 0.1, 0.4])
    assert len(set(values)) > 1
    rounded = np.round(values, statistics.DIGITS)
    assert len(set(rounded)) == 1
