"""Data that is odd, from the file to the result: finite numbers, or one sentence of ours."""

import csv
import json
import math

import feature_files
import numpy as np
import pytest

from msa_jax import configuration
from msa_jax.errors import MsaJaxError
from msa_jax.training.loop import train_and_evaluate

CONFIG = "configs/mosi.py"


def train(tmp_path, content, *overrides, model="lf_dnn"):
    """Trains two epochs on a file of this content; returns result.json and the predictions."""
    path = feature_files.write(tmp_path / "data.pkl", content)
    settings = [f"data.path={path}", "train.epochs=2", "train.batch_size=4", "data.buckets=1", *overrides]
    run = tmp_path / "run"
    train_and_evaluate(configuration.load(f"{CONFIG}:{model},tiny", settings), run)
    with open(run / "predictions.csv", newline="") as file:
        predicted = [float(row["prediction"]) for row in csv.DictReader(file)]
    text = (run / "result.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    return json.loads(text), predicted


def holes(part):
    part["audio"][0, :, 1] = np.nan
    part["vision"][1] = np.inf
    part["text"][2, 0] = -np.inf


def constant(part):
    part["vision"][:, :, 0] = 5.0


def silent(part):
    part["audio"][:] = 0


def empty(part):
    for m in ("audio", "vision"):
        part[f"{m}_lengths"][0] = 0
        part[m][0] = 0


def padding_only(part):
    empty(part)
    part["text_bert"][0] = 0
    part["text"][0] = 0


def one_class(part):
    part["regression_labels"][:] = 2.0
    part["classification_labels"] = np.sign(part["regression_labels"]) + 1


def half_floats(part):
    for m in ("text", "audio", "vision"):
        part[m] = part[m].astype(np.float16)
        part[m][:, 0, 0] = np.float16(65504)
        part[m][:, 0, 1] = np.float16(6e-8)


def huge(part):
    part["audio"][part["audio"] != 0] *= 1e37


ODD = {f.__name__: f for f in (holes, constant, silent, empty, padding_only, one_class, half_floats, huge)}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lf_dnn", "ufen_mtfn", "mult"])
def test_everything_odd_at_once_gives_finite_scores(tmp_path, model):
    content = feature_files.content()
    for part in content.values():
        holes(part)
        constant(part)
        padding_only(part)
        half_floats(part)
    result, predicted = train(tmp_path, content, "data.feature_norm=zscore_train", model=model)
    assert np.isfinite(predicted).all()
    assert math.isfinite(result["test"]["mae"])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "zscore_train"])
@pytest.mark.parametrize("odd", ODD)
def test_odd_data_gives_finite_scores(tmp_path, odd, norm):
    content = feature_files.content()
    for part in content.values():
        ODD[odd](part)
    if (odd, norm) == ("huge", "none"):  # no arithmetic in 32 bits can
        with pytest.raises(MsaJaxError, match=r"not finite at step \d+ .* Lower .*feature_norm=zscore_train"):
            train(tmp_path, content)
        return
    result, predicted = train(tmp_path, content, f"data.feature_norm={norm}")
    assert np.isfinite(predicted).all()
    assert math.isfinite(result["test"]["mae"])
    assert (result["test"]["corr"] is None) == (odd == "one_class")


@pytest.mark.slow
def test_one_clip_a_split_is_enough(tmp_path):
    rng = np.random.default_rng(0)
    content = {name: feature_files.section(rng, name, 1) for name in feature_files.COUNTS}
    result, predicted = train(tmp_path, content)
    assert len(predicted) >= 1
    assert np.isfinite(predicted).all()
    assert result["test"]["corr"] is None


def test_labels_outside_the_range_are_told(tmp_path):
    content = feature_files.content()
    content["train"]["regression_labels"][0] = 7.0
    with pytest.raises(MsaJaxError, match=r"the M score 7, outside the label range -3 to 3") as caught:
        train(tmp_path, content)
    assert "\n" not in str(caught.value)
