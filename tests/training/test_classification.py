"""A run that classifies, from a feature file to its report."""

import csv
import json
import pathlib

import feature_files
import numpy as np
import pytest

import msa_jax
from msa_jax import configuration, metrics
from msa_jax.commands import predict
from msa_jax.configuration import load
from msa_jax.data import unlabelled
from msa_jax.data.spec import TWO_CLASSES
from msa_jax.errors import ConfigError
from msa_jax.reports import page
from msa_jax.training.loop import train_and_evaluate

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


EMOTIONS = ("angry", "calm", "glad", "sad")
KINDS = {
    "two": (lambda s: (s > 0).astype(int), TWO_CLASSES, []),
    "names": (lambda s: np.array(EMOTIONS)[np.arange(len(s)) % 4], EMOTIONS, []),
    "one-hot": (lambda s: np.eye(4)[np.arange(len(s)) % 4], EMOTIONS, [f"data.class_names={EMOTIONS}"]),
    "two of scores": (lambda s: np.sign(s) + 1, TWO_CLASSES, ["model.classes=2"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_classes_from_file_to_report(tmp_path, kind):
    """Two classes were read as negative and neutral, and no other number could be trained."""
    change, names, overrides = KINDS[kind]
    content = feature_files.content()
    for part in content.values():
        part["regression_labels"] = np.resize(np.array([-2.0, 0.5, 0.0, 3.0]), len(part["id"]))
        part["classification_labels"] = change(part["regression_labels"])
    data = feature_files.write(tmp_path / "data.pkl", content)
    settings = [f"data.path={data}", "train.epochs=1", "train.monitor=accuracy", *overrides]
    config = load(f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny,task=classification")
    with config.unlocked():
        config.model.classes = config.model.get("classes", 0)
    for override in settings:
        key, _, text = override.partition("=")
        configuration._set(config, key, text)
    result = train_and_evaluate(config.lock(), tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["model"]["classes"] == len(names)
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    logits = np.array([[float(row[f"logit_{k}"]) for k in range(len(names))] for row in rows])
    label = np.array([int(row["label"]) for row in rows])
    expected = metrics.classification_metrics(logits, label, names=names)
    assert {k: v for k, v in result["test"].items() if not k.startswith("loss")} == pytest.approx(expected)
    assert [row["class"] for row in rows] == [names[k] for k in label]
    assert [row["predicted_class"] for row in rows] == [names[k] for k in logits.argmax(axis=1)]
    report = page.write_report(tmp_path / "run").read_text()
    assert "F1 (macro)" in report
    assert "Acc-2" not in report
    for name in names:
        assert f'<th scope="row">{name}</th>' in report
    answers = predict.answers(*scored(tmp_path / "run", data))
    assert list(answers[0]) == ["id", "class", *(f"probability_{name}" for name in names)]


def scored(folder, data):
    trained = msa_jax.load(folder)
    split = unlabelled.read(data, "test")[0]["test"]
    return split, trained.predict(split), trained.model_spec


@pytest.mark.parametrize(
    ("count", "message"), [(1, "set 2 or more"), (-2, "at least 0"), (7, "has 3 classes")]
)
def test_a_number_of_classes_that_the_data_has_not(tmp_path, count, message):
    data = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    config = load(f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny,task=classification", [f"data.path={data}"])
    with config.unlocked():
        config.model.classes = count
    with pytest.raises(ConfigError, match=rf"model\.classes={count}.*{message}"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_scores_without_a_sign_from_file_to_report(tmp_path, caplog):
    """Scores of 1 to 7 got two-class accuracies of 1.0 without a word."""
    content = feature_files.content()
    for part in content.values():
        part["regression_labels"] = part["regression_labels"] + 4
        del part["classification_labels"]
    data = feature_files.write(tmp_path / "data.pkl", content)
    caplog.set_level("INFO", "msa_jax")
    for metric_set, keys in (("mosi", ("acc7", "mae", "corr")), ("plain", ("mae", "corr", "r2", "ccc"))):
        folder = tmp_path / metric_set
        settings = [
            f"data.path={data}",
            "data.label_range=(1,7)",
            f"data.metrics={metric_set}",
            "train.epochs=1",
        ]
        config = load(f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny", [*settings, "data.name=mine"])
        caplog.clear()
        result = train_and_evaluate(config, folder)
        assert tuple(k for k in result["test"] if not k.startswith("loss")) == keys
        said = "scores from 1 to 7 have no negative and positive side" in caplog.text
        report = page.write_report(folder).read_text()
        assert said == ("no negative and positive side" in report) == (metric_set == "mosi")
        assert ("Acc-7" in report) == (metric_set == "mosi")
        assert "Acc-2" not in report
        with pytest.raises(ConfigError, match=r"train\.monitor='acc2_has0' is not one of loss, "):
            train_and_evaluate(
                load(f"{CONFIGS / 'mosi.py'}:lf_dnn,tiny", [*settings, "train.monitor=acc2_has0"]), folder
            )


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
