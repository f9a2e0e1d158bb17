"""The jitted steps: same numbers on any number of devices, compiled once per shape, exact bookkeeping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from toy import Toy, run_steps, squared_error, toy_training

from msa_jax.data.loader import batch_of
from msa_jax.data.spec import MODALITIES
from msa_jax.models.outputs import Outputs
from msa_jax.nn.prefix_attention import attend
from msa_jax.training.corrupt import Corrupt
from msa_jax.training.step import forward, train_step


def assert_trees_close(a, b, atol):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol, rtol=0, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("resident", [True, False])
def test_devices_do_not_change_the_parameters(devices, resident):
    one = run_steps(*toy_training(optax.adam(1e-2), dropout=0.3), epochs=4)
    many = run_steps(
        *toy_training(optax.adam(1e-2), dropout=0.3, devices=devices, resident=resident), epochs=4
    )
    assert int(one[0].step) == int(many[0].step) == 20
    assert_trees_close(one[0].params, many[0].params, 1e-5)


def test_steady_state_compiles_nothing():
    programs, state, source, plan = toy_training(optax.adam(1e-2), buckets=3)
    state, _ = run_steps(programs, state, source, plan, epochs=1)
    shapes = len(plan.shapes)
    assert programs.traces["train"] <= shapes
    before = programs.traces["train"]
    run_steps(programs, state, source, plan, epochs=5)
    assert programs.traces["train"] == max(before, programs.traces["train"]) <= shapes
    assert programs.chunk._cache_size() + programs.gradient._cache_size() <= shapes
    assert programs.update._cache_size() <= 1


def test_a_chunk_equals_its_steps_one_by_one():
    programs, state, source, plan = toy_training(optax.adam(1e-2), dropout=0.2)
    single = jax.tree.map(jnp.copy, state)
    step = jax.jit(lambda s, b: train_step(programs.learner, s, b))
    for chunk, items in source.items(plan.epoch(0, 0, True)):
        for number in range(chunk.steps):
            item = jax.tree.map(lambda x, number=number: x[number], items)
            single, _ = step(single, batch_of(source.table, item, chunk.shape))
    state, _ = run_steps(programs, state, source, plan, epochs=1)
    assert int(single.step) == int(state.step)
    assert_trees_close(single.params, state.params, 1e-6)


def test_rows_that_fill_a_batch_change_nothing():
    exact = run_steps(*toy_training(optax.sgd(0.1), clips=12, batch_size=4, buckets=1), epochs=2)
    # Eight devices fill each batch of four up to eight rows.
    filled = run_steps(*toy_training(optax.sgd(0.1), clips=12, batch_size=4, buckets=1, devices=8), epochs=2)
    assert_trees_close(exact[0].params, filled[0].params, 1e-6)


def test_training_learns_and_its_loss_is_the_objective():
    state, losses = run_steps(*toy_training(optax.adam(3e-2), clips=64), epochs=30)
    assert losses[-8:].mean() < 0.3 * losses[:8].mean()
    assert int(state.step) == len(losses)


def test_dropout_differs_between_steps_and_repeats_with_the_seed():
    a = run_steps(*toy_training(optax.sgd(0.0), dropout=0.5, clips=8, batch_size=8), epochs=3)[1]
    b = run_steps(*toy_training(optax.sgd(0.0), dropout=0.5, clips=8, batch_size=8), epochs=3)[1]
    np.testing.assert_array_equal(a, b)
    assert len(set(a.tolist())) == 3


def test_bfloat16_trains_near_float32_and_keeps_float32_parameters():
    full = run_steps(*toy_training(optax.sgd(0.05)), epochs=2)
    half = run_steps(*toy_training(optax.sgd(0.05), dtype=jnp.bfloat16), epochs=2)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(half[0].params))
    assert_trees_close(full[0].params, half[0].params, 0.02)
    assert any(
        (np.asarray(x) != np.asarray(y)).any()
        for x, y in zip(jax.tree.leaves(full[0].params), jax.tree.leaves(half[0].params), strict=True)
    )


def test_the_step_contains_one_data_reduction_per_device_count():
    """On several devices the gradient is summed by the compiler, not by a second code path."""
    programs, state, source, plan = toy_training(optax.sgd(0.1), devices=8)
    chunk, items = next(iter(source.items(plan.epoch(0, 0, True))))
    lowered = programs.chunk.lower(state, source.table, items, jnp.int32(1), shape=chunk.shape)
    assert "all-reduce" in lowered.compile().as_text()


def test_predictions_do_not_depend_on_devices():
    outs = []
    for devices in (1, 8):
        programs, state, source, plan = toy_training(optax.sgd(0.1), devices=devices)
        chunk, items = next(iter(source.items(plan.once())))
        out = programs.predict_chunk(state, source.table, items, shape=chunk.shape)
        outs.append(np.asarray(out["predictions"]["M"])[:8])
    np.testing.assert_allclose(outs[0], outs[1], atol=1e-6)


class Attentive(nn.Module):
    """A linear score of text that attends to itself."""

    @nn.compact
    def __call__(self, batch, train):
        del train
        text = nn.Dense(3)(batch.values["text"])[:, None]  # one head
        reach = jnp.broadcast_to(batch.mask["text"].sum(1)[:, None], batch.mask["text"].shape)
        read = attend(text, text, text, reach, jax.random.key(0), 0.0)[:, 0].mean(1)
        return Outputs(predictions={"M": nn.Dense(1)(read)[:, 0]}, features={"fusion": read})


@pytest.mark.parametrize("devices", [1, 8])
def test_the_mesh_and_not_the_machine_decides_whether_attention_goes_by_tiles(tiled, devices):
    """The suite has eight devices; a program for one of them is the one that a user with one device runs."""
    assert jax.device_count() == 8
    training = toy_training(optax.sgd(0.1), devices=devices, buckets=1, model=Attentive())
    tiled.clear()  # of the program that made the parameters
    run_steps(*training, epochs=1)
    assert set(tiled) == ({"_forward_in_tiles", "_backward_in_tiles"} if devices == 1 else set())


def test_gradient_of_a_batch_is_the_mean_over_its_clips():
    programs, state, source, plan = toy_training(optax.sgd(1.0), buckets=1)
    chunk, items = next(iter(source.items(plan.once())))
    item = jax.tree.map(lambda x: x[0], items)
    batch = batch_of(source.table, item, chunk.shape)

    def loss(params, rows):
        part = jax.tree.map(lambda x: x[rows], batch)
        return squared_error(Toy().apply({"params": params}, part, train=False), part, {})[0]

    whole = jax.grad(loss)(state.params, jnp.arange(8))
    each = [jax.grad(loss)(state.params, jnp.array([i])) for i in range(8)]
    mean = jax.tree.map(lambda *g: sum(g) / 8, *each)
    stepped, _ = train_step(programs.learner, state, batch)
    moved = jax.tree.map(lambda a, b: a - b, state.params, stepped.params)
    assert_trees_close(whole, mean, 1e-6)
    assert_trees_close(moved, whole, 1e-6)


class SeesBefore(nn.Module):
    """A toy that is as good as the difference between the clips and what they were."""

    @nn.compact
    def __call__(self, batch, train):
        del train
        before = batch if batch.before is None else batch.before.clips
        assert before.values["text"].dtype == batch.values["text"].dtype
        scale = self.param("scale", nn.initializers.ones, ())
        away = (before.values["text"] - batch.values["text"]).sum(axis=(1, 2))
        return Outputs({"M": scale * away}, {"fusion": away[:, None]})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_model_sees_what_clips_were_before_they_lost_something(dtype):
    programs, state, source, plan = toy_training(optax.sgd(0.1), clips=8, batch_size=8, buckets=1)
    lose = Corrupt("frames", 1.0, 1.0, MODALITIES, False, 0)
    learner = programs.learner._replace(model=SeesBefore(), dtype=dtype)
    params = {"scale": jnp.ones(())}
    ((chunk, items),) = list(source.items(plan.epoch(0, 0, True)))
    batch = batch_of(source.table, jax.tree.map(lambda x: x[0], items), chunk.shape)
    total = jnp.where(batch.mask["text"][..., None], batch.values["text"], 0).sum(axis=(1, 2))
    for corrupt, expected in ((lose, total), (None, jnp.zeros_like(total))):
        seen = batch if corrupt is None else corrupt(batch, state.seed, state.step)
        outputs, _ = forward(learner, params, state, seen, train=True)
        np.testing.assert_allclose(outputs.predictions["M"], expected, rtol=0.05, atol=0.05)
