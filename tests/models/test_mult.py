"""MulT: what compat restores, where column groups go."""

import dataclasses
import functools
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest
from small import CONFIGS, SPEC, model_block, random_model_params, small_batch, used

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.data.spec import ModalitySpec
from msa_jax.errors import ConfigError


def sizes(argument: str) -> dict[str, int]:
    """Elements per parameter of a data set's full model."""
    dataset, variant = argument.split(":")
    config = configuration.load(f"{CONFIGS / dataset}.py:{variant}")
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2, (8, 8, 8)))
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)["params"]
    return {k: int(np.prod(x.shape)) for k, x in flax.traverse_util.flatten_dict(shapes, sep="/").items()}


def test_column_groups_have_a_convolution_each():
    names = sizes("sims:mult,fg=vision")
    kernels = {k: n for k, n in names.items() if k.startswith("vision/") and "/conv/" in k}
    assert sorted(kernels.values()) == [50 * width for width in (6, 8, 35, 40, 280, 340)]
    assert names["vision/attention/output/kernel"] == 6 * 50 * 50
    assert names["audio/conv/kernel"] == 33 * 50


def outputs_of(block, batch, spec=SPEC) -> Any:
    model: Any = models.build(block, spec)
    params = {"params": random_model_params(model, spec)}
    return jax.jit(functools.partial(model.apply, train=False))(params, batch)


def test_compat_reads_padding():
    block = model_block("mult", "compat=true")
    zeros, ones = (outputs_of(block, small_batch(filler=x)).predictions["M"] for x in (0.0, 1.0))
    assert abs(zeros[0] - ones[0]) < 1e-5  # a full clip
    assert np.all(np.abs(zeros - ones)[1:] > 1e-3)


def test_compat_takes_a_modality_of_width_d_as_it_is():
    """Its kernel is there, as in the public state dict, and out of use."""
    spec = dataclasses.replace(SPEC, modalities={**SPEC.modalities, "audio": ModalitySpec(8, 8)})
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    for compat, convolves in (("true", False), ("false", True)):
        model: Any = models.build(model_block("mult", "n_layers=1", f"compat={compat}"), spec)
        params = jax.eval_shape(lambda b, m=model: m.init(jax.random.key(0), b), batch)["params"]

        def predict(p, model=model):
            return model.apply({"params": p}, example_batch(spec, 2)).predictions["M"]

        live = used(predict, params)
        assert live["vision/conv/kernel"]
        assert live["audio/conv/kernel"] == convolves


def test_clips_without_sound_have_a_zero_feature_and_leave_the_others_alone():
    outputs = outputs_of(model_block("mult"), small_batch(filler=np.nan))
    assert np.all(outputs.features["audio"][3] == 0)  # LENGTHS: the last clip has no sound
    assert np.all(np.abs(outputs.features["audio"][:3]).max(axis=1) > 0)
    assert np.isfinite(outputs.predictions["M"]).all()


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"model\.heads=3 does not divide model\.d_model=8"):
        models.build(model_block("mult", "heads=3"), SPEC)


def test_training_follows_the_public_protocol():
    train = configuration.load(f"{CONFIGS / 'mosei'}.py:mult").train
    assert (train.accumulate, train.clip_value, train.clip_norm, train.weight_decay) == (8, 0.6, 0.0, 0.0)
    assert (train.schedule, train.plateau_factor, train.plateau_patience) == ("plateau", 0.1, 20)
