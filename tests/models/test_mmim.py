"""What is particular to MMIM; the bounds by themselves are in test_mutual_information.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError
from msa_jax.models import mutual_information as mi
from msa_jax.models.outputs import Outputs
from msa_jax.training import optim

#: Published counts of the public class with BERT-base, and without it.
ALL = {"mosi": 109_763_913, "mosei": 109_774_665, "sims": 102_641_097}
WITHOUT_BERT = {"mosi": 281_673, "mosei": 292_425, "sims": 373_449}
#: Of BERT-base, in the published counts; nothing reads it, and it is no part of our encoder.
POOLER = 768 * 768 + 768
STEPS = 5


def block(*overrides: str) -> Any:
    return model_block("mmim", "text_encoder=frozen", *overrides)


@pytest.mark.parametrize("dataset", ALL)
def test_as_many_parameters_as_published(dataset):
    assert count_parameters(f"{dataset}.py:mmim") + POOLER == ALL[dataset]
    config = configuration.load(f"{CONFIGS / dataset}.py:mmim", ["model.text_encoder=frozen"])
    spec = opening.expected_spec(config)
    module = models.build(config.model, spec)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), example_batch(spec, 2), train=False))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == WITHOUT_BERT[dataset]


def outputs_of(rows: int, seed: int) -> tuple[Outputs, Any]:
    """Outputs and batch with drawn features, all signs of labels, without running a model."""
    rng = np.random.default_rng(seed)

    def draw(width: int) -> jax.Array:
        return jnp.asarray(rng.uniform(-1, 1, size=(rows, width)).astype(np.float32))

    features = {"text": draw(6), "predicted_text": draw(6), "fusion": draw(8)}
    for m in ("audio", "vision"):
        features |= {m: draw(8), f"predicted_{m}": draw(8), f"mean_{m}": draw(8)}
        features |= {f"log_variance_{m}": draw(8), f"sample_{m}": draw(2)}
    batch = small_batch(rows=tuple(i % 4 for i in range(rows)))
    labels = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=rows).astype(np.float32)
    batch = batch.replace(labels={**batch.labels, "M": jnp.asarray(labels)})
    return Outputs({"M": draw(1)[:, 0]}, features), batch


def test_the_entropy_counts_from_the_third_batch_of_every_epoch():
    objective = models.objective(block(), SPEC)
    assert objective.remember is not None
    memory, run, remember = objective.memory({}, STEPS), jax.jit(objective), jax.jit(objective.remember)
    before = None
    for step in range(2 * STEPS):
        outputs, batch = outputs_of(12, seed=step)
        total, parts = run(outputs, batch, memory)
        without = parts["task"] + 0.1 * parts["nce"] - 0.1 * parts["lld"]
        np.testing.assert_allclose(total, without - 0.1 * parts["H"], rtol=1e-5)
        if step % STEPS < 2:
            assert float(parts["H"]) == 0
        else:
            np.testing.assert_allclose(parts["H"], entropy([before, (outputs, batch)]), rtol=1e-4)
        memory, before = remember(outputs, batch, memory), (outputs, batch)
    assert int(memory["step"]) == 2 * STEPS


def entropy(batches) -> float:
    """By NumPy, from the samples of two batches together."""
    total = 0.0
    for m in ("vision", "audio"):
        samples = np.concatenate([np.asarray(o.features[f"sample_{m}"], np.float64) for o, _ in batches])
        label = np.concatenate([np.asarray(b.labels["M"]) for _, b in batches])
        for chosen in (samples[label > 0], samples[label < 0]):
            assert len(chosen) > 3
            covariance = np.cov(chosen.T, bias=True) + mi.RIDGE * np.eye(2)
            total += 0.25 * np.linalg.slogdet(covariance)[1]
    return total


def test_clips_that_fill_a_batch_are_not_remembered():
    objective = models.objective(block(), SPEC)
    assert objective.remember is not None
    outputs, batch = outputs_of(12, seed=0)
    loud = jax.tree.map(lambda x: x.at[9:].set(7), outputs)
    idle = batch.replace(weight=batch.weight.at[9:].set(0))
    part = jax.tree.map(lambda x: x[:9], (outputs, batch))
    memory = objective.memory({}, STEPS)
    run, remember = jax.jit(objective), jax.jit(objective.remember)
    with_idle, alone = remember(loud, idle, memory), remember(*part, memory)
    for a, b in zip(jax.tree.leaves(with_idle), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    third = {**alone, "step": jnp.asarray(2)}
    np.testing.assert_allclose(run(loud, idle, third)[0], run(*part, third)[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["no negative clip", "equal samples"])
def test_a_covariance_without_inverse_is_finite_but_for_compat(kind):
    outputs, batch = outputs_of(12, seed=0)
    if kind == "no negative clip":
        batch = batch.replace(labels={**batch.labels, "M": jnp.ones(12)})
    else:
        outputs.features["sample_audio"] = jnp.full((12, 2), 0.3)  # type: ignore[index]

    def loss(features, compat: str):
        objective = models.objective(block(f"compat={compat}"), SPEC)
        memory = {**objective.memory({}, STEPS), "step": jnp.asarray(2)}
        return objective(outputs.replace(features=features), batch, memory)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(outputs.features, "false")
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert not np.isfinite(loss(outputs.features, "true"))


def test_the_passes_share_the_parameters_between_them_but_for_the_projections():
    model = block()
    prelude = models.objective(model, SPEC).prelude
    assert prelude is not None
    params = random_model_params(models.build(model, SPEC))
    flat = {
        jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree.leaves_with_path(params)
    }
    first = set(optim.matching(flat, prelude.paths))
    held = set(optim.matching(flat, models.frozen(model)))
    assert held - first == {f"mi_{m}/entropy/{x}" for m in ("audio", "vision") for x in ("kernel", "bias")}
    assert len(first) == 16
    assert {path.split("/")[0] for path in flat.keys() - held} == {
        *("audio", "vision", "fusion_1", "fusion_2", "fusion_3"),
        *("predict_text", "predict_audio", "predict_vision"),
    }


def test_the_first_pass_raises_the_likelihood():
    module: Any = models.build(block(), SPEC)
    batch = small_batch()
    prelude = models.objective(block(), SPEC).prelude
    assert prelude is not None

    @jax.jit
    def loss(params):
        return prelude.loss(module.apply({"params": params}, batch, train=False), batch, ())

    params = random_model_params(module)
    value, parts = loss(params)
    np.testing.assert_allclose(value, -parts["lld"], rtol=1e-6)
    np.testing.assert_allclose(parts["lld"], parts["lld_tv"] + parts["lld_ta"], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: loss(p)[0]))(params)
    moved = {
        m: jax.tree.map(lambda p, g: p - 1e-3 * g, params[m], gradient[m]) for m in ("mi_audio", "mi_vision")
    }
    assert float(loss({**params, **moved})[0]) < float(value)


def test_kernels_start_from_xaviers_normal_values():
    config = configuration.load(f"{CONFIGS / 'mosi.py'}:mmim", ["model.text_encoder=frozen"])
    spec = opening.expected_spec(config)
    module = models.build(config.model, spec)
    batch = example_batch(spec, 1, (2, 2, 2))
    params: Any = jax.jit(lambda b: module.init(jax.random.key(0), b, train=False)["params"])(batch)
    for path, x in jax.tree.leaves_with_path(params):
        if x.ndim == 2 and x.size > 500:
            deviation = (2 / sum(x.shape)) ** 0.5
            assert abs(float(x.std()) / deviation - 1) < 0.15, path
            assert float(jnp.abs(x).max()) > 2.2 * deviation, path  # a uniform one ends at 1.7


def test_values_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"model\.task=regression"):
        models.build(block("task=classification"), SPEC)
    with pytest.raises(ConfigError, match=r"model\.audio_out=3 must be at least 4"):
        models.build(block("audio_out=3"), SPEC)
    with pytest.raises(ConfigError, match=r"model\.mi_share=1\.5"):
        models.objective(block("mi_share=1.5"), SPEC)
    with pytest.raises(ConfigError, match=r"model\.bound_weight=-1\.0 must be at least 0"):
        models.objective(block("bound_weight=-1.0"), SPEC)
