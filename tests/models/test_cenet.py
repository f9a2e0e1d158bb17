"""CENET: what a token finds by hand, what compat reads and does not train, sizes, decay, column groups."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.models.cenet import Enhancement, Look
from msa_jax.training import optim

#: BERT's pooler and three tables, which the public class has and nothing reads.
UNREAD = 768 * 769 + (3 + 5 + 6) * 768


def frozen_model(*overrides: str) -> Any:
    """A tiny model of stored text features."""
    return models.build(model_block("cenet", "text_encoder=frozen", *overrides), SPEC)


@pytest.mark.parametrize(
    ("dataset", "published"), [("mosi", 116_010_241), ("mosei", 116_074_753), ("sims", 109_346_305)]
)
def test_parameters_as_published_less_those_that_nothing_reads(dataset, published):
    assert count_parameters(f"{dataset}.py:cenet") + UNREAD == published


def looked(factor: float, frames: Any, mask: Any) -> np.ndarray:
    """What a token (1, 0) finds where queries and keys are what they are and values are doubled."""
    params = {name: {"kernel": jnp.eye(2), "bias": jnp.zeros(2)} for name in ("query", "key", "value")}
    params["value"] = {"kernel": 2 * jnp.eye(2), "bias": jnp.ones(2)}
    text = jnp.asarray([[[1.0, 0.0]]]), jnp.ones((1, 1), bool)
    found = jax.jit(Look(factor).apply)(
        {"params": params}, text, (jnp.asarray([frames]), jnp.asarray([mask]))
    )
    return np.asarray(found)[0, 0]


def test_what_a_token_finds_by_hand():
    frames = [[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]
    for factor in (2**-0.5, 8.0):
        share = np.exp(factor) / (np.exp(factor) + 1)
        expected = [2 * share + 1, 2 * (1 - share) + 1]
        np.testing.assert_allclose(looked(factor, frames, [True, True, False]), expected, rtol=1e-5)


def test_a_clip_without_a_frame_finds_nothing():
    np.testing.assert_array_equal(looked(1.0, [[5.0, 5.0]] * 2, [False, False]), 0)


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_multiplies_by_8_and_reads_padding(compat):
    model = frozen_model(f"compat={compat}")
    params = {"params": random_model_params(model)}
    run = jax.jit(lambda batch: model.apply(params, batch))
    batch = small_batch()
    loud = {
        m: x if m == "text" else jnp.where(batch.mask[m][..., None], x, 3) for m, x in batch.values.items()
    }
    plain, noisy = run(batch), run(batch.replace(values=loud))
    moved = np.abs(plain.predictions["M"] - noisy.predictions["M"]) > 1e-6
    # The first clip is as long as the batch: it has no padding.
    np.testing.assert_array_equal(moved, [False, compat, compat, compat])

    features = plain.features
    frames = {m: (features[f"{m}_transformed"], batch.mask[m] | compat) for m in ("audio", "vision")}
    factor = 8.0 if compat else SPEC.modalities["text"].width ** -0.5
    enhance: Any = jax.jit(Enhancement(factor).apply)
    inside = {"params": params["params"]["enhancement"]}
    by_hand = enhance(inside, (features["layer_0"], batch.mask["text"]), **frames)
    words = np.asarray(batch.mask["text"])
    np.testing.assert_allclose(features["shift"][words], by_hand["shift"][words], rtol=0, atol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
def test_only_compat_leaves_the_embeddings_as_they_are(compat):
    block = model_block("cenet", f"compat={compat}", "encoder.dropout=0.0", "encoder.attention_dropout=0.0")
    model, batch = models.build(block, SPEC), small_batch()
    ids = jnp.broadcast_to(jnp.arange(1, 6), (4, 5))
    batch = batch.replace(tokens=jnp.stack([ids, batch.mask["text"], 0 * ids], axis=1))
    loss = models.objective(block, SPEC)

    @jax.jit
    def gradient(key: jax.Array) -> Any:
        params = model.init(key, batch)["params"]
        return jax.grad(lambda p: loss(model.apply({"params": p}, batch), batch, ())[0])(params)

    parts = gradient(jax.random.key(0))["text_encoder"]["bert"]
    still = {name: not any(np.any(g) for g in jax.tree.leaves(part)) for name, part in parts.items()}
    assert still == {"embeddings": compat, "layer_0": False}
    assert models.frozen(block) == (("text_encoder/bert/embeddings/*",) if compat else ())


def test_a_shift_anywhere_moves_the_score_of_stored_features():
    model, batch = frozen_model(), small_batch()
    params = {"params": random_model_params(model)}
    run = jax.jit(lambda batch: model.apply(params, batch).predictions["M"])
    later = {**batch.values, "text": batch.values["text"].at[:, 2].add(3.0)}
    moved = np.abs(run(batch) - run(batch.replace(values=later))) > 1e-5
    np.testing.assert_array_equal(moved, [True, True, False, True])  # the third clip has one word


def test_norms_do_not_decay_and_biases_only_where_audio_and_vision_pass():
    config = configuration.load(f"{CONFIGS / 'mosi.py'}:cenet,tiny")
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes: Any = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)
    names = jax.tree_util.tree_leaves_with_path(optim.group_names(config.train, (), shapes["params"]))
    for path, name in names:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        passed = place.startswith(("audio/", "vision/", "enhancement/"))
        decays = passed or not place.endswith(("bias", "scale"))
        assert (name == "other") == decays, place
    assert (config.train.weight_decay, config.train.groups.no_decay.weight_decay) == (1e-4, 0.0)


def test_column_groups_have_two_layers_each():
    shapes = jax.tree.map(jnp.shape, random_model_params(frozen_model("fg=audio")))
    for k in (0, 1):
        group = shapes["audio"][f"group_{k}"]
        assert (group["inner"]["kernel"], group["outer"]["kernel"]) == ((2, 6), (6, 6))
    assert shapes["vision"]["inner"]["kernel"] == (7, 6)
