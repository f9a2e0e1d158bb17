"""MAG-BERT: the gate by hand and where it has no direction, what a score is read from, column groups."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data.batch import Batch
from msa_jax.data.preprocess import reduced_spec
from msa_jax.errors import ConfigError
from msa_jax.models.mag_bert import AdaptationGate, length

ALIGNED = reduced_spec(SPEC, "align")


def aligned_batch() -> Batch:
    """Three clips of 5, 3 and 1 words, with audio and vision in step."""
    batch = small_batch(steps=(5, 8, 6), rows=(0, 1, 2))
    words = batch.mask["text"]
    values = {m: jnp.where(words[..., None], x[:, :5], 0) for m, x in batch.values.items()}
    return batch.replace(values=values, mask=dict.fromkeys(values, words))


def frozen_model(*overrides: str) -> Any:
    """A tiny model of stored text features."""
    return models.build(model_block("mag_bert", "text_encoder=frozen", *overrides), ALIGNED)


def gate_of(beta: float, **values: Any) -> Any:
    """A gate's answer where both gates add the words' first two columns up and audio and vision pass as
    they are."""
    one = jnp.eye(2)
    params = {
        **{m: {"kernel": one, "bias": jnp.zeros(2)} for m in ("audio", "vision")},
        **{
            f"gate_{m}": {"kernel": jnp.concatenate([0 * one, jnp.ones((2, 2))]), "bias": jnp.zeros(2)}
            for m in ("audio", "vision")
        },
        "norm": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
    }
    values = {m: jnp.asarray([[x]], jnp.float32) for m, x in values.items()}
    gate = AdaptationGate(beta, 0.0)
    return jax.jit(lambda words: gate.apply({"params": params}, **words, train=False))(values)


def test_the_gate_by_hand():
    """z = (3, 4) opens both gates by 7; h = 7 * ((1, 0) + (0, 1)) is 9.9 long and is cut to beta * 5."""
    words: dict[str, Any] = {"text": (3.0, 4.0), "audio": (1.0, 0.0), "vision": (0.0, 1.0)}
    found = gate_of(1.0, **words)
    np.testing.assert_allclose(found["gate_audio"], [[[7, 7]]])
    np.testing.assert_allclose(found["displacement"], [[[7, 7]]])
    for beta in (0.2, 1.0):
        y = np.array([3.0, 4.0]) + beta * 5 * np.array([1.0, 1.0]) / 2**0.5
        normed = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
        np.testing.assert_allclose(gate_of(beta, **words)["fused"][0, 0], normed, rtol=1e-5)
    free = np.array([10.0, 11.0])  # beta * 5 is longer than h, which is added whole
    normed = (free - free.mean()) / np.sqrt(free.var() + 1e-5)
    np.testing.assert_allclose(gate_of(3.0, **words)["fused"][0, 0], normed, rtol=1e-5)


def test_a_word_without_displacement_has_a_gradient():
    """At the start biases are 0, so silence displaces nothing, and the norm divides by a length of 0."""
    silent = dict.fromkeys(("audio", "vision"), jnp.zeros((1, 1, 3)))
    text = jnp.asarray([[[1.0, -2.0]]])
    gate = AdaptationGate(1.0, 0.0)
    params = jax.jit(lambda key: gate.init(key, text, **silent, train=False)["params"])(jax.random.key(0))
    biases = {jax.tree_util.keystr(p): np.abs(x).max() for p, x in jax.tree.leaves_with_path(params)}
    assert {value for path, value in biases.items() if "bias" in path} == {0.0}

    def total(params: Any, text: jax.Array) -> jax.Array:
        found: Any = gate.apply({"params": params}, text, **silent, train=False)
        return jnp.sum(found["fused"][..., 0])

    grads = jax.jit(jax.grad(total, argnums=(0, 1)))(params, text)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    np.testing.assert_array_equal(jax.grad(lambda x: length(x)[0])(jnp.zeros(4)), 0)


def test_a_displacement_anywhere_moves_the_score_of_stored_features():
    model, batch = frozen_model(), aligned_batch()
    params = {"params": random_model_params(model, ALIGNED)}
    loud = {**batch.values, "audio": batch.values["audio"].at[:, 2].add(3.0)}
    run = jax.jit(lambda b: model.apply(params, b).predictions["M"])
    plain, moved = run(batch), run(batch.replace(values=loud))
    # The third clip has one word, so that this is padding.
    np.testing.assert_array_equal(np.abs(plain - moved) > 1e-4, [True, True, False])


def test_modalities_out_of_step_are_told():
    with pytest.raises(ConfigError, match=r"text 5, audio 8, vision 6; set data\.reduce=align"):
        jax.eval_shape(lambda: frozen_model().init(jax.random.key(0), small_batch(), train=False))


def test_column_groups_enter_with_the_texts_width():
    shapes = jax.tree.map(jnp.shape, random_model_params(frozen_model("fg=audio"), ALIGNED))
    groups = [shapes["fine_grained_audio"][f"group_{k}"]["dense"]["kernel"] for k in (0, 1)]
    assert groups == [(2, 6), (2, 6)]
    assert shapes["gate"]["audio"]["kernel"] == (6, 6)
    assert shapes["gate"]["vision"]["kernel"] == (7, 6)


def test_the_toolkits_name_is_answered_with_ours():
    with pytest.raises(ConfigError, match=r"'bert_mag' after .* Did you mean 'mag_bert'"):
        configuration.load(f"{CONFIGS / 'mosi.py'}:bert_mag")
