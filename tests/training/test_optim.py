"""The optimiser against worked numbers and PyTorch's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msa_jax.configuration import load
from msa_jax.errors import ConfigError
from msa_jax.training.accumulate import Optimizer, drop_accumulated
from msa_jax.training.optim import (
    build_optimizer,
    build_schedule,
    describe_groups,
    group_names,
)

CONFIG = str(__import__("pathlib").Path(__file__).resolve().parents[2] / "configs" / "mosi.py")


def train_block(**changes):
    train = load(CONFIG).train.copy_and_resolve_references()
    plain = {"clip_norm": 0.0, "learning_rate": 0.1, "epochs": 10, "schedule": "constant"}
    with train.unlocked():
        train.update(plain | changes)
    return train


def step(optimizer, gradients, state, params):
    """The update that the parameters receive for a batch's gradients, and the state after it."""
    changed, state = optimizer.step(gradients, state, params)
    return jax.tree.map(lambda new, old: new - old, changed, params), state


def updates(train, gradients, params=1.0, compat=False):
    """The updates that a scalar parameter receives for a list of gradients."""
    optimizer = build_optimizer(train, steps_per_epoch=5, compat=compat)
    params, out = {"w": jnp.float32(params)}, []
    state = optimizer.init(params)
    for g in gradients:
        update, state = step(optimizer, {"w": jnp.float32(g)}, state, params)
        out.append(float(update["w"]))
    return out


def numpy_adam(gradients, rate=0.1):
    m = v = 0.0
    out = []
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        out.append(-rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
    return out


def test_adam_is_the_published_one():
    gradients = [0.3, -0.2, 0.5, 0.1]
    np.testing.assert_allclose(updates(train_block(), gradients), numpy_adam(gradients), rtol=2e-5)


def test_weight_decay_goes_into_the_gradient_for_adam_and_past_it_for_adamw():
    gradients, w = [0.3, -0.2], 2.0
    l2 = updates(train_block(weight_decay=0.5), gradients, w)
    np.testing.assert_allclose(l2, numpy_adam([g + 0.5 * w for g in gradients]), rtol=2e-5)
    decoupled = updates(train_block(weight_decay=0.5, optimizer="adamw"), gradients, w)
    np.testing.assert_allclose(decoupled, np.array(numpy_adam(gradients)) - 0.1 * 0.5 * w, rtol=2e-5)


def test_clipping_limits_the_norm_or_each_value():
    # Adam's first update does not see the scale, so the second gradient shows the clipping.
    gradients = [1.0, 100.0]
    np.testing.assert_allclose(
        updates(train_block(clip_norm=1.0), gradients), numpy_adam([1.0, 1.0]), rtol=2e-5
    )
    np.testing.assert_allclose(
        updates(train_block(clip_value=2.0), gradients), numpy_adam([1.0, 2.0]), rtol=2e-5
    )


@pytest.mark.parametrize(("compat", "seen"), [(False, [0.2, 0.5]), (True, [0.4, 1.0])])
def test_accumulation_averages_and_sums_under_compat(compat, seen):
    out = updates(train_block(accumulate=2), [0.1, 0.3, 0.4, 0.6], compat=compat)
    np.testing.assert_allclose([out[1], out[3]], numpy_adam(seen), rtol=2e-5)
    assert out[0] == out[2] == 0.0


def test_the_optimiser_runs_only_when_it_updates():
    runs = []

    def counted(updates, params=None):
        jax.debug.callback(lambda: runs.append(1))
        return updates

    optimizer = Optimizer(optax.stateless(counted), count=3)

    def run(carried, gradient):
        carried = optimizer.step(gradient, carried[1], carried[0], scale=2.0)
        return carried, carried[0]

    first = jnp.float32(5.0)
    _, out = jax.jit(lambda g: jax.lax.scan(run, (first, optimizer.init(first)), g))(jnp.arange(7.0))
    jax.effects_barrier()
    np.testing.assert_allclose(out, [5, 5, 7, 7, 7, 15, 15], rtol=1e-6)
    assert len(runs) == 2


def test_dropping_forgets_the_waiting_gradients_only():
    train = train_block(accumulate=2)
    optimizer = build_optimizer(train, 5, compat=True)
    params = {"w": jnp.float32(1.0)}
    state = optimizer.init(params)
    for g in (0.1, 0.3, 100.0):
        _, state = step(optimizer, {"w": jnp.float32(g)}, state, params)
    state = drop_accumulated(state)
    for g in (0.4, 0.6):
        update, state = step(optimizer, {"w": jnp.float32(g)}, state, params)
    np.testing.assert_allclose(float(update["w"]), numpy_adam([0.4, 1.0])[1], rtol=2e-5)


def test_schedules():
    def rates(**changes):
        schedule = build_schedule(train_block(**changes), steps_per_epoch=5)
        return np.array([float(schedule(i)) for i in range(50)])

    np.testing.assert_allclose(rates(), np.full(50, 0.1), rtol=1e-6)
    warm = rates(warmup_epochs=2.0)
    np.testing.assert_allclose(warm[:11], np.linspace(0, 0.1, 11), atol=1e-7)
    np.testing.assert_allclose(warm[10:], np.full(40, 0.1), rtol=1e-6)
    linear = rates(schedule="linear")
    np.testing.assert_allclose(linear, 0.1 * (1 - np.arange(50) / 50), atol=1e-7)
    cosine = rates(schedule="cosine", warmup_epochs=1.0)
    np.testing.assert_allclose(cosine[5:], 0.05 * (1 + np.cos(np.pi * np.arange(45) / 45)), atol=1e-7)
    halved = rates(schedule="linear", accumulate=2)
    np.testing.assert_allclose(halved[:25], 0.1 * (1 - np.arange(25) / 25), atol=1e-7)


@pytest.mark.parametrize("key", ["optimizer", "schedule"])
def test_unknown_choices_are_named(key):
    with pytest.raises(ConfigError, match=f"train.{key}='adamm'"):
        build_optimizer(train_block(**{key: "adamm"}), 5, compat=False)


def test_the_state_is_a_pytree_of_arrays():
    state = build_optimizer(train_block(), 5, compat=False).init({"w": jnp.zeros(3)})
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))


PARAMS = {"text": {"w": jnp.float32(2.0)}, "audio": {"w": jnp.float32(2.0)}, "rest": jnp.float32(2.0)}
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def one_update(frozen=(), **changes):
    """The first update of three parameters for gradients of 1."""
    optimizer = build_optimizer(train_block(**changes), 5, compat=False, frozen=frozen)
    update, _ = step(optimizer, ONES, optimizer.init(PARAMS), PARAMS)
    return [float(update["text"]["w"]), float(update["audio"]["w"]), float(update["rest"])]


def test_groups_have_learning_rates_of_their_own():
    groups = {"slow": {"paths": "text/*", "learning_rate": 0.01}, "rest": {"paths": "*"}}
    np.testing.assert_allclose(one_update(groups=groups), [-0.01, -0.1, -0.1], rtol=1e-5)


def test_groups_keep_their_rates_where_the_others_have_none():
    """A model whose encoder alone is trained; rates as ratios to 0 would vanish."""
    groups = {"slow": {"paths": "text/*", "learning_rate": 0.01}}
    np.testing.assert_allclose(one_update(groups=groups, learning_rate=0.0), [-0.01, 0, 0], rtol=1e-5)
    still = {"slow": {"paths": "text/*", "learning_rate": 0.0}}
    np.testing.assert_allclose(one_update(groups=still), [0, -0.1, -0.1], rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_groups_follow_the_schedule(schedule):
    """A group with the rate of the others moves as they do, warm-up included."""
    shape = {"schedule": schedule, "warmup_epochs": 1.0, "epochs": 3}
    groups = {"twin": {"paths": "text/*", "learning_rate": 0.1}}
    optimizer = build_optimizer(train_block(groups=groups, **shape), 4, compat=False)
    schedule_alone = build_schedule(train_block(**shape), 4)
    state = optimizer.init(PARAMS)
    for count in range(12):
        update, state = step(optimizer, ONES, state, PARAMS)
        assert float(update["text"]["w"]) == float(update["rest"])
        np.testing.assert_allclose(float(update["rest"]), -float(schedule_alone(count)), rtol=1e-4, atol=1e-9)


def test_groups_have_weight_decays_of_their_own():
    # Decoupled, so that the first update shows it: rate * (1 + decay * 2).
    groups = {
        "text": {"paths": "text/*", "weight_decay": 0.5},
        "audio": {"paths": "audio/w", "weight_decay": 0.0},
    }
    seen = one_update(groups=groups, optimizer="adamw", weight_decay=0.25)
    np.testing.assert_allclose(seen, [-0.2, -0.1, -0.15], rtol=1e-5)


def test_what_is_frozen_stays_and_counts_in_no_norm():
    decayed = {"weight_decay": 0.5, "optimizer": "adamw"}
    assert one_update(frozen=("text/*", "rest"), **decayed)[0] == 0
    names = group_names(train_block(), ("text/*",), PARAMS)
    assert (names["text"]["w"], names["rest"]) == ("frozen", "other")
    optimizer = build_optimizer(train_block(clip_norm=1.0), 5, compat=False, frozen=("text/*", "audio/*"))
    state = optimizer.init(PARAMS)
    first, state = step(optimizer, ONES, state, PARAMS)
    loud = {"text": {"w": jnp.float32(1e6)}, "audio": {"w": jnp.float32(1.0)}, "rest": jnp.float32(1.0)}
    second, _ = step(optimizer, loud, state, PARAMS)
    np.testing.assert_allclose(
        [float(first["rest"]), float(second["rest"])], numpy_adam([1.0, 1.0]), rtol=2e-5
    )


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"a": {"paths": "txt/*"}}, "train.groups.a.paths='txt/\\*' matches no parameter"),
        ({"a": {"paths": "*"}, "b": {"paths": "text/*, audio/*, rest*"}}, "train.groups.a.paths"),
        ({"a": {"learning_rate": 0.1}}, "it takes paths"),
        ({"a": {"paths": "*", "rate": 0.1}}, "it takes paths"),
        ({"a": {"paths": "*", "weight_decay": -1.0}}, "not negative"),
    ],
)
def test_groups_that_cannot_work_are_named(groups, words):
    with pytest.raises(ConfigError, match=words):
        one_update(groups=groups, weight_decay=0.1)


def test_under_compat_the_growing_sum_is_clipped_after_every_batch():
    gradients = [0.9, -0.5, 0.3, 0.1]  # 0.9 -> 0.4, -0.1; 0.3, 0.4 within +-0.4
    out = updates(train_block(accumulate=2, clip_value=0.4), gradients, compat=True)
    np.testing.assert_allclose(out[1::2], numpy_adam([-0.1, 0.4]), rtol=2e-5)
    np.testing.assert_array_equal(out[::2], 0.0)
    once = updates(train_block(accumulate=2, clip_value=0.4), gradients)
    np.testing.assert_allclose(once[1::2], numpy_adam([0.2, 0.2]), rtol=2e-5)


def test_a_group_warms_up_by_itself():
    groups = {"slow": {"paths": "a/*", "learning_rate": 0.02, "warmup_epochs": 1.0}}
    train = train_block(groups=groups)
    optimizer = build_optimizer(train, steps_per_epoch=4, compat=False)
    params = {"a": {"w": jnp.float32(0)}, "b": {"w": jnp.float32(0)}}
    state, found = optimizer.init(params), {"a": [], "b": []}
    gradients = [0.3, -0.2, 0.5, 0.1, 0.4, -0.6]
    for g in gradients:
        update, state = step(optimizer, jax.tree.map(lambda _, g=g: jnp.float32(g), params), state, params)
        for name in found:
            found[name].append(float(update[name]["w"]))
    plain = np.array(numpy_adam(gradients))
    np.testing.assert_allclose(found["b"], plain, rtol=2e-5)
    rise = np.array([0, 0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(found["a"], 0.2 * rise * plain, rtol=2e-5)


def test_groups_are_described_with_what_they_train_with():
    groups = {"slow": {"paths": "a/*", "learning_rate": 0.02}, "heavy": {"paths": "b/*", "weight_decay": 0.5}}
    names = {"a/w": "slow", "b/w": "heavy", "c/w": "other", "d/w": "frozen"}
    described = describe_groups(train_block(groups=groups), names, dict.fromkeys(names, (2, 3)))
    assert described == {
        "frozen": {"parameters": 6, "learning_rate": 0.0, "weight_decay": 0.0},
        "heavy": {"parameters": 6, "learning_rate": 0.1, "weight_decay": 0.5},
        "other": {"parameters": 6, "learning_rate": 0.1, "weight_decay": 0.0},
        "slow": {"parameters": 6, "learning_rate": 0.02, "weight_decay": 0.0},
    }


def test_the_block_is_described_apart_where_it_does_not_decay():
    names = dict.fromkeys(("audio/group_0/w", "audio/attention/w", "audio/after"), "other")
    described = describe_groups(
        train_block(weight_decay=0.5, fg_decay=False), names, dict.fromkeys(names, (2, 3))
    )
    assert described == {
        "other": {"parameters": 6, "learning_rate": 0.1, "weight_decay": 0.5},
        "other, fg block": {"parameters": 12, "learning_rate": 0.1, "weight_decay": 0.0},
    }
