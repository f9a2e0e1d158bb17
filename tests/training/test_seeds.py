"""Several seeds in one program end as each would alone."""

import csv
import json
import pathlib

import jax
import numpy as np
import pytest
from toy import register, squared_error, toy_spec, toy_split
from toy_run import CONFIG, OBJECTIVE, PRELUDE

from msa_jax import configuration
from msa_jax.data.dataset import Dataset
from msa_jax.errors import ConfigError, Interrupted, RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import loop, seeds
from msa_jax.training.best import read_best

SEEDS = (1111, 1112, 1113)


def toy_config(monkeypatch, objective, *settings):
    """Of the toy model with dropout, on clips of two padded shapes."""
    register(monkeypatch, objective, 0.2)
    splits = {name: toy_split(n, n) for name, n in {"train": 30, "valid": 9, "test": 8}.items()}
    monkeypatch.setattr(loop, "load_dataset", lambda _data: Dataset(toy_spec(), splits))
    plain = ["train.epochs=4", "train.learning_rate=0.05", "train.batch_size=4", "data.buckets=2"]
    return configuration.load(f"{CONFIG}:toy", [*plain, *settings])


def folders(base, chosen=SEEDS):
    return {seed: base / str(seed) for seed in chosen}


def train_alone(config, runs):
    for seed, folder in runs.items():
        own = config.copy_and_resolve_references()
        own.train.seed = seed
        loop.train_and_evaluate(own, folder)


def history(folder: pathlib.Path):
    """The rows of the epochs without what the clock says."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


def predictions(folder: pathlib.Path):
    """All numbers of predictions.csv [N, columns]."""
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    return [[float(v) for k, v in row.items() if k not in ("id", "split")] for row in rows]


def assert_alike(runs, others, models=True):
    """The same epochs, figures, predictions and best models, to 1e-5.

    Not the models where Adam trains: it divides a weight's gradient by its size, and so moves those whose
    gradients are no larger than the rounding.
    """

    def close(mine, theirs):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)

    for seed, folder in runs.items():
        for mine, theirs in zip(history(folder), history(others[seed]), strict=True):
            jax.tree.map(close, mine, theirs)
        results = [json.loads((place / "result.json").read_text()) for place in (folder, others[seed])]
        for part in ("best_epoch", "parameters", "valid", "test"):
            jax.tree.map(close, results[0][part], results[1][part])
        close(*(predictions(place) for place in (folder, others[seed])))
        if models:
            mine, theirs = (read_best(place / "best").params for place in (folder, others[seed]))
            jax.tree.map(close, mine, theirs)


PLAIN = Objective(squared_error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "chunk_steps"),
    [(PLAIN, 1), (OBJECTIVE, 3), (Objective(squared_error, prelude=PRELUDE), 3)],
    ids=["plain", "remembers", "prelude"],
)
def test_every_seed_ends_as_it_does_alone(objective, chunk_steps, monkeypatch, tmp_path):
    """Early stopping ends them at different epochs; one that has stopped changes no more."""
    config = toy_config(
        monkeypatch, objective, f"train.chunk_steps={chunk_steps}", "train.patience=1", "train.epochs=8"
    )
    together, single = folders(tmp_path / "together"), folders(tmp_path / "single")
    assert seeds.train_seeds(config, together) == dict.fromkeys(SEEDS, "")
    train_alone(config, single)
    assert_alike(together, single)
    if objective is PLAIN:
        assert len({len(history(folder)) for folder in together.values()}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 6])
def test_any_number_of_devices_will_do(devices, monkeypatch, tmp_path):
    config = toy_config(monkeypatch, OBJECTIVE, f"train.devices={devices}")
    together, single = folders(tmp_path / "together"), folders(tmp_path / "single")
    assert not any(seeds.train_seeds(config, together).values())
    train_alone(config, single)
    assert_alike(together, single)


def test_the_program_is_compiled_once_for_each_shape(monkeypatch, tmp_path):
    made = []

    class Kept(seeds.SeedPrograms):
        def __init__(self, programs):
            super().__init__(programs)
            made.append(programs)

    monkeypatch.setattr(seeds, "SeedPrograms", Kept)
    config = toy_config(monkeypatch, OBJECTIVE, "train.epochs=3")
    seeds.train_seeds(config, folders(tmp_path))
    # The validation and test clips fit into a batch of the longer shape each.
    assert made[0].traces == {"train": 2, "predict": 1}


@pytest.mark.slow
def test_stopped_seeds_go_on_together_or_alone(monkeypatch, tmp_path):
    """Also where one stands at another step, since it was trained alone for a while."""
    config = toy_config(monkeypatch, OBJECTIVE, "train.checkpoint_steps=2")
    runs, single = folders(tmp_path / "runs"), folders(tmp_path / "single")
    train_alone(config, single)
    with monkeypatch.context() as patch:
        stop_after(patch, turns=11)
        with pytest.raises(Interrupted):
            seeds.train_seeds(config, runs)
    stood = {seed: sorted(p.name for p in (f / "checkpoints").iterdir()) for seed, f in runs.items()}
    assert all(stood.values())
    train_alone(config, {1112: runs[1112]})
    assert not any(seeds.train_seeds(config, runs).values())
    assert_alike(runs, single)


def stop_after(patch, turns):
    """Has the stop signal come once so many chunks have been run."""
    run, count = seeds.Together._run, iter(range(turns - 1))

    def counted(self, *arguments):
        if next(count, None) is None:
            self.stop.number = 15
        return run(self, *arguments)

    patch.setattr(seeds.Together, "_run", counted)


@pytest.mark.slow
def test_a_seed_that_fails_stops_no_other(monkeypatch, tmp_path):
    config = toy_config(monkeypatch, OBJECTIVE)
    together, single = folders(tmp_path / "together"), folders(tmp_path / "single")
    look_at = loop.Loop.look_at

    def broken(self, *arguments):
        if self.config.train.seed == 1112 and self.progress.epoch == 1:
            raise RunError("the loss is not finite")
        look_at(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "look_at", broken)
        failed = seeds.train_seeds(config, together)
    assert failed == {1111: "", 1112: "the loss is not finite", 1113: ""}
    assert not (together[1112] / "result.json").exists()
    left = (1111, 1113)
    train_alone(config, {seed: single[seed] for seed in left})
    assert_alike({seed: together[seed] for seed in left}, single)


def test_features_that_stay_with_the_host_are_refused(monkeypatch, tmp_path):
    config = toy_config(monkeypatch, OBJECTIVE, "data.resident=never")
    with pytest.raises(ConfigError, match="features on the device"):
        seeds.train_seeds(config, folders(tmp_path))
    assert not (tmp_path / "1111" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lf_dnn", "mfn", "mmim"])
def test_real_models_end_as_they_do_alone(model, tmp_path):
    """MMIM has a prelude and an objective that remembers. Several padded shapes are the toy's part."""
    config = configuration.load(f"configs/synthetic.py:tiny,{model}", ["train.epochs=3", "data.buckets=1"])
    together, single = folders(tmp_path / "together", SEEDS[:2]), folders(tmp_path / "single", SEEDS[:2])
    assert not any(seeds.train_seeds(config, together).values())
    train_alone(config, single)
    assert_alike(together, single, models=False)


@pytest.mark.slow
def test_the_test_split_is_watched_as_it_is_alone(monkeypatch, tmp_path):
    config = toy_config(monkeypatch, OBJECTIVE, "train.watch_test=true", "train.epochs=2")
    together, single = folders(tmp_path / "together", SEEDS[:2]), folders(tmp_path / "single", SEEDS[:2])
    assert not any(seeds.train_seeds(config, together).values())
    train_alone(config, single)
    assert_alike(together, single)
    assert all("watched_test" in row for row in history(together[1111]))
