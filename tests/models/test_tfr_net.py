"""TFR-Net: what is reconstructed from where, its error by hand, what compat restores, sizes, groups."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SPEC, count_parameters, model_block, random_model_params, small_batch

from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.models.tfr_net import restoration
from msa_jax.training.corrupt import Corrupt

#: BERT's pooler, which the public class has and nothing reads.
UNREAD = 768 * 769
LOSE = Corrupt("frames", 0.5, 0.5, MODALITIES, ends=False, unknown=0)


def frozen_model(*overrides: str) -> Any:
    """A tiny model of stored text features."""
    return models.build(model_block("tfr_net", "text_encoder=frozen", *overrides), SPEC)


@functools.cache
def ready(compat: bool) -> Any:
    """A function of a batch: outputs with random parameters, the same ones for every batch."""
    model = frozen_model(f"compat={compat}")
    params = random_model_params(model)
    return jax.jit(lambda batch: model.apply({"params": params}, batch, mutable=["batch_stats"])[0])


def lossy(batch: Batch | None = None) -> Batch:
    """The small clips without half of their steps."""
    return LOSE(small_batch() if batch is None else batch, jnp.asarray(1), jnp.asarray(0))


def louder(batch: Batch, row: int) -> Batch:
    """Other frames of audio in one clip."""
    return batch.replace(values={**batch.values, "audio": batch.values["audio"].at[row].multiply(3)})


@pytest.mark.parametrize(
    ("dataset", "published"), [("mosi", 124_332_860), ("mosei", 128_294_829), ("sims", 108_936_070)]
)
def test_under_compat_parameters_as_published_less_those_that_nothing_reads(dataset, published):
    assert count_parameters(f"{dataset}.py:tfr_net", "model.compat=true") + UNREAD == published


def test_what_is_evaluated_reconstructs_nothing():
    evaluated, trained = (set(ready(False)(batch).features) for batch in (small_batch(), lossy()))
    both = {f"{kind}_{m}" for kind in ("attended", "restored") for m in MODALITIES}
    assert trained - evaluated == {"wanted_text", *both}


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_reconstructs_from_the_clips_before(compat):
    batch = lossy()
    plain = ready(compat)(batch)
    for row in (0, 1):
        other = ready(compat)(louder(batch, row))
        for m in MODALITIES:
            gap = np.abs(plain.features[f"restored_{m}"] - other.features[f"restored_{m}"]).max(axis=(1, 2))
            expected = [place >= row if compat else place == row for place in range(4)]
            np.testing.assert_array_equal(gap > 1e-6, expected)
        np.testing.assert_array_equal(plain.predictions["M"] != other.predictions["M"], np.arange(4) == row)


def test_the_error_of_a_reconstruction_by_hand():
    wanted = jnp.asarray([[[0.0, 1.0], [5.0, 5.0], [jnp.nan, jnp.nan]], [[9.0, 9.0]] * 3])
    restored = jnp.asarray([[[0.5, 4.0], [0.0, 0.0], [7.0, 7.0]], [[0.0, 0.0]] * 3])
    lost = jnp.asarray([[True, False, False], [False] * 3])
    both = jnp.ones(2)
    error = restoration(restored, wanted, lost, both, 0.0)
    np.testing.assert_allclose(error, (0.5 * 0.5**2 + 3 - 0.5) / 2, rtol=1e-4)
    # Six rows: one of them differs, by (0.5, 3), from (0, 1).
    rows = [np.zeros((6, 2)) for _ in range(2)]
    rows[0][0], rows[1][0] = (0.5, 4.0), (0.0, 1.0)
    away = [x - x.mean(axis=0) for x in rows]
    apart = [x.mean(axis=0) for x in rows], *([(x**k).mean(axis=0) for x in away] for k in (2, 3))
    moments = sum(np.linalg.norm(a - b) for a, b in apart)
    found = restoration(restored, wanted, lost, both, 2.0) - error
    np.testing.assert_allclose(found, 2 * moments / 2, rtol=1e-4)


@pytest.mark.parametrize("moment_weight", [0.0, 5.0])
def test_where_nothing_was_lost_there_is_no_error_and_no_gradient(moment_weight):
    x, lost = jnp.ones((2, 3, 4)), jnp.zeros((2, 3), bool)
    error, gradient = jax.value_and_grad(restoration)(x, 2 * x, lost, jnp.ones(2), moment_weight)
    assert error == 0
    np.testing.assert_array_equal(gradient, 0)


def test_the_loss_adds_reconstructions_by_their_factors_and_evaluation_does_not():
    block = model_block("tfr_net", "text_weight=0.5", "audio_weight=2.0", "vision_weight=0.0")
    objective, batch = models.objective(block, SPEC), lossy()
    outputs = ready(False)(batch)
    loss, parts = objective(outputs, batch, ())
    assert min(float(parts[f"restore_{m}"]) for m in MODALITIES) > 0
    expected = parts["M"] + 0.5 * parts["restore_text"] + 2 * parts["restore_audio"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(objective.evaluate(outputs, batch)[0], parts["M"], rtol=1e-6)
    idle = batch.replace(weight=batch.weight.at[0].set(0))
    again = objective(
        outputs.replace(features={m: x.at[0].add(9) for m, x in outputs.features.items()}), idle, ()
    )
    np.testing.assert_allclose(again[1]["restore"], objective(outputs, idle, ())[1]["restore"], rtol=1e-6)


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_draws_the_text_to_its_reconstruction(compat):
    block = model_block("tfr_net", f"compat={compat}")
    model, batch = models.build(block, SPEC), small_batch()
    ids = jnp.broadcast_to(jnp.arange(1, 6), (4, 5))
    tokens = jnp.stack([ids, batch.mask["text"], 0 * ids], axis=1)
    batch = lossy(batch.replace(tokens=tokens))

    def first(params: Any) -> Any:
        outputs, _ = model.apply({"params": params}, batch, mutable=["batch_stats"])
        return jnp.sum(outputs.features["wanted_text"][..., 0])

    gradient = jax.jit(lambda key: jax.grad(first)(model.init(key, batch)["params"])["text_encoder"])
    assert any(np.any(g) for g in jax.tree.leaves(gradient(jax.random.key(0)))) == compat


def test_heads_that_do_not_divide_the_steps_are_told_under_compat_alone():
    models.build(model_block("tfr_net", "frame_heads=25"), SPEC)
    with pytest.raises(ConfigError, match=r"frame_heads=25 does not divide the 5 steps of text in small"):
        models.build(model_block("tfr_net", "frame_heads=25", "compat=true"), SPEC)


def test_column_groups_have_a_convolution_each():
    shapes = jax.tree.map(jnp.shape, random_model_params(frozen_model("fg=audio")))
    for k in (0, 1):
        assert shapes["audio"][f"group_{k}"]["conv"]["kernel"] == (5, 2, 8)
    assert shapes["vision"]["conv"]["kernel"] == (3, 7, 8)
