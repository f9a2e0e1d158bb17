import fake_study
import numpy as np
import pytest

from msa_jax.studies import ranking
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds
from msa_jax.studies.results import StudyResults

#: Demšar 2006, Table 6: the AUC of C4.5, +m, +cf and +m+cf on fourteen data sets.
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.975, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip


def test_demsars_example():
    # By their third decimals the last two of one data set tie, where the article has ranks 2 and 3.
    ranks = ranking.average_ranks(AUC)
    np.testing.assert_allclose(ranks, [3.143, 2.000, 2.893 + 0.5 / 14, 1.964 - 0.5 / 14], atol=5e-4)
    chi_square, p = ranking.friedman(AUC)
    plain = 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 5**2 / 4)
    ties = 60 + 4 * 6  # the sum of t^3 - t: all four, and four pairs
    assert chi_square == pytest.approx(plain / (1 - ties / (14 * 4 * 15)))
    assert p < 0.05
    assert ranking.critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert ranking.critical_difference(4, 14, 0.10) == pytest.approx(1.12, abs=5e-3)


@pytest.mark.parametrize(("competitors", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_values_of_demsars_table_5(competitors, q):
    assert ranking.critical_difference(competitors, 1) == pytest.approx(
        q * (competitors * (competitors + 1) / 6) ** 0.5, rel=1e-3
    )


NAMES = ("tfn", "lmf", "mult", "mfn")
STUDY = Study("a study", grid(data_sets("mosi", "mosei"), models(*NAMES), seeds(3)))
LABEL = fake_study.labels_of("mosi", 60)


def results(noise):
    rows = {}
    for data in ("mosi", "mosei"):
        for k, name in enumerate(NAMES):
            rng = np.random.default_rng([k, len(data)])
            predictions = LABEL + rng.normal(0, noise[k], (3, 60))
            rows[data, name] = fake_study.row((data, name), predictions, LABEL)
    return StudyResults(rows, {})


def test_models_are_ranked_with_the_best_first():
    found = ranking.rank(STUDY, results((4.0, 0.1, 1.0, 2.0)))
    assert found.names == ("lmf", "mult", "mfn", "tfn")
    assert list(found.ranks) == sorted(found.ranks)
    assert found.ranks.mean() == 2.5
    assert len(found.blocks) == 18
    assert found.p < 0.001
    assert not found.notes


def test_one_metric_with_less_the_better():
    found = ranking.rank(STUDY, results((4.0, 0.1, 1.0, 2.0)), keys=("mae",))
    assert found.blocks == ("mosi, MAE", "mosei, MAE")
    assert found.names[0] == "lmf"
    assert list(found.ranks) == [1, 2, 3, 4]


def test_neighbours_that_cannot_be_told_apart_are_joined():
    found = ranking.Ranking("model", ("a", "b", "c", "d"), np.array([1.0, 1.8, 2.5, 4.0]), (), 9.0, 0.01, 1.0)
    assert found.cliques() == [("a", "b"), ("b", "c")]
    found = ranking.Ranking("model", ("a", "b", "c"), np.array([1.0, 1.2, 1.4]), (), 9.0, 0.01, 1.0)
    assert found.cliques() == [("a", "b", "c")]
    found = ranking.Ranking("model", ("a", "b"), np.array([1.0, 2.0]), (), 9.0, 0.01, 0.5)
    assert found.cliques() == []


def test_identical_models_have_no_friedman_test():
    same = LABEL + np.random.default_rng(0).normal(0, 1, (3, 60))
    rows = {("mosi", name): fake_study.row(("mosi", name), same, LABEL) for name in NAMES}
    found = ranking.rank(STUDY, StudyResults(rows, {}))
    assert found.chi_square is found.p is None
    assert list(found.ranks) == [2.5] * 4
    assert found.cliques() == [NAMES]
    assert found.notes == ("no Friedman test: every model has the same values.",)


def test_what_cannot_be_ranked():
    some = results((1, 1, 1, 1)).rows
    few = {row: some[row] for row in (("mosi", "tfn"), ("mosi", "lmf"))}
    assert ranking.rank(STUDY, StudyResults(few, {})) is None
    assert ranking.rank(STUDY, StudyResults(some, {}), axis="variant") is None
    lacking = dict(some)
    del lacking["mosei", "mfn"]
    found = ranking.rank(STUDY, StudyResults(lacking, {}))
    assert len(found.blocks) == 9
    assert "9 of 18 blocks are left out" in found.notes[0]
