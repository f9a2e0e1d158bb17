import json

import fake_study
import numpy as np
import pytest

from msa_jax import metrics
from msa_jax.errors import RunError
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds
from msa_jax.studies.results import read_results

STUDY = Study("a study", grid(data_sets("mosi"), models("tfn", "lmf"), seeds(3)), base={"model": "tfn"})
TFN, LMF = STUDY.rows()


def test_rows_hold_the_seeds_in_order(tmp_path):
    for cell in STUDY.cells:
        fake_study.write_cell(tmp_path, cell)
    results = read_results(STUDY, tmp_path)
    assert list(results.rows) == [TFN, LMF]
    assert not results.left_out
    row = results.rows[LMF]
    assert row.seeds == ("1111", "1112", "1113")
    assert row.predictions["M"].shape == row.predictions["T"].shape == (3, 20)
    assert row.label.shape == (20,)
    assert row.ids[:2] == ("clip_0", "clip_1")
    assert (row.parameters, list(row.seconds), list(row.best_epoch)) == (1234, [12.5] * 3, [3] * 3)
    assert row.metric_keys == metrics.REGRESSION_KEYS["mosi"]
    assert list(row.metrics["loss"]) == [0.5] * 3
    assert row.logits is None
    for k, prediction in enumerate(row.predictions["M"]):
        again = metrics.regression_metrics("mosi", prediction, row.label)
        assert {key: row.metrics[key][k] for key in again} == again


def test_the_epochs_of_seeds_stand_beside_each_other(tmp_path):
    for cell, epochs in zip(STUDY.cells, (3, 1, 2, 1, 1, 1), strict=True):
        fake_study.write_cell(tmp_path, cell, epochs=epochs)
    row = read_results(STUDY, tmp_path).rows[TFN]
    assert list(row.epochs) == [3, 1, 2]
    none = float("nan")
    np.testing.assert_array_equal(
        row.history["valid", "mae"], [[1112, 1113, 1114], [1113, none, none], [1114, 1115, none]]
    )
    np.testing.assert_array_equal(row.history["train", "loss"][0], [1, 1 / 2, 1 / 3])
    assert not row.synthetic


def test_a_value_that_an_epoch_lacks_is_none_of_the_others(tmp_path):
    study = Study("one", grid(data_sets("mosi"), models("tfn")))
    folder = fake_study.write_cell(tmp_path, study.cells[0], epochs=3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["train"]["loss"] = None
    del rows[2]["valid"]["mae"]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    history = read_results(study, tmp_path).rows["mosi", "tfn"].history
    assert list(np.isnan(history["train", "loss"][0])) == [False, True, False]
    assert list(np.isnan(history["valid", "mae"][0])) == [False, False, True]


def test_classes_come_with_their_logits(tmp_path):
    for cell in STUDY.cells:
        fake_study.write_cell(tmp_path, cell, classify=True)
    row = read_results(STUDY, tmp_path).rows[TFN]
    assert row.logits is not None
    assert row.logits.shape == (3, 20, 3)
    np.testing.assert_array_equal(row.logits.argmax(axis=2), row.predictions["M"])
    assert row.class_names == ("negative", "neutral", "positive")
    assert row.metric_keys[-2:] == ("acc2_non0_compat", "f1_non0_compat")


def test_what_is_not_finished_or_damaged_is_named(tmp_path):
    for cell in STUDY.cells[:2]:
        fake_study.write_cell(tmp_path, cell)
    (tmp_path / STUDY.cells[1].name / "result.json").unlink()
    (fake_study.write_cell(tmp_path, STUDY.cells[2]) / "predictions.csv").write_text("split,id\ntest,a,1\n")
    results = read_results(STUDY, tmp_path)
    assert list(results.rows) == [TFN]
    assert results.rows[TFN].seeds == ("1111",)
    assert list(results.left_out) == [cell.name for cell in STUDY.cells[1:]]
    assert results.left_out[STUDY.cells[1].name] == "not finished"
    assert "predictions.csv is damaged" in results.left_out[STUDY.cells[2].name]


def test_a_metric_without_a_value_is_no_number(tmp_path):
    first, second, third = (fake_study.write_cell(tmp_path, cell) for cell in STUDY.cells[:3])
    for folder, absent in ((first, ["corr"]), (second, ["mae"]), (third, ["mae", "corr"])):
        result = json.loads((folder / "result.json").read_text())
        result["test"] |= dict.fromkeys(absent) | {"loss": None}
        (folder / "result.json").write_text(json.dumps(result))
    row = read_results(STUDY, tmp_path).rows[TFN]
    assert list(np.isnan(row.metrics["corr"])) == [True, False, True]
    assert list(np.isnan(row.metrics["mae"])) == [False, True, True]
    assert "loss" not in row.metrics


def test_the_best_test_epoch_is_read_where_every_seed_watched_it(tmp_path):
    folders = [fake_study.write_cell(tmp_path, cell) for cell in STUDY.cells[:2]]
    for number, folder in enumerate(folders):
        assert read_results(STUDY, tmp_path).rows[TFN].watched == {}
        result = json.loads((folder / "result.json").read_text())
        result["best_test_epoch"] = {"epoch": 4, "test": {"mae": 0.5 + number, "corr": None}}
        (folder / "result.json").write_text(json.dumps(result))
    watched = read_results(STUDY, tmp_path).rows[TFN].watched
    assert {key: list(values) for key, values in watched.items()} == {"mae": [0.5, 1.5]}


@pytest.mark.parametrize("other", [{"first_clip": 5}, {"clips": 19}, {"metric_set": "sims"}])
def test_seeds_that_were_tested_on_different_clips_are_refused(tmp_path, other):
    fake_study.write_cell(tmp_path, STUDY.cells[0])
    fake_study.write_cell(tmp_path, STUDY.cells[1], **other)
    with pytest.raises(RunError, match="1111 and 1112 of mosi, tfn were tested on different clips"):
        read_results(STUDY, tmp_path)


def test_a_study_without_an_axis_of_seeds_takes_the_configurations(tmp_path):
    study = Study("one seed", grid(data_sets("mosi"), models("tfn")))
    fake_study.write_cell(tmp_path, study.cells[0])
    assert read_results(study, tmp_path).rows["mosi", "tfn"].seeds == ("1111",)
