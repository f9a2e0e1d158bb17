"""DLF: sizes, what only training computes, its losses by hand, what compat restores, groups."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.models.cosine_losses import overlap, ranking
from msa_jax.models.dlf import ORDER, step_mean

#: BERT's pooler, which the public class has and nothing reads.
POOLER = 768 * 769
#: BERT-base with it.
BERT = 109_482_240
QUIET = tuple(
    f"{name}_dropout=0.0"
    for name in ("text", "output", "embed", "text_attention", "audio_attention", "vision_attention")
)


def frozen_block(*overrides: str) -> Any:
    """A tiny model's block, with stored text features and no dropout."""
    return model_block("dlf", "text_encoder=frozen", *QUIET, *overrides)


@functools.cache
def ready(train: bool, *overrides: str) -> Any:
    """A function of a batch: outputs with random parameters, the same ones for every batch."""
    model = models.build(frozen_block(*overrides), SPEC)
    params = {"params": random_model_params(model)}
    return jax.jit(lambda batch: model.apply(params, batch, train=train))


@pytest.mark.parametrize(
    ("dataset", "reduce", "published"),
    [
        ("mosi", "align", 112_405_548),
        ("mosei", "align", 112_399_448),
        ("mosi", "none", 120_233_048),
        ("mosei", "none", 121_489_448),
    ],
)
def test_under_compat_parameters_as_published_less_the_pooler(dataset, reduce, published):
    found = count_parameters(f"{dataset}.py:dlf", "model.compat=true", f"data.reduce={reduce}")
    assert found + POOLER == published


@pytest.mark.parametrize(("dataset", "trained"), [("mosi", 3_566_105), ("mosei", 3_826_905)])
def test_by_default_only_those_that_are_trained(dataset, trained):
    """Of longer clips; the README has those of aligned ones."""
    assert count_parameters(f"{dataset}.py:dlf", "data.reduce=none") + POOLER == trained + BERT


def test_only_training_computes_what_only_the_loss_reads():
    batch = small_batch()
    trained, evaluated = ready(True)(batch), ready(False)(batch)
    only = {f"{kind}_{m}" for kind in ("restored", "found", "whole") for m in MODALITIES}
    assert trained.features.keys() - evaluated.features.keys() == only
    for name, y in evaluated.predictions.items():
        np.testing.assert_allclose(y, trained.predictions[name], atol=1e-5)


def test_the_loss_is_the_weighted_sum_of_its_parts():
    weights = ("text_weight=2.0", "decoupling_weight=0.5", "cosine_weight=0.25")
    objective, batch = models.objective(frozen_block(*weights), SPEC), small_batch()
    outputs = ready(True)(batch)
    loss, parts = objective(outputs, batch, ())
    errors = {"M": 1, "M_shared": 1, "M_text": 2, "M_audio": 1, "M_vision": 1}
    gaps = {f"{kind}_{m}": 0.5 for kind in ("restore", "find") for m in MODALITIES}
    cosines = {"ranking": 0.125, **{f"overlap_{m}": 0.125 for m in MODALITIES}}
    factors = errors | gaps | cosines
    assert parts.keys() == factors.keys()
    assert min(map(float, parts.values())) > 0
    np.testing.assert_allclose(loss, sum(factors[k] * v for k, v in parts.items()), rtol=1e-5)
    evaluated, only = objective.evaluate(outputs, batch)
    assert only.keys() == {"M"}
    np.testing.assert_allclose(evaluated, np.abs(outputs.predictions["M"] - batch.labels["M"]).mean(), 1e-5)


def test_errors_of_sequences_are_means_over_real_steps_of_clips_that_count():
    objective, batch = models.objective(frozen_block(), SPEC), small_batch()
    batch = batch.replace(weight=jnp.array([1.0, 1.0, 0.0, 1.0]))
    outputs = ready(True)(batch)
    _, parts = objective(outputs, batch, ())
    for m in MODALITIES:
        convolved, restored, real = (
            np.asarray(outputs.features[f"{kind}_{m}"]) for kind in ("convolved", "restored", "real")
        )
        rows = [restored[b][real[b]] - convolved[b][real[b]] for b in (0, 1, 3)]
        np.testing.assert_allclose(parts[f"restore_{m}"], (np.concatenate(rows) ** 2).mean(), rtol=1e-5)
    np.testing.assert_array_equal(outputs.features["real_audio"].sum(axis=1), [4, 1, 1, 0])  # kernel 5
    assert step_mean(jnp.ones((2, 3, 4)), jnp.zeros((2, 3), bool)) == 0


def test_ranking_by_hand():
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(7, 4)), np.array([0.5, 0.5, -1.0, 2.0, -1.0, 0.5, 2.0])
    real = np.array([True, True, True, True, True, True, False])
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = []
    for i in range(6):
        same = [p for p in range(6) if p != i and labels[p] == labels[i]]
        others = [n for n in range(6) if labels[n] != labels[i]]
        pairs = [
            max(0.0, 0.3 * abs(labels[i] - labels[n]) - u[i] @ u[p] + u[i] @ u[n])
            for p in same
            for n in others
        ]
        expected += [np.mean(pairs)] if pairs else []  # the fourth is the only one with its label
    assert len(expected) == 5
    found = ranking(*map(jnp.asarray, (x, labels, real)), margin=0.3)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)


def test_ranking_is_nothing_where_all_labels_are_equal_or_all_differ():
    run = jax.value_and_grad(ranking)
    for labels in (jnp.zeros(3), jnp.arange(3.0)):
        loss, gradient = run(jnp.eye(3), labels, jnp.ones(3, bool), 0.15)
        assert loss == 0
        np.testing.assert_array_equal(gradient, 0)


def test_overlap_by_hand():
    a = jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    b = jnp.array([[3.0, 3.0], [-1.0, -1.0], [0.0, 0.5], [1.0, 1.0]])
    np.testing.assert_allclose(overlap(a, b), [0.5**0.5, 0, 1, 0], atol=1e-6)
    assert np.isfinite(jax.grad(lambda x: overlap(x, b).sum())(a)).all()


def test_only_compat_holds_pieces_of_a_step_apart():
    batch, found = small_batch(), {}
    outputs = ready(True)(batch)
    for compat in ("false", "true"):
        for piece in (0, 2):
            block = frozen_block(f"piece={piece}", f"compat={compat}")
            found[compat, piece] = models.objective(block, SPEC)(outputs, batch, ())[1]["overlap_text"]
    assert found["false", 2] == found["false", 0] == found["true", 0] != found["true", 2]
    own, shared = (
        np.asarray(outputs.features[f"{kind}_text"][0, 0]).reshape(4, 2) for kind in ("specific", "shared")
    )  # the only real step of a text of 5
    assert int(outputs.features["real_text"].sum()) == 4
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(shared, axis=1)
    first = np.maximum((own * shared).sum(axis=1) / norms, 0).mean()
    one = batch.replace(weight=jnp.array([1.0, 0.0, 0.0, 0.0]))
    block = frozen_block("piece=2", "compat=true")
    _, parts = models.objective(block, SPEC)(outputs, one, ())
    np.testing.assert_allclose(parts["overlap_text"], first, rtol=1e-5)


def test_pieces_must_divide_the_width_as_heads_must():
    with pytest.raises(ConfigError, match=r"model\.piece=3 does not divide model\.d_model=8"):
        models.build(frozen_block("piece=3"), SPEC)
    with pytest.raises(ConfigError, match=r"model\.heads=3 does not divide model\.d_model=8"):
        models.build(frozen_block("heads=3"), SPEC)


def test_compat_reads_padding():
    run = ready(False, "compat=true")
    zeros, loud = (run(small_batch(filler=x)).predictions for x in (0.0, 5.0))
    for name in ("M", "M_audio", "M_vision", "M_shared"):  # stored text is zero at padding
        away = np.abs(zeros[name] - loud[name])
        assert away[0] < 1e-5  # a clip without padding
        assert np.all(away[1:] > 1e-4)


def test_a_clip_without_sound_has_nothing_to_compare_in_it():
    objective, batch = models.objective(frozen_block(), SPEC), small_batch()
    outputs = ready(True)(batch)
    for kind in ("end", "shared_end", "whole"):
        assert np.any(outputs.features[f"{kind}_vision"][3])
    np.testing.assert_array_equal(outputs.features["shared_end_audio"][3], 0)
    _, parts = objective(outputs, batch, ())
    loud = {**outputs.features, "whole_audio": outputs.features["whole_audio"].at[3].add(9)}
    _, again = objective(outputs.replace(features=loud), batch, ())
    assert parts["ranking"] == again["ranking"]


def test_a_whole_sequence_does_not_depend_on_the_padded_length():
    batch = small_batch(rows=(1, 2))
    short, long = ready(True)(batch), ready(True)(small_batch(steps=(4, 7, 4), rows=(1, 2)))
    for m in MODALITIES:
        np.testing.assert_allclose(short.features[f"whole_{m}"], long.features[f"whole_{m}"], atol=1e-5)


def test_the_final_score_is_read_from_four_gated_vectors():
    features = ready(False)(small_batch()).features
    assert features["fusion"].shape == (4, 6 * 8)
    assert np.all((features["fusion"] > 0) & (features["fusion"] < 1))
    assert ORDER == ("text", "vision", "audio")
    assert features["text_from_audio"].shape == features["specific_text"].shape


def test_column_groups_have_a_convolution_each():
    params = random_model_params(models.build(frozen_block("fg=audio"), SPEC))
    shapes = jax.tree.map(jnp.shape, params)
    for k in (0, 1):
        assert shapes["audio"][f"group_{k}"]["conv"]["kernel"] == (5, 2, 8)
    assert shapes["vision"]["conv"]["kernel"] == (5, 7, 8)


def test_training_follows_the_public_protocol():
    for dataset in ("mosi", "mosei"):
        train = configuration.load(f"{CONFIGS / dataset}.py:dlf").train
        assert (train.batch_size, train.accumulate, train.clip_value, train.patience) == (16, 10, 0.6, 10)
        assert (train.learning_rate, train.weight_decay, dict(train.groups)) == (1e-4, 0.0, {})
        assert (train.schedule, train.plateau_factor, train.plateau_patience) == ("plateau", 0.5, 5)
