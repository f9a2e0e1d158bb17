"""TMT: the parts of its objective, positions and cuts, where column groups go."""

import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, LENGTHS, SPEC, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.opening import load_dataset
from msa_jax.errors import ConfigError
from msa_jax.models.tmt import TOKENS, discrepancy, orthogonality, squared_distances
from msa_jax.training import build

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32) for _ in range(2))
EVERY = jnp.ones(6)


def sizes(argument: str) -> dict[str, int]:
    """Elements per parameter of a data set's full model."""
    dataset, variant = argument.split(":")
    config = configuration.load(f"{CONFIGS / dataset}.py:{variant}")
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)["params"]
    return {k: int(np.prod(x.shape)) for k, x in flax.traverse_util.flatten_dict(shapes, sep="/").items()}


def test_column_groups_have_a_projection_each():
    names = sizes("sims:tmt,fg=audio")
    kernels = [n for k, n in names.items() if k.startswith("audio/group_") and k.endswith("dense/kernel")]
    assert sorted(kernels) == [256 * width for width in (1, 12, 20)]
    assert names["vision/dense/kernel"] == 709 * 256


def test_orthogonality_by_its_definition():
    unit = [x - x.mean(axis=0) for x in map(np.asarray, (A, B))]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit]
    np.testing.assert_allclose(orthogonality(A, B, EVERY), np.mean((unit[0].T @ unit[1]) ** 2), rtol=1e-5)
    # Vectors that never move together: the first along x, the second along y, one of each sign pair.
    x = jnp.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    y = jnp.array([[0, 1.0], [0, -1], [0, 1], [0, -1]])
    assert orthogonality(x, y, jnp.ones(4)) < 1e-12
    np.testing.assert_allclose(orthogonality(x, x, jnp.ones(4)), 16 / 4, rtol=1e-5)


def test_discrepancy_by_its_definition():
    both = np.concatenate([A, B]).astype(np.float64)
    distances = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    mean = distances.sum() / (12 * 12 - 12)
    kernels = np.sum([np.exp(-distances / (mean * width)) for width in (0.25, 0.5, 1, 2, 4)], axis=0)
    expected = kernels[:6, :6].mean() + kernels[6:, 6:].mean() - 2 * kernels[:6, 6:].mean()
    np.testing.assert_allclose(discrepancy(A, B, EVERY), expected, rtol=1e-5)
    np.testing.assert_allclose(discrepancy(A, A, EVERY), 0, atol=1e-6)
    assert discrepancy(A, A + 1, EVERY) > discrepancy(A, A + 0.5, EVERY) > 0


def test_distances_are_those_of_the_differences_far_from_the_origin_too():
    rows, cotangent = np.asarray(jnp.concatenate([A, B])) + 100, np.asarray(RNG.normal(size=(12, 12)))
    apart = rows[:, None].astype(np.float64) - rows[None]
    found, back = jax.vjp(lambda x: squared_distances(x, jnp.ones(12, bool)), jnp.asarray(rows))
    np.testing.assert_allclose(found, (apart**2).sum(axis=2), atol=1e-4, rtol=1e-5)
    assert np.all(np.diag(found) == 0)
    expected = 2 * ((cotangent + cotangent.T)[:, :, None] * apart).sum(axis=1)
    np.testing.assert_allclose(back(jnp.asarray(cotangent, jnp.float32))[0], expected, atol=1e-3)


def test_no_batch_is_longer_than_what_is_read():
    config = configuration.load(f"{CONFIGS}/synthetic.py:tmt,tiny", ["model.frames=(6,4,5)"])
    ready = build.build(config, build.prepare(config, load_dataset(config.data)))
    assert ready.train_plan.shapes[-1] == (6, 4, 5)
    assert {plan.shapes[-1] for plan in ready.eval_plans.values()} == {(6, 4, 5)}


@pytest.mark.parametrize("part", [orthogonality, discrepancy])
def test_clips_that_only_fill_the_batch_do_not_count(part):
    both = jax.value_and_grad(part, argnums=(0, 1))
    filled = [jnp.concatenate([x, jnp.full((2, 3), 1e3)]) for x in (A, B)]
    value, gradients = both(A, B, EVERY)
    again, filled_gradients = both(filled[0], filled[1], jnp.array([1.0] * 6 + [0.0] * 2))
    np.testing.assert_allclose(value, again, rtol=1e-5)
    for g, filled_g in zip(gradients, filled_gradients, strict=True):
        np.testing.assert_allclose(filled_g[:6], g, atol=1e-6)
        assert np.all(np.asarray(filled_g)[6:] == 0)


@pytest.mark.parametrize("part", [orthogonality, discrepancy])
@pytest.mark.parametrize("rows", [0, 1, 6])
def test_parts_stay_finite_where_all_clips_are_alike(part, rows):
    alike, weight = jnp.ones((6, 3)), jnp.arange(6) < rows
    value, gradients = jax.value_and_grad(part, argnums=(0, 1))(alike, alike, weight.astype(jnp.float32))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def aligned_batch(steps: int, filler: float = 0.0, **more) -> Batch:
    """The clips of small_batch with audio and vision cut to the text's steps."""
    batch = small_batch(steps=(steps, max(steps, 8), max(steps, 6)), filler=filler, **more)
    masks, values = {}, {}
    for m, x in batch.values.items():
        masks[m] = batch.mask[m][:, :steps] & batch.mask["text"]
        values[m] = jnp.where(masks[m][..., None], x[:, :steps], filler)
    return batch.replace(values=values, mask=masks)


MODEL: Any = models.build(model_block("tmt", "frames=(6,6,6)"), SPEC)
PARAMS = {"params": random_model_params(MODEL)}


@functools.cache
def outputs(steps: int, filler: float = 0.0) -> Any:
    return jax.jit(functools.partial(MODEL.apply, train=False))(PARAMS, aligned_batch(steps, filler))


def test_a_steps_position_does_not_depend_on_the_padded_length():
    short, long = outputs(5, np.nan), outputs(6, 3.0)
    np.testing.assert_allclose(short.predictions["M"], long.predictions["M"], atol=1e-5)
    np.testing.assert_allclose(short.features["encoded"], long.features["encoded"], atol=1e-5)
    for m in ("vision", "audio", "text"):
        # A mean over real steps only: of a clip of one step, that step.
        np.testing.assert_allclose(long.features[m][2], long.features[f"projected_{m}"][2, 0], atol=1e-6)


def test_steps_that_nothing_reads_are_left_out_and_change_nothing():
    """``compat`` computes them: on a clip without padding, both give the same."""
    batch = aligned_batch(LENGTHS[0][0], rows=(0, 0))
    assert all(m.all() for m in batch.mask.values())
    compat: Any = models.build(model_block("tmt", "frames=(6,6,6)", "compat=true"), SPEC)
    whole = jax.jit(functools.partial(compat.apply, train=False))(PARAMS, batch)
    short = jax.jit(functools.partial(MODEL.apply, train=False))(PARAMS, batch)
    np.testing.assert_allclose(short.predictions["M"], whole.predictions["M"], atol=1e-6)
    assert whole.features["encoded"].shape[1] == TOKENS + 3 * LENGTHS[0][0]
    np.testing.assert_allclose(short.features["encoded"], whole.features["encoded"][:, :TOKENS], atol=1e-6)


def test_steps_past_the_frames_are_cut_off():
    np.testing.assert_allclose(outputs(9).predictions["M"], outputs(6).predictions["M"], atol=1e-6)
    model: Any = models.build(model_block("tmt", "frames=(2,2,2)"), SPEC)
    params = {"params": random_model_params(model)}
    whole = aligned_batch(5)
    cut = whole.replace(
        values={m: x[:, :2] for m, x in whole.values.items()},
        mask={m: x[:, :2] for m, x in whole.mask.items()},
    )
    assert LENGTHS[0][0] > 2
    run = jax.jit(functools.partial(model.apply, train=False))
    np.testing.assert_allclose(
        run(params, whole).predictions["M"], run(params, cut).predictions["M"], atol=1e-6
    )


def test_the_loss_is_the_weighted_sum_of_its_parts():
    block = model_block("tmt")
    batch = aligned_batch(5)
    loss, parts = models.objective(block, SPEC)(outputs(5), batch, {})
    assert set(parts) == {"task", "orthogonal", "mmd"}
    error = np.asarray(outputs(5).predictions["M"]) - np.asarray(batch.labels["M"])
    np.testing.assert_allclose(parts["task"], np.mean(error**2), rtol=1e-5)
    np.testing.assert_allclose(
        loss, 10 * parts["task"] + 0.01 * parts["orthogonal"] + parts["mmd"], rtol=1e-5
    )


@pytest.mark.parametrize("key", ["classes", "n_classes"])
def test_classes_are_as_many_as_the_block_says(key):
    model: Any = models.build(model_block("tmt", "task=classification", f"{key}=5"), SPEC)
    shapes = jax.eval_shape(lambda b: model.init_with_output(jax.random.key(0), b)[0], aligned_batch(5))
    assert shapes.predictions["M"].shape == (4, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("frames=(20,20)", r"model\.frames=\(20, 20\) must be three"),
        ("frames=(20,0,20)", r"model\.frames=\(20, 0, 20\) must be three"),
        ("n_classes=1", r"model\.n_classes=1 leaves nothing"),
        ("cross_positions=5", r"model\.cross_positions=5 must be at least 6"),
    ],
)
def test_settings_that_make_no_model_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        models.build(model_block("tmt", override), SPEC)
