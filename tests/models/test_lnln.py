"""LNLN: sizes, the completeness it is drawn to, where gradients turn, what is held, its losses by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch, used

from msa_jax import configuration, models
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError
from msa_jax.models.lnln import discrimination, reverse_gradient, share_kept
from msa_jax.training.corrupt import Corrupt
from msa_jax.weights.peers import PEERS

#: BERT's pooler, which the public class has and nothing reads.
POOLER = 768 * 769
LOSE = Corrupt("frames", 0.4, 0.9, MODALITIES, False, 0)


@functools.cache
def ready(compat: bool) -> Any:
    """A tiny model of stored text features, its objective, and its parameters."""
    block = model_block("lnln", "text_encoder=frozen", f"compat={compat}")
    model = models.build(block, SPEC)
    return model, models.objective(block, SPEC), random_model_params(model)


def lossy() -> Any:
    """The small clips without about two thirds of their steps."""
    return LOSE(small_batch(), jnp.asarray(1), jnp.asarray(0))


#: Parts of the parameters, and which paths are theirs.
BELOW = {
    "proxy": ("proxy", "proxy_start"),
    "complete": ("check", "complete"),
    "discriminator": ("discriminator",),
    "audio": ("audio", "audio_input"),
}


def moved(params: Any, by: Any) -> Any:
    """The parameters, each of BELOW moved by a number along a direction of its own."""
    rng = np.random.default_rng(2)
    found = dict(params)
    for names, size in zip(BELOW.values(), by, strict=True):
        for name in names:
            found[name] = jax.tree.map(lambda x, size=size: x + size * rng.normal(size=x.shape), params[name])
    return found


@functools.cache
def slopes(compat: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the parts of the loss and sums of features change along BELOW: by their gradients, and really."""
    model, objective, params = ready(compat)
    batch, step = lossy(), 3e-3

    def found(by: Any) -> dict[str, jax.Array]:
        outputs = model.apply({"params": moved(params, by)}, batch)
        both = [f"{kind}_{m}" for kind in ("restored", "wanted") for m in MODALITIES]
        return objective(outputs, batch, ())[1] | {k: jnp.sum(outputs.features[k][..., 0]) for k in both}

    run = jax.jit(lambda by: (found(by), jax.jacfwd(found)(by)))
    steps = step * jnp.eye(len(BELOW))
    up, down = ([run(way * by)[0] for by in steps] for way in (1, -1))
    really = {k: [(a[k] - b[k]) / (2 * step) for a, b in zip(up, down, strict=True)] for k in up[0]}
    by_gradient = run(jnp.zeros(len(BELOW)))[1]
    return tuple(
        {k: dict(zip(BELOW, map(float, x), strict=True)) for k, x in of.items()}
        for of in (by_gradient, really)
    )


@pytest.mark.parametrize(
    ("dataset", "published"), [("mosi", 115_965_252), ("mosei", 116_584_644), ("sims", 109_379_908)]
)
def test_parameters_as_published_less_the_pooler(dataset, published):
    assert count_parameters(f"{dataset}.py:lnln") + POOLER == published


def test_sizes_of_the_parts_as_published():
    shapes = jax.eval_shape(functools.partial(random_model_params, full_model(), SPEC))
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert sum(sizes[f"restore_{m}"] for m in MODALITIES) == 1_780_992
    assert sizes["proxy"] + sizes["proxy_start"] == 597_760 + 8 * 128
    assert sizes["check"] + sizes["complete"] == 602_241
    assert sizes["discriminator"] == 8_386


def full_model() -> Any:
    """The published sizes on small data."""
    block = configuration.load(f"{CONFIGS / 'mosi.py'}:lnln", ["model.text_encoder=frozen"]).model
    return models.build(block, SPEC)


def test_a_score_needs_neither_discriminator_nor_reconstruction():
    model, _, params = ready(False)
    read = used(lambda p: model.apply({"params": p}, small_batch()).predictions["M"], params)
    unread = {path.split("/")[0] for path, is_read in read.items() if not is_read}
    assert unread == {"discriminator", *(f"restore_{m}" for m in MODALITIES)}
    found = jax.eval_shape(lambda: model.apply({"params": params}, small_batch())).features
    assert not [name for name in found if name.startswith(("judged", "restored", "wanted"))]


def test_the_dominant_tokens_are_the_texts_as_far_as_it_is_complete():
    model, _, params = ready(False)
    found = jax.jit(model.apply)({"params": params}, lossy()).features
    w = found["complete"][:, None, None]
    assert np.all((w > 0) & (w < 1))
    np.testing.assert_allclose(
        found["dominant"], found["proxy"] * (1 - w) + found["text"] * w, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found["fusion"], found["crossed"][:, 1:].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_the_share_of_words_that_stayed():
    mask = jnp.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6], bool)
    lost = jnp.array([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0] * 6, [0] * 6], bool)
    np.testing.assert_allclose(share_kept(mask, lost, ends=True), [1 / 3, 1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(share_kept(mask, lost, ends=False), [3 / 5, 1, 1, 0], rtol=1e-6)


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_draws_completeness_to_the_rate_that_was_asked_for(compat):
    model, objective, params = ready(compat)
    batch = lossy()
    assert batch.before is not None
    stayed = 1 - batch.before.lost["text"].sum(axis=1) / batch.mask["text"].sum(axis=1)
    asked = 1 - batch.before.rates["text"]
    assert np.abs(stayed - asked).max() > 0.1
    outputs = jax.jit(model.apply)({"params": params}, batch)
    _, parts = objective(outputs, batch, ())
    w = outputs.features["complete"]
    np.testing.assert_allclose(
        parts["complete"], np.mean((w - (asked if compat else stayed)) ** 2), rtol=1e-5
    )


def test_a_reversed_gradient_leaves_the_values_to_the_bit():
    x = jnp.array([0.1, -3.3, 1e-30, 7e20])
    y, gradient = jax.value_and_grad(lambda v: jnp.sum(reverse_gradient(v)[:2] * jnp.array([2.0, 5.0])))(x)
    np.testing.assert_array_equal(reverse_gradient(x), x)
    np.testing.assert_array_equal(gradient, [-2, -5, 0, 0])
    assert np.isfinite(y)


@pytest.mark.parametrize(
    ("compat", "part", "below", "sign"),
    [
        (False, "M", "proxy", 1),
        (False, "M", "complete", 1),
        (False, "adversarial", "proxy", -1),
        (False, "adversarial", "complete", -1),
        (False, "adversarial", "discriminator", 1),
        (True, "M", "proxy", -1),
        (True, "M", "complete", 1),
        (True, "adversarial", "proxy", -1),
        (True, "adversarial", "complete", 1),
        (True, "adversarial", "discriminator", 1),
    ],
)
def test_only_compat_turns_the_scores_gradient(compat, part, below, sign):
    """By default all that is in the dominant tokens misleads the discriminator, and nothing the score."""
    by_gradient, really = slopes(compat)
    assert abs(really[part][below]) > 1e-3
    np.testing.assert_allclose(by_gradient[part][below], sign * really[part][below], rtol=0.03)


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_trains_the_targets(compat):
    by_gradient, really = slopes(compat)
    for name in ("wanted_audio", "restored_audio"):
        assert abs(really[name]["audio"]) > 1e-2
        held = name == "wanted_audio" and not compat
        expected = 0 if held else really[name]["audio"]
        np.testing.assert_allclose(by_gradient[name]["audio"], expected, rtol=0.03)


def test_discrimination_by_hand():
    judged = jnp.array([[[0.0, 2.0], [1.0, 1.0], [3.0, 0.0], [0.0, 0.0]], [[9.0, -9.0]] * 4])
    entropies = [np.log(1 + np.exp(-2)), np.log(2), np.log(1 + np.exp(-3)), np.log(2)]
    np.testing.assert_allclose(discrimination(judged, jnp.array([1.0, 0.0])), np.mean(entropies), rtol=1e-5)
    # Of the second clip two tokens are judged wrong, by 18.
    both = (np.mean(entropies) + 9) / 2
    np.testing.assert_allclose(discrimination(judged, jnp.ones(2)), both, rtol=1e-5)


def test_the_loss_is_the_weighted_sum_of_its_parts_and_evaluation_has_the_error_alone():
    block = model_block(
        "lnln", "completeness_weight=0.5", "adversarial_weight=0.7", "restore_weight=3.0", "task_weight=2.0",
        "text_encoder=frozen",
    )  # fmt: skip
    model, _, params = ready(False)
    objective, batch = models.objective(block, SPEC), lossy()
    outputs = jax.jit(model.apply)({"params": params}, batch)
    loss, parts = objective(outputs, batch, ())
    expected = 2 * parts["M"] + 0.5 * parts["complete"] + 0.7 * parts["adversarial"] + 3 * parts["restore"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    gaps = [outputs.features[f"restored_{m}"] - outputs.features[f"wanted_{m}"] for m in MODALITIES]
    np.testing.assert_allclose(parts["restore"], np.mean(np.stack(gaps) ** 2), rtol=1e-5)
    error = np.mean((outputs.predictions["M"] - batch.labels["M"]) ** 2)
    evaluated, alone = objective.evaluate(outputs, batch)
    np.testing.assert_allclose([evaluated, parts["M"]], [error, error], rtol=1e-5)
    assert alone.keys() == {"M"}
    loss, parts = objective(outputs, batch.replace(before=None), ())
    assert parts.keys() == {"M", "complete"}
    np.testing.assert_allclose(loss, 2 * parts["M"] + 0.5 * parts["complete"], rtol=1e-6)


def test_presets_are_the_authors():
    for dataset, layers, factor in (("mosi", 2, 0.8), ("mosei", 4, 0.8), ("sims", 4, 0.6)):
        config = configuration.load(f"{CONFIGS / dataset}.py:lnln")
        train, model = config.train, config.model
        assert (model.fusion_layers, model.adversarial_weight) == (layers, factor)
        assert (train.optimizer, train.learning_rate, train.weight_decay) == ("adamw", 1e-4, 1e-4)
        assert (train.batch_size, train.epochs, train.warmup_epochs) == (64, 200, 20.0)
        assert (train.corrupt, train.corrupt_rates) == ("frames", (0.0, 1.0))


def test_public_weights_of_parts_with_other_heads_are_refused():
    part = {"heads": 2, "input_dim": 8}
    dmc = {"proxy_dominant_feature_generator": part, "completeness_check": {"heads": 4}}
    dmml = {"language_encoder": part, "hyper_modality_learning": part, "fuison_transformer": part}
    sizes = {"feature_extractor": part, "dmc": dmc, "reconstructor": part, "dmml": dmml}
    with pytest.raises(DataError, match="only one for all three is read here"):
        PEERS["lnln"].settings({"base": {}, "model": sizes})
