"""The whole model: against an independent version, and independent of padding and batch mates."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ufen_reference
from small import LENGTHS, SPEC, model_block, random_model_params, small_batch, used

from msa_jax import models
from msa_jax.models.outputs import Outputs
from msa_jax.models.ufen_mtfn import PAIRS

BLOCK = model_block("ufen_mtfn")
MODEL: Any = models.build(BLOCK, SPEC)
#: One convolution level, where gradients are compiled.
SHALLOW_BLOCK = model_block("ufen_mtfn", "n_layers=1")
SHALLOW: Any = models.build(SHALLOW_BLOCK, SPEC)
OBJECTIVE = models.objective(BLOCK, SPEC)


@functools.cache
def params(model=MODEL):
    return random_model_params(model)


@functools.partial(jax.jit, static_argnames="model")
def forward(params, batch, model=MODEL):
    return model.apply({"params": params}, batch, train=False)


@jax.jit
def gradient(params, batch):
    def loss(params):
        outputs = SHALLOW.apply({"params": params}, batch, train=False)
        return OBJECTIVE(outputs, batch, {})[0], outputs

    (_, outputs), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return outputs, grads


def assert_trees_close(a, b, atol=1e-5):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        scale = max(1.0, np.abs(x).max())
        np.testing.assert_allclose(x, y, atol=atol * scale, rtol=0, err_msg=jax.tree_util.keystr(path))


def test_predictions_equal_the_equations():
    batch = small_batch()
    outputs = forward(params(), batch)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params())
    for row, lengths in enumerate(LENGTHS):
        if min(lengths) == 0:
            continue
        clip = {
            m: np.asarray(batch.values[ufen_reference.NAMES[m]][row, :length], np.float64)
            for m, length in zip("tav", lengths, strict=True)
        }
        for name, expected in ufen_reference.ufen_mtfn(exact, clip, BLOCK.cross_heads).items():
            np.testing.assert_allclose(outputs.predictions[name][row], expected, rtol=1e-4, atol=1e-5)


def test_padding_changes_neither_outputs_nor_gradients():
    outputs, grads = gradient(params(SHALLOW), small_batch())
    again, grads_again = gradient(params(SHALLOW), small_batch(filler=np.nan))
    assert_trees_close(outputs, again)
    assert_trees_close(grads, grads_again)
    for path, g in jax.tree.leaves_with_path(grads):
        assert np.isfinite(g).all(), path
        assert np.abs(g).max() > 0, path
    longer = forward(params(), small_batch(steps=(6, 11, 7), filler=np.nan))
    assert_trees_close(forward(params(), small_batch()), longer)


def test_a_clip_does_not_depend_on_its_batch_mates():
    outputs = forward(params(), small_batch())
    other = forward(params(), small_batch(rows=(3, 1, 1, 0)))
    for a, b in zip(jax.tree.leaves(outputs), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a[jnp.array([3, 1, 1, 0])], b, atol=1e-5)
    # A batch of one clip with one step in each modality.
    alone = forward(params(), small_batch(steps=(1, 1, 1), rows=(2,)))
    for a, b in zip(jax.tree.leaves(outputs), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[2:3], b, atol=1e-5)


@pytest.mark.parametrize("absent", ["text", "audio", "vision"])
def test_a_modality_reaches_exactly_the_pairs_that_use_it(absent):
    batch = small_batch()
    silent = batch.replace(values={**batch.values, absent: jnp.zeros_like(batch.values[absent])})
    before, after = (np.asarray(forward(params(), b).features["pairs"]) for b in (batch, silent))
    changed = np.abs(before - after).max((0, 2)) > 1e-6
    np.testing.assert_array_equal(changed, [absent in pair for pair in PAIRS])


def test_a_whole_modality_may_be_missing():
    batch = small_batch()
    nothing = jnp.zeros_like(batch.mask["vision"])
    outputs, grads = gradient(params(SHALLOW), batch.replace(mask={**batch.mask, "vision": nothing}))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((outputs, grads)))
    assert not np.asarray(outputs.features["vision"]).any()


def test_bfloat16_is_near_float32():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params(SHALLOW))
    batch = small_batch()
    low_batch = batch.replace(values={m: x.astype(jnp.bfloat16) for m, x in batch.values.items()})
    low = forward(half, low_batch, SHALLOW)
    full, _ = gradient(params(SHALLOW), batch)
    for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05 * max(1.0, float(jnp.abs(b).max())))


def test_fusion_prediction_has_no_path_through_the_encoder_decoder():
    batch = small_batch()
    y_m = used(lambda p: MODEL.apply({"params": p}, batch, train=False).predictions["fusion"], params())
    behind = ("encoder/", "decoder/", "head_decoder/", "head_text/", "head_audio/", "head_vision/")
    assert y_m == {path: not path.startswith(behind) for path in y_m}


def outputs_of(**predictions) -> Outputs:
    return Outputs({k: jnp.asarray(v) for k, v in predictions.items()}, {})


#: Errors 1, 2, 3, 4, 5 in T, A, V, fusion, M, against the multimodal label.
ERRORS = dict(zip(("T", "A", "V", "fusion", "M"), (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 1 + 4 + 9 + 16 + 25),
        (["fusion_loss_weight=3"], 14 + 3 * 41),
        (["loss_tasks=TV"], 1 + 9 + 41),
        (["loss_tasks="], 41),
        (["multi_task=false"], 25),
        (["use_encoder_decoder=false"], 14 + 25),
        (["unimodal_target=own", "loss_tasks=A"], (2 - 0.5) ** 2 + 41),
    ],
)
def test_loss_is_the_sum_of_squared_errors(overrides, expected):
    block = model_block("ufen_mtfn", *overrides)
    batch = small_batch()
    label = batch.labels["M"]
    batch = batch.replace(labels={"M": label, "A": label + 0.5}, weight=jnp.array([1.0, 1, 1, 0]))
    # The last row only fills the batch.
    outputs = outputs_of(**{task: (label + e).at[3].set(99.0) for task, e in ERRORS.items()})
    loss, parts = models.objective(block, SPEC)(outputs, batch, {})
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    weights = {"M": block.fusion_loss_weight, "fusion": block.fusion_loss_weight}
    np.testing.assert_allclose(sum(weights.get(t, 1) * p for t, p in parts.items()), loss, rtol=1e-6)


def test_loss_of_an_empty_batch_is_zero():
    batch = small_batch()
    outputs = outputs_of(**dict.fromkeys(ERRORS, batch.labels["M"] + 1))
    assert OBJECTIVE(outputs, batch.replace(weight=jnp.zeros(4)), {})[0] == 0
