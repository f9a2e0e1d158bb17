"""MFN: what it alone does. What all models must keep is in test_contracts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import SPEC, count_parameters, model_block, small_batch

from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.models.mfn import read_aligned

LENGTHS = (4, 2, 1)


def aligned_batch(filler: float = 0.0) -> Batch:
    """Three clips whose audio and vision are at the text's steps, padded with ``filler``."""
    mask = np.arange(4)[None, :] < np.array(LENGTHS)[:, None]
    values = {}
    for k, (m, record) in enumerate(SPEC.modalities.items()):
        drawn = np.random.default_rng(k).normal(size=(3, 4, record.width))
        values[m] = jnp.asarray(np.where(mask[..., None], drawn, filler), jnp.float32)
    ones = jnp.ones(3)
    masks = dict.fromkeys(MODALITIES, jnp.asarray(mask))
    return Batch(values, masks, {"M": 0 * ones}, jnp.arange(3), ones)


def run(batch: Batch, *overrides: str) -> Any:
    """Outputs with random parameters, the same ones for every batch."""
    model = models.build(model_block("mfn", *overrides), SPEC)
    return model.apply({"params": random_params(model, aligned_batch())}, batch)


@pytest.mark.parametrize(
    ("argument", "count"),
    [
        ("mosi.py:mfn", 2_172_657),
        ("mosei.py:mfn", 1_276_865),
        ("sims.py:mfn", 601_505),
        ("mosei.py:mfn,task=classification", 1_277_123),
        ("sims.py:mfn,task=classification", 601_635),
        ("mosei.py:mfn,fg=both", 1_345_505),
        ("sims.py:mfn,fg=both", 726_769),
    ],
)
def test_parameters_as_published(argument, count):
    assert count_parameters(argument) == count


@pytest.mark.parametrize("compat", [False, True])
def test_padding_is_read_only_under_compat(compat):
    quiet, loud = (run(aligned_batch(f), f"compat={compat}").predictions["M"] for f in (0.0, 3.0))
    # The first clip is as long as the batch: it has no padding.
    np.testing.assert_array_equal(np.isclose(quiet, loud, rtol=0, atol=1e-6), [True, not compat, not compat])


def test_fusion_is_every_last_h_and_the_memory():
    features = run(aligned_batch()).features
    parts = [features[name] for name in ("text", "audio", "vision", "memory")]
    np.testing.assert_array_equal(features["fusion"], jnp.concatenate(parts, axis=1))


@pytest.mark.parametrize("fg", ["both", "audio", "vision"])
def test_fine_grained_leaves_text_as_it_was(fg):
    model, plain = (models.build(model_block("mfn", f"fg={f}"), SPEC) for f in (fg, "none"))
    ours, theirs = (random_params(m, aligned_batch()) for m in (model, plain))
    for name in theirs:
        if name != "system":
            assert jax.tree.map(jnp.shape, ours[name]) == jax.tree.map(jnp.shape, theirs[name])
    split = ("audio", "vision") if fg == "both" else (fg,)
    for m in MODALITIES:
        assert (f"{m}_attention" in ours["system"]) == (m in split)
        assert (f"{m}_input" in ours["system"]) == (m not in split)
    outputs = model.apply({"params": ours}, aligned_batch(np.nan))
    assert np.isfinite(outputs.predictions["M"]).all()


def test_steps_that_differ_are_named():
    with pytest.raises(ConfigError, match=r"text 5, audio 8, vision 6; set data\.reduce=align"):
        read_aligned(small_batch(), compat=False)
