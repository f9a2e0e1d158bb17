"""MFM: its discrepancy, its reconstructions, what compat draws, where column groups go."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import SPEC, model_block
from test_mfn import aligned_batch

from msa_jax import models
from msa_jax.models.mfm import discrepancy
from msa_jax.models.outputs import Outputs

RNG = np.random.default_rng(0)
ONES = jnp.ones(3)


def model(*overrides: str) -> Any:
    return models.build(model_block("mfm", *overrides), SPEC)


@pytest.mark.parametrize("d", [1, 4])
def test_the_discrepancy_is_the_mean_over_what_could_be_drawn(d):
    """But for the noise's comparison with itself, whose kernel is 1: it adds (1 - E k(x, x')) / B."""
    z = jnp.asarray(RNG.normal(0.5, 1.5, size=(3, d)), jnp.float32)
    noise = jnp.asarray(RNG.normal(size=(40_000, 3, d)), jnp.float32)
    drawn = jax.jit(jax.vmap(lambda x: discrepancy(z, ONES, x)))(noise)
    itself = (1 - (1 + 4 / d**2) ** (-d / 2)) / 3
    close = 4 * float(jnp.std(drawn)) / 200
    assert close < 0.01
    assert float(drawn.mean()) - itself == pytest.approx(float(discrepancy(z, ONES)), abs=close)


def test_normal_latents_have_almost_no_discrepancy_and_others_have_one():
    z = jnp.asarray(RNG.normal(size=(2000, 2)), jnp.float32)
    weight = jnp.ones(2000)
    assert 0 < float(discrepancy(z, weight)) < 1e-3
    assert float(discrepancy(z + 1, weight)) > 0.1
    assert float(discrepancy(3 * z, weight)) > 0.1


def test_an_error_of_reconstruction_is_the_mean_of_the_clips_means_over_their_own_steps():
    batch = aligned_batch(np.nan)
    features = {f"decoded_{m}": jnp.where(batch.mask[m][..., None], x, 0) for m, x in batch.values.items()}
    features |= {f"z_{k}": jnp.zeros((3, 2)) for k in ("text", "audio", "vision", "y")}
    lengths = np.array(batch.mask["text"]).sum(axis=1)
    # The error of a clip is 1 in its first step, and 5 in what lies behind its last one.
    wrong = features["decoded_text"].at[:, 0].add(1).at[1, 3].add(5)
    outputs = Outputs({"M": jnp.zeros(3)}, {**features, "decoded_text": wrong})
    _, parts = models.objective(model_block("mfm"), SPEC)(outputs, batch, ())
    assert float(parts["rec_l"]) == pytest.approx(np.mean(1 / lengths), rel=1e-6)
    assert float(parts["rec_a"]) == float(parts["rec_v"]) == 0
    assert float(parts["gen"]) == pytest.approx(0.5 * float(parts["rec_l"]), rel=1e-6)


def noise_of(compat: bool, train: bool) -> Any:
    """A function of a key: what the model draws."""
    module, batch = model(f"compat={compat}"), aligned_batch()

    def run(key: jax.Array) -> dict[str, jax.Array]:
        variables = module.init(jax.random.key(0), batch)
        features = module.apply(variables, batch, train=train, rngs={"dropout": key}).features
        return {k: x for k, x in features.items() if k.startswith("noise_")}

    return run


def test_only_compat_draws_noise_and_only_in_training():
    key = jax.random.key(0)
    assert not jax.eval_shape(noise_of(compat=False, train=True), key)
    assert not jax.eval_shape(noise_of(compat=True, train=False), key)
    draw = jax.jit(noise_of(compat=True, train=True))
    first, second = draw(key), draw(jax.random.key(1))
    widths = {k: x.shape for k, x in first.items()}
    assert widths == {f"noise_{k}": (3, w) for k, w in {"text": 6, "audio": 4, "vision": 4, "y": 6}.items()}
    values = np.concatenate([np.ravel(x) for part in (first, second) for x in part.values()])
    assert len(np.unique(values)) == len(values)


def test_drawn_noise_is_what_the_loss_compares_with():
    features = {f"decoded_{m}": x for m, x in aligned_batch().values.items()}
    latents = {f"z_{k}": jnp.asarray(RNG.normal(size=(3, 2))) for k in ("text", "audio", "vision", "y")}
    noise = {k.replace("z_", "noise_"): z for k, z in latents.items()}
    loss = models.objective(model_block("mfm"), SPEC)

    def mmd(more: dict[str, jax.Array]) -> float:
        outputs = Outputs({"M": jnp.zeros(3)}, {**features, **latents, **more})
        return float(loss(outputs, aligned_batch(), ())[1]["mmd"])

    assert mmd(noise) == pytest.approx(0, abs=1e-6)  # a sample against itself
    assert mmd({}) > 0.1


def test_every_lstm_that_reads_a_split_modality_is_copied_per_column_group():
    params = random_params(model("fg=audio"), aligned_batch())
    groups = params["encoder_audio"]
    kernels = [groups[f"group_{k}"]["lstm"]["forward"]["kernel_ih"].shape for k in (0, 1)]
    assert kernels == [(2, 4 * 4), (2, 4 * 4)]
    assert groups["attention"]["output"]["kernel"].shape == (2 * 4, 4)
    assert {"audio_input_0", "audio_input_1", "vision_input"} <= set(params["system"])
    assert set(params["encoder_vision"]) == {"lstm", "linear"}
