"""The loop: what it picks, when it stops, what it says when the loss breaks."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import register, squared_error, toy_spec, toy_split

from msa_jax.configuration import load
from msa_jax.data.dataset import Dataset
from msa_jax.errors import ConfigError, RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import loop
from msa_jax.training.adopt import adopt
from msa_jax.training.run_folder import RunFolder

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")


def broken_for_clip_7(outputs, batch, memory):
    loss, parts = squared_error(outputs, batch, memory)
    return jnp.where((batch.index == 7).any(), jnp.nan, loss), parts


def run(monkeypatch, workdir, *overrides, objective=squared_error):
    """Trains the toy model on toy clips through the public function; returns (result, rows)."""
    register(monkeypatch, Objective(objective))
    splits = {
        name: toy_split(n, seed)
        for seed, (name, n) in enumerate({"train": 30, "valid": 9, "test": 8}.items())
    }
    monkeypatch.setattr(loop, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    plain = [
        "train.epochs=6",
        "train.learning_rate=0.05",
        "train.batch_size=8",
        "data.buckets=1",
    ]
    result = loop.train_and_evaluate(load(f"{CONFIG}:toy", [*plain, *overrides]), workdir)
    rows = [json.loads(line) for line in (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    return result, rows


def test_the_best_epoch_is_what_is_evaluated(monkeypatch, tmp_path):
    result, rows = run(monkeypatch, tmp_path)
    best = min(rows, key=lambda r: r["valid"]["mae"])
    assert result["best_epoch"] == best["epoch"]
    assert result["valid"]["mae"] == pytest.approx(best["valid"]["mae"], abs=1e-6)
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]
    features = np.load(tmp_path / "features.npz")
    assert features["fusion"].shape == (8, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "train.epochs=1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with RunFolder(tmp_path).held(), pytest.raises(RunError, match="another process trains"):
        run(monkeypatch, tmp_path, "train.epochs=1")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_weights_are_not_imported_into_a_folder_in_use(tmp_path):
    with RunFolder(tmp_path).held(), pytest.raises(RunError, match="another process trains"):
        adopt(load(CONFIG), tmp_path, lambda *_: pytest.fail("it went on"))


def test_a_score_of_which_more_is_better_is_maximised(monkeypatch, tmp_path):
    result, rows = run(monkeypatch, tmp_path, "train.monitor=corr")
    assert result["best_epoch"] == max(rows, key=lambda r: r["valid"]["corr"])["epoch"]


def test_patience_ends_the_run(monkeypatch, tmp_path):
    _, rows = run(monkeypatch, tmp_path, "train.learning_rate=0", "train.patience=2", "train.epochs=9")
    assert len(rows) == 3


def test_the_plateau_schedule_lowers_the_rate(monkeypatch, tmp_path):
    stuck = ["train.min_delta=9", "train.schedule=plateau", "train.plateau_patience=1", "train.patience=0"]
    _, rows = run(monkeypatch, tmp_path, *stuck)
    np.testing.assert_allclose(
        [r["learning_rate"] / 0.05 for r in rows], [1, 1, 1, 0.1, 0.1, 0.01], rtol=1e-5
    )


def test_a_loss_that_is_not_finite_names_step_clips_and_checkpoint(monkeypatch, tmp_path):
    with pytest.raises(
        RunError, match=r"not finite at step \d+ \(epoch 1\) on the clips .*clip7.*no checkpoint yet"
    ):
        run(monkeypatch, tmp_path, objective=broken_for_clip_7)


def with_broken_gradient(outputs, batch, memory):
    """A finite loss whose gradient is not: 0 times the infinite slope of a root at 0."""
    loss, parts = squared_error(outputs, batch, memory)
    return loss + jnp.sqrt(0 * jnp.abs(outputs.predictions["M"]).sum()), parts


@pytest.mark.parametrize(
    ("settings", "step"),
    [(["train.batch_size=30"], 1), (["train.batch_size=8", "train.checkpoint_steps=1"], 1)],
    ids=["in an epoch's last step", "before a checkpoint"],
)
def test_parameters_that_are_not_finite_name_step_clips_and_advice(monkeypatch, tmp_path, settings, step):
    with pytest.raises(
        RunError, match=rf"parameters are not finite after step {step} \(epoch 1\) on"
    ) as caught:
        run(monkeypatch, tmp_path, *settings, objective=with_broken_gradient)
    for words in ("the clips clip", "there is no checkpoint yet", "Lower train.learning_rate"):
        assert words in str(caught.value)
    assert not any(p.name.isdecimal() for p in (tmp_path / "checkpoints").iterdir())


def test_predictions_that_are_not_finite_name_split_clips_and_advice(monkeypatch, tmp_path):
    real = loop.Loop.evaluate
    infinite = {"calls": 0}

    def evaluate(self, split):
        infinite["calls"] += 1
        if infinite["calls"] == 2:
            wide = jax.tree.map(lambda x: jnp.sign(x) * 3e38, self.state.params)
            self.state = self.state.replace(params=wide)
        return real(self, split)

    monkeypatch.setattr(loop.Loop, "evaluate", evaluate)
    with pytest.raises(
        RunError, match=r"after step 8 the predictions for \d clips of the split 'valid'.*step 4"
    ):
        run(monkeypatch, tmp_path)


def test_validation_losses_are_means_over_clips(monkeypatch, tmp_path):
    """Batches of 4 leave a last one of 1; it must count as one clip, not as a quarter of the loss."""
    whole, _ = run(monkeypatch, tmp_path / "a", "train.epochs=1")
    parts, _ = run(monkeypatch, tmp_path / "b", "train.epochs=1", "train.eval_batch_size=4")
    assert parts["valid"]["loss"] == pytest.approx(whole["valid"]["loss"], rel=1e-5)


def test_event_files_are_written(monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "train.epochs=1", "train.tensorboard=true")
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_streaming_from_disk_trains_the_same_model(monkeypatch, tmp_path):
    resident, _ = run(monkeypatch, tmp_path / "a", "train.epochs=2")
    streamed, _ = run(monkeypatch, tmp_path / "b", "train.epochs=2", "data.resident=never")
    assert streamed["test"]["mae"] == pytest.approx(resident["test"]["mae"], abs=1e-6)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.monitor=mea", "'mae'"),
        ("train.batch_size=0", "at least 1"),
        ("train.learning_rate=-1", "not negative"),
        ("train.precision=float16", "bfloat16"),
        ("train.devices=99", "there are"),
        ("data.feature_norm=zscore", "zscore_train"),
        ("model.name=tiy", r"configs/mosi\.py:tiy"),
    ],
)
def test_settings_that_cannot_work_are_named_before_training(monkeypatch, tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        run(monkeypatch, tmp_path, override)
    # The folder is still free for the settings that were meant.
    assert not (tmp_path / "config.json").exists()
