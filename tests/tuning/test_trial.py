"""Real trials, of the toy model: they never see the test split, are pruned, and go on after a stop."""

import contextlib
import json

import numpy as np
import pytest
from toy import register, squared_error, toy_spec, toy_split

from msa_jax.configuration import changed, from_json, load
from msa_jax.data.dataset import Dataset
from msa_jax.errors import Interrupted, RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import loop
from msa_jax.training.best import read_best
from msa_jax.tuning import journal, run
from msa_jax.tuning.folder import TuningFolder
from msa_jax.tuning.journal import Journal
from msa_jax.tuning.space import OneOf, Space
from msa_jax.tuning.trial import train_trial

SETTINGS = [
    "train.epochs=3",
    "train.batch_size=8",
    "data.buckets=1",
    "train.devices=1",
    "train.learning_rate=0.05",
]
SPACE = Space({"train.plateau_patience": OneOf(5, 6)})


class Closed:
    """A test split that nobody may look into."""

    def __getattribute__(self, name):
        raise AssertionError(f"somebody looked at {name} of the test split")

    def __len__(self):
        raise AssertionError("somebody counted the test split")


@pytest.fixture
def toy(monkeypatch):
    """Whole runs and trials of the toy model; gives the splits, to be changed."""
    register(monkeypatch, Objective(squared_error))
    splits = {name: toy_split(n, n) for name, n in {"train": 16, "valid": 9, "test": 8}.items()}
    monkeypatch.setattr(loop, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    monkeypatch.setattr(run, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    return splits


def configured(*overrides):
    return load("configs/mosi.py:toy", [*SETTINGS, *overrides])


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def taken(folder, monitor="mae", lower_is_better=True):
    """The first trial of a tuning, whose only setting changes nothing here."""
    trial = Journal(folder, SPACE, monitor, lower_is_better, 0).next(1)
    assert trial is not None
    assert trial.number == 0
    try:
        yield trial
    finally:
        trial.lock.release()


def test_a_trial_never_sees_the_test_split(toy, tmp_path):
    toy["test"] = Closed()
    folder, config = TuningFolder(tmp_path), configured("train.epochs=1")
    with taken(folder) as trial:
        result = train_trial(trial, config, folder)
    assert "test" not in result
    assert {"valid", "best_epoch", "seconds", "parameters"} <= result.keys()
    place = folder.trial(0)
    assert json.loads((place / "result.json").read_text()).keys() == result.keys()
    written = (place / "predictions.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in written} == {"split", "train", "valid"}
    assert not (place / "features.npz").exists()
    assert "test" not in {key for row in rows(place) for key in row}
    drawn = [f"{key}={value}" for key, value in trial.settings.items()]
    assert from_json((place / "config.json").read_text()) == changed(config, drawn)


def test_a_trial_trains_as_any_run(toy, tmp_path):
    usual = loop.train_and_evaluate(configured(), tmp_path / "run")
    folder = TuningFolder(tmp_path / "tuning")
    with taken(folder) as trial:
        result = train_trial(trial, configured(), folder)
    assert result["valid"] == usual["valid"]
    assert [row["valid"] for row in rows(folder.trial(0))] == [row["valid"] for row in rows(tmp_path / "run")]
    assert set(usual) - set(result) == {"test"}


def test_the_closed_split_would_be_noticed(toy, tmp_path):
    toy["test"] = Closed()
    with pytest.raises(AssertionError, match="somebody"):
        loop.train_and_evaluate(configured(), tmp_path / "run")


def test_a_trial_that_falls_behind_is_pruned(toy, tmp_path, monkeypatch):
    """Others were at 0 from the first epoch on; the rate of 0 leaves the error where it is."""
    monkeypatch.setattr(journal, "_UNPRUNED_EPOCHS", 2)
    (tmp_path / "mine.py").write_text(
        "from msa_jax.tuning.space import OneOf, Space\n\n"
        "def get_space(argument):\n    return Space({'train.accumulate': OneOf(1, 2)})\n"
    )

    def perfect(trial, base, _folder):
        for epoch in (1, 2, 3, 4):
            trial.handle.report(0.0, epoch)
        return {"valid": {base.train.monitor: 0.0}, "best_epoch": 1, "seconds": 1.0}

    def tune(trials):
        settings = [*SETTINGS, "train.epochs=5", "train.learning_rate=0"]
        return run.tune("configs/mosi.py:toy", f"{tmp_path}/mine.py", tmp_path / "tuning", settings, trials)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_trial", perfect)
        tune(5)
    best = tune(6)
    assert best["trials"] == {"complete": 5, "pruned": 1, "failed": 0}
    place = tmp_path / "tuning" / "trials" / "0005"
    assert [row["epoch"] for row in rows(place)] == [1, 2]
    assert not (place / "result.json").exists()
    assert read_best(place / "best").record["epoch"] == 1
    assert not (place / "checkpoints").exists(), "what is over keeps its best model alone"


def stopping_after(number):
    """A loop that is asked to stop once it has taken so many steps."""

    class Stopped(loop.Loop):
        def _asked_to_stop(self):
            return super()._asked_to_stop() or int(self.state.step) >= number

    return Stopped


def test_a_trial_that_was_stopped_goes_on_to_the_bit(toy, tmp_path, monkeypatch):
    results = []
    for name, stops in (("whole", ()), ("parts", (3, 5))):
        folder = TuningFolder(tmp_path / name)
        for number in (*stops, None):
            with monkeypatch.context() as patch, contextlib.suppress(Interrupted), taken(folder) as trial:
                if number:
                    patch.setattr(loop, "Loop", stopping_after(number))
                result = train_trial(trial, configured(), folder)
        known = trial.handle.study.trials[0].intermediate_values
        assert known == {row["epoch"]: row["valid"]["mae"] for row in rows(folder.trial(0))}
        assert len(known) == 3
        results.append((result["valid"], known, read_best(folder.trial(0) / "best").params))
    (valid, known, params), (valid_again, known_again, params_again) = results
    assert (valid, known) == (valid_again, known_again)
    for layer in params:
        for part in params[layer]:
            np.testing.assert_array_equal(params[layer][part], params_again[layer][part])


def test_a_score_that_is_no_number_is_a_failed_trial(toy, tmp_path):
    """The correlation of constant predictions."""
    toy["valid"].labels["M"][:] = 1.0
    folder = TuningFolder(tmp_path)
    config = configured("train.monitor=corr", "train.epochs=1")
    with (
        taken(folder, "corr", False) as trial,
        pytest.raises(RunError, match="validation corr of its best"),
    ):
        train_trial(trial, config, folder)
