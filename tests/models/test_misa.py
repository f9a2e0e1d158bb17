"""What is particular to MISA; the losses by themselves are in test_subspace_losses.py."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, LENGTHS, SPEC, model_block, random_model_params, small_batch, used

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError
from msa_jax.models import misa
from msa_jax.models.outputs import Outputs
from msa_jax.nn.recurrent import LSTM

#: Published counts of the public class without its BERT, per data set.
WITHOUT_BERT = {"mosi": 1_138_033, "mosei": 1_435_105, "sims": 21_664_749}
#: And with it.
ALL = {"mosi": 110_620_273, "mosei": 110_917_345, "sims": 123_932_397}
#: Of BERT-base, in the published counts; nothing reads it, and it is no part of our encoder.
POOLER = 768 * 768 + 768
#: What nothing reads: the discriminator and the text's norm.
UNREAD = (128 * 4 + 4) + 2 * 2 * 768


def count(argument: str, *overrides: str) -> int:
    config = configuration.load(f"{CONFIGS / argument}", [f"model.{o}" for o in overrides])
    spec = opening.expected_spec(config)
    module = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes = jax.eval_shape(lambda b: module.init(jax.random.key(0), b, train=False), batch)
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("dataset", ALL)
def test_as_many_parameters_as_published(dataset):
    argument = f"{dataset}.py:misa"
    assert count(argument, "compat=true") + POOLER == ALL[dataset]
    assert count(argument, "compat=true", "text_encoder=frozen") == WITHOUT_BERT[dataset]
    assert count(argument, "text_encoder=frozen") == WITHOUT_BERT[dataset] - UNREAD


def block(*overrides: str) -> Any:
    return model_block("misa", "text_encoder=frozen", *overrides)


def test_only_the_first_lstm_is_copied_per_column_group():
    params = random_model_params(models.build(block("fg=audio"), SPEC))
    groups = params["audio"]["fine_grained"]
    kernels = [groups[f"group_{k}"]["lstm"]["forward"]["kernel_ih"].shape for k in (0, 1)]
    assert kernels == [(2, 4 * 5), (2, 4 * 5)]  # two columns each, as wide inside as all of them
    assert groups["attention"]["output"]["kernel"].shape == (2 * 10, 10)
    assert params["audio"]["second"]["forward"]["kernel_ih"].shape == (10, 4 * 5)
    assert "first" not in params["audio"]
    assert "fine_grained" not in params["vision"]


def test_final_states_are_those_of_the_lstm():
    batch = small_batch()
    lstm = LSTM(3, bidirectional=True)
    x, mask = batch.values["vision"], batch.mask["vision"]
    (outputs, (h, _)), _ = jax.jit(lstm.init_with_output)(jax.random.key(0), x, mask)
    np.testing.assert_allclose(jnp.concatenate(misa.final_states(outputs, mask), -1), h, rtol=1e-6)


@functools.cache
def forward(*overrides: str) -> Any:
    module = models.build(block(*overrides), SPEC)
    params = random_model_params(module)
    return jax.jit(lambda batch: module.apply({"params": params}, batch, train=False))


def predictions(batch, *overrides: str) -> np.ndarray:
    return np.asarray(forward(*overrides)(batch).predictions["M"])


def test_compat_reads_audio_and_vision_as_far_as_the_text_is_long():
    batch = small_batch()
    beyond = {m: jnp.arange(batch.values[m].shape[1])[None] >= 5 for m in ("audio", "vision")}
    louder = {m: jnp.where(late[..., None], 9.0, batch.values[m]) for m, late in beyond.items()}
    changed = batch.replace(values={**batch.values, **louder})
    first = 0  # the clip with steps after the fifth; its text has five
    assert LENGTHS[first] == (5, 8, 6)
    np.testing.assert_array_equal(predictions(batch, "compat=true"), predictions(changed, "compat=true"))
    assert abs(predictions(batch)[first] - predictions(changed)[first]) > 1e-4
    # Of the fourth clip, whose text has four steps and which has no sound, it reads padding as sound.
    silent = batch.replace(values={**batch.values, "audio": batch.values["audio"].at[3, 0].set(5.0)})
    assert abs(predictions(batch, "compat=true")[3] - predictions(silent, "compat=true")[3]) > 1e-4
    np.testing.assert_array_equal(predictions(batch), predictions(silent))


def test_compat_holds_layers_that_nothing_reads():
    module: Any = models.build(block("compat=true"), SPEC)
    batch = small_batch()
    objective = models.objective(block(), SPEC)

    def loss(params):
        return objective(module.apply({"params": params}, batch, train=False), batch, ())[0]

    unread = {path for path, read in used(loss, random_model_params(module)).items() if not read}
    assert unread == {"discriminator/kernel", "discriminator/bias", "text_norm/scale", "text_norm/bias"}
    params = random_model_params(models.build(block(), SPEC))
    assert not {"discriminator", "text_norm"} & params.keys()


def test_the_loss_adds_its_parts_by_their_factors():
    batch = small_batch()
    outputs = forward()(batch)
    changed = block("diff_weight=0.5", "sim_weight=0.25", "recon_weight=2.0")
    total, parts = jax.jit(models.objective(changed, SPEC))(outputs, batch, ())
    expected = parts["task"] + 0.5 * parts["diff"] + 0.25 * parts["cmd"] + 2 * parts["recon"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    error = np.mean((outputs.predictions["M"] - batch.labels["M"]) ** 2)
    np.testing.assert_allclose(parts["task"], error, rtol=1e-6)
    valid, valid_parts = models.objective(changed, SPEC).evaluate(outputs, batch)
    np.testing.assert_allclose(valid, error, rtol=1e-6)
    assert set(valid_parts) == {"task"}


def test_six_pairs_are_kept_apart_and_three_alike():
    """All vectors equal: each of the six differences is the same, and nothing else is left."""
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8)).astype(np.float32))
    names = [
        f"{kind}_{m}" for kind in ("private", "shared", "projected", "reconstructed") for m in misa.ORDER
    ]
    batch = small_batch()
    outputs = Outputs({"M": batch.labels["M"]}, dict.fromkeys(names, x))
    objective = jax.jit(models.objective(block(), SPEC))
    _, parts = objective(outputs, batch, ())
    one = misa.difference(x, x, batch.weight)
    np.testing.assert_allclose(parts["diff"], 6 * one, rtol=1e-5)
    assert float(parts["cmd"]) == float(parts["recon"]) == float(parts["task"]) == 0
    moved = dataclasses.replace(outputs, features={**outputs.features, "shared_audio": x + 0.3})
    _, parts = objective(moved, batch, ())
    # Two of three pairs are apart, by their means only: 8 columns, 0.3 each.
    np.testing.assert_allclose(parts["cmd"], 2 / 3 * 0.3 * 8**0.5, rtol=1e-3)


def test_values_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"model\.heads=3 does not divide model\.hidden=8"):
        models.build(block("heads=3"), SPEC)
    with pytest.raises(ConfigError, match="must be at least 0"):
        models.objective(block("sim_weight=-1.0"), SPEC)
