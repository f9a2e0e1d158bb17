"""What a row of metrics.jsonl says of its epoch: gradient norm, seconds per step, learning rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import squared_error, toy_training
from toy_run import OBJECTIVE, PRELUDE, STEPS, metric_rows, start

from msa_jax.configuration import block, load
from msa_jax.data.loader import batch_of
from msa_jax.models.objectives import Objective
from msa_jax.training import optim
from msa_jax.training.checkpoint import Progress
from msa_jax.training.epoch import add_steps, end_of_epoch
from msa_jax.training.step import train_step

PLAIN = Objective(squared_error)


@pytest.mark.parametrize("frozen", [(), ("Dense_0/*",)], ids=["all", "part"])
def test_the_gradient_norm_is_that_of_what_is_trained_before_clipping(frozen):
    """Plain descent at rate 1 moves the parameters by their gradient."""
    programs, state, source, plan = toy_training(optax.sgd(1.0), buckets=1)
    chunk, items = next(iter(source.items(plan.once())))
    batch = batch_of(source.table, jax.tree.map(lambda x: x[0], items), chunk.shape)
    stepped, _ = train_step(programs.learner, state, batch)
    moved = jax.tree.map(lambda a, b: a - b, state.params, stepped.params)
    if frozen:
        moved = {"Dense_1": moved["Dense_1"]}
    expected = np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(moved)))
    clipped = toy_training(optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0)), buckets=1)
    learner = clipped[0].learner._replace(frozen=frozen)
    assert train_step(learner, clipped[1], batch)[1]["gradient_norm"] == pytest.approx(expected, rel=1e-5)


def test_steps_add_up_to_a_row():
    progress = Progress(seconds=9.0)
    progress.measured["seconds"] = 6.0
    add_steps(
        progress,
        {"loss": np.array([1.0, 6.0]), "weight": np.array([8.0, 2.0]), "gradient_norm": np.array([3.0, 8.0])},
        False,
    )
    add_steps(progress, {"loss": np.array([5.0]), "weight": np.array([4.0])}, True)
    row = end_of_epoch(progress, 7, {"other": 0.5}, {"mae": 0.1})
    assert row == {
        "epoch": 1, "step": 7, "learning_rate": 0.5, "train": {"loss": 2.0, "prelude_loss": 5.0},
        "valid": {"mae": 0.1}, "seconds": 9.0, "step_seconds": 2.0, "gradient_norm": 4.0,
    }  # fmt: skip
    assert (progress.sums, progress.measured, progress.history) == ({}, {}, [row])


def test_an_epoch_that_an_earlier_version_has_begun_has_no_measures_of_it():
    """Its checkpoints hold sums, and neither time nor norm."""
    progress = Progress(sums={"loss": 4.0, "weight": 2.0})
    row = end_of_epoch(progress, 1, {"a": 0.5, "b": 0.25}, {})
    assert row["train"] == {"loss": 2.0}
    assert row["learning_rate"] == {"a": 0.5, "b": 0.25}
    assert not {"step_seconds", "gradient_norm"} & row.keys()


@pytest.mark.parametrize("objective", [OBJECTIVE, Objective(squared_error, prelude=PRELUDE)])
def test_a_run_that_goes_on_has_the_rows_of_one_that_was_not_stopped(monkeypatch, tmp_path, objective):
    whole = start(monkeypatch, tmp_path / "whole", objective)
    for stop in (STEPS + 2, None):
        start(monkeypatch, tmp_path / "parts", objective, stop_at=stop)
    rows = {name: metric_rows(tmp_path / name) for name in ("whole", "parts")}
    assert [row["gradient_norm"] for row in rows["whole"]] == [row["gradient_norm"] for row in rows["parts"]]
    assert all(row["gradient_norm"] > 0 for row in rows["whole"])
    assert "gradient_norm" not in rows["whole"][0]["train"]
    steps = int(whole.state.step) // 3
    for row, before in zip(rows["parts"], [0.0, *(r["seconds"] for r in rows["parts"])], strict=False):
        assert 0 < row["step_seconds"] * steps < row["seconds"] - before + 1e-3


def test_the_rates_of_groups_are_those_that_the_optimiser_uses():
    """Adam moves a parameter by its rate while its gradient stays the same."""
    train = load("configs/mosi.py:lf_dnn", ["train.learning_rate=0.01", "train.epochs=4"]).train.unlock()
    train.update({"schedule": "linear", "warmup_epochs": 0.5, "accumulate": 2, "weight_decay": 0.0})
    train.groups = block({
        "slow": {"paths": "slow/*", "learning_rate": 0.002, "warmup_epochs": 2.0},
        "same": {"paths": "same/*", "weight_decay": 0.0},
    })  # fmt: skip
    params = {name: {"w": jnp.zeros(2)} for name in ("slow", "same", "rest", "still")}
    frozen = ("still/*",)
    groups = optim.trained_groups(train, frozen, params)
    assert groups == ("other", "same", "slow")
    optimizer = optim.build_optimizer(train, 8, False, frozen)
    state, gradient = optimizer.init(params), jax.tree.map(jnp.ones_like, params)
    for steps in range(1, 4 * 8 + 1):
        before, (params, state) = params, optimizer.step(gradient, state, params)
        if steps % 8:
            continue
        moved = {name: float((before[name]["w"] - params[name]["w"])[0]) for name in params}
        expected = {"other": moved["rest"], "same": moved["same"], "slow": moved["slow"]}
        assert moved["still"] == 0
        assert optim.rates_after(train, 8, groups, steps) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_run_with_groups_has_a_rate_for_each(monkeypatch, tmp_path):
    import toy_run

    real = toy_run.load

    def with_group(path, overrides):
        config = real(path, overrides).unlock()
        config.train.groups = block({"last": {"paths": "Dense_1/*", "learning_rate": 0.025}})
        return config.lock()

    monkeypatch.setattr(toy_run, "load", with_group)
    start(monkeypatch, tmp_path, PLAIN, "train.schedule=constant", "train.epochs=1")
    assert metric_rows(tmp_path)[0]["learning_rate"] == pytest.approx({"last": 0.025, "other": 0.05})
