"""Labels that are made while training: worked numbers, a NumPy reference, and what must never happen."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SPEC, model_block

from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.errors import ConfigError
from msa_jax.models import label_generation
from msa_jax.models.label_generation import FEATURES, Memory, Rule
from msa_jax.models.outputs import Outputs

RULE = Rule(bound=1.0, exclude_zero=True)
WIDTHS = {"fusion": 4, "text": 3, "audio": 2, "vision": 5}


def batch_of(index, labels, weight=None) -> Batch:
    weight = np.ones(len(index)) if weight is None else weight
    own = jnp.asarray(np.asarray(labels)[np.asarray(index)], jnp.float32)
    rows: Any = jnp.asarray(index, jnp.int32), jnp.asarray(weight, jnp.float32)
    return Batch({}, {}, {"M": own}, *rows)


def outputs_of(features, predictions=None) -> Outputs:
    return Outputs(predictions or {}, {name: jnp.asarray(x, jnp.float32) for name, x in features.items()})


def random_outputs(rng, rows, scale=1.0) -> Outputs:
    return outputs_of({name: scale * rng.normal(size=(rows, width)) for name, width in WIDTHS.items()})


def filled(labels, seed=0, step=1, steps_per_epoch=1, rule=RULE) -> Memory:
    """A memory whose features are random."""
    rng = np.random.default_rng(seed)
    labels = jnp.asarray(labels, jnp.float32)
    features = {
        t: jnp.asarray(rng.normal(size=(len(labels), WIDTHS[n])), jnp.float32) for t, n in FEATURES.items()
    }
    return label_generation.recount(dict.fromkeys(FEATURES, labels), features, step, steps_per_epoch, rule)


def empty_memory(rows: int) -> Memory:
    features = {task: jnp.zeros((rows, WIDTHS[name])) for task, name in FEATURES.items()}
    return label_generation.recount(dict.fromkeys(FEATURES, jnp.zeros(rows)), features, 1, 1, RULE)


remember = jax.jit(label_generation.remember, static_argnames="rule")


def assert_close(a, b, atol=1e-5):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol, err_msg=jax.tree_util.keystr(path))


def test_leaning_by_hand():
    centre = jnp.array([[3.0, 0.0], [-3.0, 0.0]])
    features = jnp.array([[0.0, 4.0], [1.0, 0.0], [-3.0, 0.0]])
    # As far from both; 2 from the positive and 4 from the negative centre; on the negative one.
    np.testing.assert_allclose(label_generation.lean(features, centre), [0, 1, -1], atol=1e-6)


def test_label_by_hand():
    own, fused, single = (jnp.array(x) for x in ([0.4, 0.4, -0.8], [0.5, 0.5, 0.25], [0.25, 0.75, 1.0]))
    # Half of 0.4 * 0.5 + 0.4 + 0.25 - 0.5; of 0.4 * 1.5 + 0.4 + 0.75 - 0.5; of -0.8 * 4 - 0.8 + 0.75.
    made = label_generation.make_label(own, fused, single, 3.0)
    np.testing.assert_allclose(made, [0.175, 0.625, -1.625], atol=1e-6)
    bounded = label_generation.make_label(own, fused, single, 0.5)
    np.testing.assert_allclose(bounded, [0.175, 0.5, -0.5], atol=1e-6)


def test_no_leaning_of_the_fusion_gives_a_number():
    poles = jnp.array([0.0, -label_generation.EPSILON])
    assert np.isfinite(label_generation.make_label(jnp.zeros(2), poles, jnp.ones(2), 1.0)).all()


def test_loss_by_hand():
    labels = np.array([0.0, 0.6, -0.4])
    memory = filled(labels)
    memory = memory.replace(labels={**memory.labels, "T": jnp.array([9.0, 0.1, -0.4])})
    predictions = {task: jnp.array([0.5, 0.0, 7.0]) for task in FEATURES}
    batch = batch_of([1, 2, 0], labels, weight=[1, 1, 0])
    loss, parts = label_generation.loss(outputs_of({}, predictions), batch, memory)
    assert parts["M"] == pytest.approx((0.1 + 0.4) / 2)
    assert parts["T"] == pytest.approx(np.tanh(0.5) * 0.4 / 2)
    assert parts["A"] == parts["V"] == 0  # labels are still the clips' own
    assert loss == pytest.approx(float(parts["M"] + parts["T"]))


def test_labels_take_no_gradient():
    memory = filled([0.5, -0.5, 0.0]).replace(labels=dict.fromkeys(FEATURES, jnp.array([0.9, -0.1, 0.2])))
    batch = batch_of([0, 1, 2], [0.5, -0.5, 0.0])

    def loss(scale):
        rng = np.random.default_rng(0)
        outputs = jax.tree.map(lambda x: x * scale, random_outputs(rng, 3))
        after = label_generation.remember(outputs, batch, memory, RULE)
        zeros = outputs_of({}, {task: jnp.zeros(3) for task in FEATURES})
        return label_generation.loss(zeros, batch, after)[0]

    assert jax.grad(loss)(1.0) == 0


def test_a_new_memory_holds_the_clips_own_labels_in_arrays_of_their_own():
    objective = models.objective(model_block("self_mm"), SPEC)
    labels = np.array([0.5, 0.0, -0.5, 1.0], np.float32)
    memory = objective.memory({"M": labels, "T": -labels}, 3)
    for task in FEATURES:
        np.testing.assert_array_equal(memory.labels[task], labels)
        assert memory.counts[task].tolist() == [2, 1]
    assert (memory.step, memory.steps_per_epoch) == (0, 3)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(memory)]
    assert len(set(buffers)) == len(buffers)  # a step may give each of them up


def reference(memory: Memory, features, index, own, rule: Rule) -> Any:
    """The same update by its definition, clip by clip in float64, every row averaged again."""
    epoch = int(memory.step) // int(memory.steps_per_epoch) + 1
    labels: Any = {t: np.array(x, np.float64) for t, x in memory.labels.items()}
    bank: Any = {t: np.array(x, np.float64) for t, x in memory.features.items()}

    def side(task, vector):
        positive = labels[task] > 0 if rule.exclude_zero else labels[task] >= 0
        to_positive = np.linalg.norm(vector - bank[task][positive].mean(axis=0))
        to_negative = np.linalg.norm(vector - bank[task][labels[task] < 0].mean(axis=0))
        return (to_negative - to_positive) / (to_positive + 1e-8)

    new = {t: labels[t].copy() for t in labels}
    for place, row in enumerate(index):
        if epoch == 1:
            break
        fused = side("M", features["fusion"][place])
        for task in ("T", "A", "V"):
            single = side(task, features[FEATURES[task]][place])
            ratio, label = single / (fused + 1e-8), own[row]
            made = np.clip((ratio * label + label + single - fused) / 2, -rule.bound, rule.bound)
            new[task][row] = ((epoch - 1) * labels[task][row] + 2 * made) / (epoch + 1)
    for task, name in FEATURES.items():
        bank[task][index] = features[name]
    return new, bank


@pytest.mark.parametrize("exclude_zero", [True, False])
def test_four_epochs_follow_the_definition(exclude_zero):
    rule = Rule(0.9, exclude_zero)
    rng = np.random.default_rng(4)
    own = np.round(rng.uniform(-1, 1, 18), 1)
    own[:2] = 0.0
    memory = filled(own, step=0, steps_per_epoch=3, rule=rule)
    clamped = 0
    for step in range(12):
        if step % 3 == 0:
            order = rng.permutation(18)
        index = order[6 * (step % 3) :][:6]
        outputs = random_outputs(rng, 6)
        labels, bank = reference(
            memory, {n: np.asarray(x) for n, x in outputs.features.items()}, index, own, rule
        )
        memory = remember(outputs, batch_of(index, own), memory, rule)
        assert_close(dict(memory.labels), labels, atol=2e-4)  # near its pole the ratio is steep
        assert_close(dict(memory.features), bank)
        clamped += int(np.sum(np.abs(labels["T"]) > 0.5))
        if step < 3:
            assert all(np.array_equal(x, np.float32(own)) for x in memory.labels.values())
    np.testing.assert_array_equal(memory.labels["M"], np.float32(own))
    assert clamped > 0
    assert memory.step == 12


def test_sums_stay_those_of_a_full_count():
    rng = np.random.default_rng(5)
    own = np.round(rng.uniform(-1, 1, 40), 1)
    memory = filled(own, steps_per_epoch=4)
    for step in range(300):
        index = rng.choice(40, size=8, replace=step % 2 == 0)
        weight = rng.integers(0, 2, size=8)
        memory = remember(random_outputs(rng, 8, scale=10), batch_of(index, own, weight), memory, RULE)
    counted = label_generation.recount(memory.labels, memory.features, 301, 4, RULE)
    assert_close(memory.counts, counted.counts, atol=0)
    scale = max(float(jnp.abs(x).max()) for x in memory.sums.values())
    assert_close(memory.sums, counted.sums, atol=1e-5 * scale)
    assert memory.step == counted.step


def test_idle_rows_write_nothing():
    own = np.array([0.5, -0.5, 0.3, -0.2])
    memory, rng = filled(own), np.random.default_rng(6)
    outputs = random_outputs(rng, 4)
    first_two = remember(
        outputs_of({n: x[:2] for n, x in outputs.features.items()}), batch_of([2, 1], own), memory, RULE
    )
    filled_up = remember(outputs, batch_of([2, 1, 0, 0], own, [1, 1, 0, 0]), memory, RULE)
    assert_close(first_two, filled_up, atol=0)
    loud = outputs_of(
        {n: jnp.where(jnp.arange(4)[:, None] < 2, x, jnp.nan) for n, x in outputs.features.items()}
    )
    assert_close(first_two, remember(loud, batch_of([2, 1, 0, 0], own, [1, 1, 0, 0]), memory, RULE), atol=0)
    idle = remember(loud, batch_of([0, 0, 0, 0], own, [0, 0, 0, 0]), memory, RULE)
    assert_close(idle.replace(step=memory.step), memory, atol=0)


def test_of_a_clip_that_comes_twice_the_last_row_counts():
    own = np.array([0.5, -0.5, 0.3, -0.2])
    memory, rng = filled(own), np.random.default_rng(7)
    outputs = random_outputs(rng, 3)
    twice = remember(outputs, batch_of([2, 1, 2], own), memory, RULE)
    once = remember(
        outputs_of({n: x[1:] for n, x in outputs.features.items()}), batch_of([1, 2], own), memory, RULE
    )
    assert_close(twice, once, atol=1e-7)
    # A last row that is idle does not count.
    idle = remember(outputs, batch_of([2, 1, 2], own, [1, 1, 0]), memory, RULE)
    np.testing.assert_array_equal(idle.features["T"][2], outputs.features["text"][0])


@pytest.mark.parametrize("own", [[0.5, 0.2, 0.0], [-0.5, -0.2, 0.0], [0.0, 0.0, 0.0]])
def test_an_empty_class_leaves_the_labels_and_gives_no_nan(own):
    memory = filled(own, step=4)
    rng = np.random.default_rng(8)
    for _ in range(2):
        memory = remember(random_outputs(rng, 3), batch_of([0, 1, 2], own), memory, RULE)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(memory))
    assert all(np.array_equal(x, np.float32(own)) for x in memory.labels.values())


def test_a_class_that_empties_leaves_nothing_behind():
    """What rounding left in its sum would be a centre as soon as it has a clip again."""
    own = np.array([0.5, 0.4, -1e-3])
    memory = filled(own)
    memory = memory.replace(sums={t: x + 1e-3 for t, x in memory.sums.items()})
    features = {n: np.asarray(memory.features[t])[2:] for t, n in FEATURES.items()}
    features["text"] = np.asarray(memory.features["T"])[:2].mean(axis=0, keepdims=True)  # like positive clips
    memory = remember(outputs_of(features), batch_of([2], own), memory, RULE)
    assert memory.labels["T"][2] > 0
    assert memory.counts["T"].tolist() == [3, 0]
    np.testing.assert_array_equal(memory.sums["T"][1], 0)


def test_what_the_objective_cannot_do():
    with pytest.raises(ConfigError, match=r"self_mm makes labels on a scale of scores"):
        models.check(model_block("self_mm", "task=classification"))
    with pytest.raises(ConfigError, match=r"model\.label_bound=-1\.0 must be at least 0"):
        models.check(model_block("tetfn", "label_bound=-1"))


@pytest.mark.parametrize(("given", "bound"), [("0", 4.0), ("2.5", 2.5)])
def test_labels_are_bounded_by_the_datas_own_range_unless_a_bound_is_given(given, bound):
    spec = dataclasses.replace(SPEC, label_range=(-4.0, 2.0))
    settings = models.read(model_block("self_mm", f"label_bound={given}"))
    assert isinstance(settings, label_generation.HeadSettings)
    assert label_generation.rule_of(settings, spec).bound == bound


def test_evaluation_knows_the_clips_own_labels_only():
    objective = models.objective(model_block("self_mm"), SPEC)
    own = np.array([0.5, -0.5, 0.25])
    outputs = outputs_of({}, {task: jnp.array([0.0, 0.0, 9.0]) for task in FEATURES})
    loss, parts = objective.evaluate(outputs, batch_of([0, 1, 2], own, [1, 1, 0]))
    assert loss == parts["M"] == 0.5


def test_an_update_copies_no_table():
    """Else it would cost a pass over the whole training split, step by step."""
    rows = 50_000
    memory = jax.eval_shape(lambda: empty_memory(rows))
    batch = jax.eval_shape(lambda: batch_of([0] * 4, np.zeros(1)))
    outputs = jax.eval_shape(lambda: outputs_of({n: np.zeros((4, w)) for n, w in WIDTHS.items()}))
    update = jax.jit(lambda o, b, m: label_generation.remember(o, b, m, RULE), donate_argnums=2)
    planned = update.lower(outputs, batch, memory).compile().memory_analysis()
    assert planned is not None
    assert planned.temp_size_in_bytes < 4 * rows  # the smallest table, a label for each clip
