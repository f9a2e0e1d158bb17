"""MCTN: what is read, what a translation reads and is measured by, and what compat restores."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import SPEC, model_block
from test_mfn import LENGTHS, aligned_batch

from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.errors import ConfigError
from msa_jax.models.outputs import Outputs

WIDTHS = {m: record.width for m, record in SPEC.modalities.items()}


@functools.cache
def ready(*overrides: str) -> Any:
    """A function of a batch: outputs with random parameters, the same ones for every batch."""
    model = models.build(model_block("mctn", *overrides), SPEC)
    params = random_params(model, aligned_batch())
    return jax.jit(lambda batch: model.apply({"params": params}, batch))


def changed(batch: Batch, m: str, step: int) -> Batch:
    """Another frame in the first clip, which is as long as the batch."""
    return batch.replace(values={**batch.values, m: batch.values[m].at[0, step].add(1)})


def apart(a: jax.Array, b: jax.Array) -> np.ndarray:
    """Per step of the first clip, how far two arrays [B, T, D] lie apart."""
    return np.abs(np.asarray(a - b))[0].max(axis=-1)


@pytest.mark.parametrize("m", ["audio", "vision"])
def test_only_the_text_is_read_for_a_score(m):
    run, batch = ready(), aligned_batch()
    ours, other = run(batch), run(changed(batch, m, 1))
    np.testing.assert_array_equal(ours.predictions["M"], other.predictions["M"])
    assert apart(ours.features[f"translated_{m}"], other.features[f"translated_{m}"]).max() > 1e-3
    text = run(changed(batch, "text", 1))
    assert np.abs(ours.predictions["M"] - text.predictions["M"])[0] > 1e-3


@pytest.mark.parametrize("m", ["audio", "vision"])
def test_a_frame_is_translated_from_those_before_it(m):
    run, batch = ready(), aligned_batch()
    moved = apart(*(run(b).features[f"translated_{m}"] for b in (batch, changed(batch, m, 1))))
    np.testing.assert_array_equal(moved[:2], 0)
    assert (moved[2:] > 1e-4).all(), "the LSTMs' state goes on"


def test_under_compat_a_decoder_forgets_and_clips_are_steps():
    run, batch = ready("compat=True"), aligned_batch()
    ours = run(batch)
    # A frame of the first clip is what the second clip's same step is translated from.
    before, after = (run(b).features["translated_audio"] for b in (batch, changed(batch, "audio", 1)))
    clips = np.abs(np.asarray(after - before)).max(axis=-1) > 1e-5
    np.testing.assert_array_equal(clips[:, 0], False)
    np.testing.assert_array_equal(clips[:, 1], [False, True, True])
    np.testing.assert_array_equal(np.asarray(after)[0], 0)
    order = np.array([2, 1, 0])
    turned = run(jax.tree.map(lambda x: x[order], batch))
    assert np.abs(turned.predictions["M"][order] - ours.predictions["M"]).max() > 1e-2


def test_a_translation_has_its_modalitys_columns():
    features = ready()(aligned_batch()).features
    widest = max(WIDTHS.values())
    for m, width in WIDTHS.items():
        x = np.asarray(features[f"translated_{m}"])
        assert x.shape == (3, 4, widest)
        assert np.abs(x[..., :width]).min() > 0
        np.testing.assert_array_equal(x[..., width:], 0)


def test_an_error_of_translation_is_over_own_steps_and_own_columns():
    batch, widest = aligned_batch(np.nan), max(WIDTHS.values())
    features = {}
    for m, x in batch.values.items():
        clean = jnp.where(batch.mask[m][..., None], x, 5)
        features[f"translated_{m}"] = jnp.pad(clean, [(0, 0), (0, 0), (0, widest - WIDTHS[m])])
    features["translated_audio"] = (
        features["translated_audio"].at[:, 0].add(1).at[..., WIDTHS["audio"] :].add(7)
    )
    loss = models.objective(model_block("mctn"), SPEC)
    total, parts = loss(Outputs({"M": jnp.ones(3)}, features), batch, ())
    assert float(parts["mse_a"]) == pytest.approx(np.mean(1 / np.array(LENGTHS)), rel=1e-6)
    assert float(parts["mse_t"]) == float(parts["mse_v"]) == 0
    assert float(total) == pytest.approx(1 + 0.1 * float(parts["mse_a"]), rel=1e-6)


def test_later_steps_than_asked_for_are_cut_off():
    assert models.steps_read(model_block("mctn", "max_steps=3")) == (3, 3, 3)
    run, batch = ready("max_steps=3"), aligned_batch()
    ours, other = run(batch), run(changed(batch, "text", 3))
    np.testing.assert_array_equal(ours.predictions["M"], other.predictions["M"])
    assert ours.features["translated_text"].shape[1] == 3


def test_column_groups_are_refused():
    with pytest.raises(
        ConfigError, match=r"model\.fg=audio, but model mctn reads the text alone.*set model\.fg=none"
    ):
        models.check(model_block("mctn", "fg=audio"))
