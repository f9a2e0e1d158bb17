"""Folds in a study: an axis whose rows are put together into one that tests every clip once."""

import csv
import dataclasses

import fake_study
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msa_jax import configuration, metrics
from msa_jax.errors import ConfigError
from msa_jax.studies.bootstrap import Bootstrap
from msa_jax.studies.folds import pooled, with_pooled
from msa_jax.studies.grid import Study, checked, data_sets, folds, grid, models, of_seeds, seeds, variants
from msa_jax.studies.layout import footnotes, lay_out
from msa_jax.studies.operations import _finished
from msa_jax.studies.results import StudyResults, read_results
from msa_jax.studies.statistics import compare
from msa_jax.studies.tables import seeds_csv, write_tables

STUDY = Study(
    "folds", grid(data_sets("mosi"), models("tfn", "lmf"), folds(3), seeds(2)), base={"model": "tfn"}
)
POOLED = [("mosi", model, "pooled") for model in ("tfn", "lmf")]


def write_cells(folder, without=(), clips=(7, 9, 8), **more):
    first = np.concatenate([[0], np.cumsum(clips)])
    for cell in STUDY.cells:
        if cell.name not in without:
            fold = int(cell.labels["fold"])
            fake_study.write_cell(folder, cell, clips=clips[fold], first_clip=int(first[fold]), **more)
    return with_pooled(STUDY, read_results(STUDY, folder))


def test_folds_are_an_axis_and_the_pooled_row_comes_behind_them():
    cell = STUDY.cells[3]
    assert (cell.name, cell.folds, cell.pooled_row) == ("mosi-tfn-1-1112", 3, POOLED[0])
    made = checked(STUDY)
    data = made["mosi-tfn-1-1112"][1].data
    assert (data.split, data.folds, data.fold) == ("by_group", 3, 1)
    labels = ["0", "1", "2", "pooled"]
    assert STUDY.rows() == [("mosi", model, fold) for model in ("tfn", "lmf") for fold in labels]
    assert STUDY.base_of(POOLED[1]) == POOLED[0]
    assert STUDY.base_of(("mosi", "lmf", "2")) == ("mosi", "tfn", "2")
    assert [cell.name for cell in STUDY.cells_of(POOLED[1])] == [
        f"mosi-lmf-{fold}-{seed}" for fold in range(3) for seed in (1111, 1112)
    ]
    with pytest.raises(ConfigError, match="folds=1: at least 2"):
        folds(1)


def test_an_axis_of_ones_own_that_is_called_fold_has_no_pooled_row():
    by_file = variants({"a": {"data.path": "a.pkl"}, "b": {"data.path": "b.pkl"}}, axis="fold")
    study = Study("own", grid(data_sets("mosi"), models("tfn"), by_file, seeds(1)))
    assert study.rows() == [("mosi", "tfn", "a"), ("mosi", "tfn", "b")]


def test_folds_and_seeds_of_a_configuration_multiply():
    path = "configs/mosi.py:tfn,tiny"
    study = of_seeds(path, configuration.load(path, ["train.seed=7"]), 2, 3)
    made = checked(study)
    assert list(made) == [f"mosi-tfn-{fold}-{seed}" for fold in range(3) for seed in (7, 8)]
    assert [(c.data.fold, c.train.seed) for _, c in made.values()] == [
        (fold, seed) for fold in range(3) for seed in (7, 8)
    ]
    assert study.title == "configs/mosi.py:tfn,tiny, 2 seeds, 3 folds"


@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.sampled_from(["mosi", "sims", "plain"]))
def test_pooled_metrics_are_those_of_the_predictions_put_together(clips, metric_set):
    rng = np.random.default_rng(clips)
    parts = []
    for fold, count in enumerate(clips):
        label = fake_study.labels_of(metric_set, count, seed=fold)
        row = fake_study.row(("x", str(fold)), rng.normal(size=(2, count)), label, metric_set)
        parts.append(dataclasses.replace(row, ids=tuple(f"{fold} {k}" for k in range(count))))
    row = pooled(("x", "pooled"), parts)
    predictions = np.concatenate([part.predictions["M"] for part in parts], axis=1)
    label = np.concatenate([part.label for part in parts])
    for seed in range(2):
        expected = metrics.regression_metrics(metric_set, predictions[seed], label, parts[0].label_range)
        for key, values in row.metrics.items():
            np.testing.assert_equal(values[seed], expected[key])
    assert row.ids == tuple(clip for part in parts for clip in part.ids)
    assert list(row.seconds) == [60.0 * len(parts)] * 2


@pytest.mark.parametrize("classify", [False, True])
def test_rows_of_cells_are_pooled_seed_by_seed(tmp_path, classify):
    results = write_cells(tmp_path, classify=classify)
    assert list(results.rows) == STUDY.rows()
    assert results.notes == ()
    single = [results.rows["mosi", "lmf", str(fold)] for fold in range(3)]
    row = results.rows[POOLED[1]]
    assert row.ids == tuple(f"clip_{k}" for k in range(24))
    assert row.seeds == ("1111", "1112")
    assert row.metric_keys == single[0].metric_keys
    assert "loss" not in row.metrics
    for head, prediction in row.predictions.items():
        np.testing.assert_array_equal(prediction, np.concatenate([s.predictions[head] for s in single], 1))
    means = np.mean([s.metrics["acc3"] for s in single], axis=0)
    assert not np.array_equal(row.metrics["acc3"], means), "a mean of metrics is not what is asked for"
    if classify:
        assert row.logits is not None
        assert row.logits.shape == (2, 24, 3)
        accuracy = (row.predictions["M"] == row.label).mean(axis=1)
        np.testing.assert_allclose(row.metrics["accuracy"], accuracy)


@pytest.mark.parametrize(
    ("without", "note"),
    [
        (
            ["mosi-lmf-1-1111", "mosi-lmf-1-1112"],
            "The row mosi, lmf, pooled is left out: fold 1 is not finished.",
        ),
        (
            [f"mosi-lmf-{fold}-{seed}" for fold in (0, 2) for seed in (1111, 1112)],
            "The row mosi, lmf, pooled is left out: folds 0, 2 are not finished.",
        ),
        (
            ["mosi-lmf-1-1111", "mosi-lmf-2-1112"],
            "The row mosi, lmf, pooled is left out: no seed is finished in all folds.",
        ),
    ],
)
def test_without_all_folds_there_is_no_pooled_row(tmp_path, without, note):
    results = write_cells(tmp_path, without)
    assert POOLED[1] not in results.rows
    assert POOLED[0] in results.rows
    assert results.notes == (note,)
    assert note in footnotes(STUDY, results, compare(STUDY, results, Bootstrap(20)), "in italics")


def test_a_pooled_row_has_the_seeds_that_all_folds_have(tmp_path):
    results = write_cells(tmp_path, ["mosi-lmf-1-1111"])
    assert results.rows[POOLED[1]].seeds == ("1112",)
    assert len(results.rows[POOLED[1]].ids) == 24
    assert results.notes == ("mosi, lmf, pooled: by the seeds that all folds have (1112).",)


def test_cells_that_have_not_begun_are_no_matter_of_notes(tmp_path):
    results = write_cells(tmp_path, [cell.name for cell in STUDY.cells if "lmf" in cell.name])
    assert list(results.rows) == STUDY.rows()[:4]
    assert results.notes == ()


def test_a_clip_that_two_folds_test_is_named(tmp_path):
    for cell in STUDY.cells[:6]:
        fake_study.write_cell(tmp_path, cell, first_clip=int(cell.labels["fold"]) * 19)
    results = with_pooled(STUDY, read_results(STUDY, tmp_path))
    assert POOLED[0] not in results.rows
    assert "clip 'clip_19' is tested in two folds; train all folds again" in results.notes[0]


def test_folds_of_other_classes_are_not_put_together():
    label = np.zeros(4)
    every = [fake_study.row(("mosi", "tfn", str(k)), np.zeros((2, 4, 3)), label) for k in range(3)]
    every = [dataclasses.replace(row, ids=tuple(f"{k} {i}" for i in range(4))) for k, row in enumerate(every)]
    every[1] = dataclasses.replace(every[1], class_names=("a", "b", "c"))
    results = with_pooled(STUDY, StudyResults({row.labels: row for row in every}, {}))
    assert "its folds have other scores or classes" in results.notes[0]


def test_a_study_without_folds_stays_as_it_is(tmp_path):
    study = Study("s", grid(data_sets("mosi"), models("tfn"), seeds(1)))
    fake_study.write_cell(tmp_path, study.cells[0])
    results = read_results(study, tmp_path)
    assert with_pooled(study, results) == results


def test_tables_have_a_row_per_fold_and_the_pooled_one(tmp_path):
    results = write_cells(tmp_path / "cells")
    statistics = compare(STUDY, results, Bootstrap(50))
    assert (POOLED[1], "mae") in statistics.comparisons
    write_tables(STUDY, results, statistics, tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    of_tfn = [(row["fold"], row["seed"]) for row in rows if row["model"] == "tfn"]
    assert of_tfn == [(fold, seed) for fold in ("0", "1", "2", "pooled") for seed in ("1111", "1112")]
    assert [row["best_epoch"] for row in rows if row["fold"] == "pooled"] == [""] * 4
    row = results.rows[POOLED[0]]
    assert rows[6]["mae"] == repr(float(row.metrics["mae"][0]))
    assert 'Rows "pooled" are measured' in (tmp_path / "table.md").read_text()
    assert "| lmf | pooled |" in (tmp_path / "table.md").read_text()
    assert "pooled" in (tmp_path / "table.tex").read_text()
    assert "nan" not in seeds_csv(STUDY, results)


def test_only_rows_of_one_fold_compete_for_the_best(tmp_path):
    results = write_cells(tmp_path)
    (table,) = lay_out(STUDY, results, compare(STUDY, results, Bootstrap(20)))
    column = [c.keys for c in table.columns].index(("mae",))
    for fold in ("0", "1", "2", "pooled"):
        lines = [line for line in table.lines if line.row[-1] == fold]
        means = [results.rows[line.row].metrics["mae"].mean() for line in lines]
        assert [line.entries[column][0].place for line in lines] == [
            1 + (mine > other) for mine, other in (means, means[::-1])
        ]


def test_operations_of_a_pooled_row_are_those_of_a_fold(tmp_path):
    results = write_cells(tmp_path)
    assert next(_finished(STUDY, results, POOLED[1], tmp_path)) == tmp_path / "mosi-lmf-0-1111"


def test_a_page_with_folds_is_written(tmp_path):
    from msa_jax.studies import page

    results = write_cells(tmp_path / "cells", epochs=2)
    statistics = compare(STUDY, results, Bootstrap(20))
    html = page.write_page(STUDY, results, statistics, tmp_path, {}).read_text()
    assert "pooled" in html
    assert "24 clips, 2 seeds" in html  # the confusion matrix of all folds
    assert "12 of 12 cells are finished." in html
    assert 'Rows "pooled" are measured' in html.replace("&#34;", '"').replace("&quot;", '"')
