"""A run that classifies, from a feature file to its report."""

import csv
import json
import pathlib

import feature_files
import numpy as np
import pytest

from msa_jax import metrics
from msa_jax.config import load
from msa_jax.errors import ConfigError
from msa_jax.reports import page
from msa_jax.train.loop import train_and_evaluate

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def test_classes_from_file_to_report(tmp_path):
    content = feature_files.content()
    data = feature_files.write(tmp_path / "data.pkl", content)
    config = load(
        f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny,task=classification",
        [f"data.path={data}", "train.epochs=2", "train.monitor=acc3"],
    )
    result = train_and_evaluate(config, tmp_path / "run")
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert list(rows[0])[4:] == ["logit_0", "logit_1", "logit_2", "class", "predicted_class"]
    label = np.array([int(row["label"]) for row in rows])
    np.testing.assert_array_equal(label, content["test"]["classification_labels"])
    logits = np.array([[float(row[f"logit_{k}"]) for k in range(3)] for row in rows])
    np.testing.assert_array_equal([int(row["prediction"]) for row in rows], logits.argmax(axis=1))
    expected = metrics.classification_metrics(logits, label, compat=True)
    assert {k: result["test"][k] for k in expected} == pytest.approx(expected, nan_ok=True)
    epochs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(epochs, key=lambda row: row["valid"]["acc3"])
    assert result["best_epoch"] == best["epoch"]
    report = page.write_report(tmp_path / "run").read_text()
    assert "Validation Acc-3" in report
    assert "Predicted and true scores" not in report
    assert "Acc-2 Non0 as in MMSA 1.0" in report


def test_a_score_of_the_other_task_is_no_monitor(tmp_path):
    data = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    config = load(
        f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny,task=classification", [f"data.path={data}", "train.monitor=mae"]
    )
    with pytest.raises(ConfigError, match=r"train\.monitor='mae' is not one of loss, acc3"):
        train_and_evaluate(config, tmp_path / "run")


def test_a_model_that_needs_unimodal_labels_says_so(tmp_path):
    data = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    config = load(f"{CONFIGS / 'mosi.py'}:mlmf,tiny", [f"data.path={data}"])
    with pytest.raises(ConfigError, match="mlmf trains on a label per modality, and mosi has none for T, A"):
        train_and_evaluate(config, tmp_path / "run")
