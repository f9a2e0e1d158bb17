"""TETFN: what compat restores, positions, where column groups go, and its size."""

import math
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError
from msa_jax.nn.crossmodal import positions
from msa_jax.summary import thop

#: Of the layers in BERT-base that are no embeddings, which the published tables count.
ENCODER_LAYERS = 12 * 7_087_872 + 2 * 768 + 768 * 769


def build(*overrides: str) -> Any:
    return models.build(model_block("tetfn", "text_encoder=frozen", *overrides), SPEC)


def shapes_of(dataset: str, *overrides: str, fg: str = "none") -> Any:
    """Config, module, and the shapes of a data set's full model on stored text features."""
    overrides = ("model.text_encoder=frozen", *overrides)
    config = configuration.load(f"{CONFIGS / dataset}.py:tetfn,fg={fg}", list(overrides))
    spec = opening.expected_spec(config)
    model, batch = models.build(config.model, spec), jax.eval_shape(lambda: example_batch(spec, 2, (8, 8, 8)))
    shapes: Any = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)
    return model, batch, flax.traverse_util.flatten_dict(shapes["params"], sep="/")


@pytest.mark.parametrize(
    ("dataset", "expected"), [("mosi", 1_254_224), ("mosei", 1_257_360), ("sims", 1_529_968)]
)
def test_parameters_without_the_encoder(dataset, expected):
    """Those of the public class, where vision's convolution has the size of audio's."""
    _, _, shapes = shapes_of(dataset, "model.compat=true")
    assert sum(x.size for x in shapes.values()) == expected


def test_parameters_of_the_published_tables():
    model, batch, _ = shapes_of("sims", "model.compat=true", fg="both")
    assert thop.count(model, batch, "tetfn").parameters + ENCODER_LAYERS == 87_100_044


def test_column_groups_have_an_lstm_and_a_convolution_each():
    _, _, shapes = shapes_of("sims", fg="vision")
    kernels = [x.shape for k, x in shapes.items() if k.startswith("vision/group_") and "/conv/" in k]
    assert kernels == [(1, 64, 50)] * 6
    inputs = {x.shape for k, x in shapes.items() if k.startswith("vision/") and k.endswith("kernel_ih")}
    assert inputs == {(width, 4 * 64) for width in (6, 8, 35, 40, 280, 340)}
    assert shapes["vision/attention/output/kernel"].shape == (6 * 50, 50)
    assert shapes["audio/conv/kernel"].shape == (5, 16, 50)


def test_positions_by_hand():
    table = positions(3, 5)  # two rates, 1 and 1/10000; the odd column is 0
    expected = [[f(t * rate) for f in (math.sin, math.cos) for rate in (1, 1e-4)] + [0] for t in (1, 2, 3)]
    np.testing.assert_allclose(table, expected, atol=1e-6)
    assert np.isfinite(positions(4, 2)).all()


def test_compat_gives_no_position_to_a_step_that_starts_with_zero():
    x = jnp.ones((1, 3, 4)).at[0, 1, 0].set(0.0)
    mask = jnp.array([[True, True, False]])
    # Scaled by sqrt(4) in the stack, so that a position enters it as it is.
    placed = {c: 2 * (build(f"compat={c}")._placed((x, mask))[0] - x)[0] for c in ("true", "false")}
    table = positions(3, 4)
    np.testing.assert_allclose(placed["true"], table.at[1].set(0), atol=1e-6)
    np.testing.assert_allclose(placed["false"], table.at[2].set(0), atol=1e-6)


def test_compat_reads_padding():
    model = build("compat=true")
    params = {"params": random_model_params(model)}
    run = jax.jit(lambda b: model.apply(params, b).predictions)
    zeros, loud = (run(small_batch(filler=x)) for x in (0.0, 5.0))
    for task in ("M", "A", "V"):
        away = np.abs(zeros[task] - loud[task])
        assert away[0] < 1e-5  # a clip without padding
        assert away[1] > 1e-4


def test_the_convolution_of_vision_has_its_own_size():
    sizes = ("text_kernel=1", "audio_kernel=2", "vision_kernel=3")
    for compat, expected in (("false", 3), ("true", 2)):
        params = random_model_params(build(f"compat={compat}", *sizes))
        assert params["vision"]["conv"]["kernel"].shape == (expected, 4, 8)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"model\.heads=3 does not divide model\.d_model=8"):
        build("heads=3")


def test_training_follows_the_public_protocol():
    train = configuration.load(f"{CONFIGS / 'mosi'}.py:tetfn").train
    assert (train.batch_size, train.accumulate, train.learning_rate, train.weight_decay) == (
        64,
        4,
        3e-4,
        0.01,
    )
    groups = {name: (g.learning_rate, g.weight_decay) for name, g in train.groups.items()}
    assert groups == {
        "encoder": (3e-5, 1e-3),
        "encoder_no_decay": (3e-5, 0.0),
        "audio": (5e-4, 0.01),
        "vision": (3e-4, 0.0),
    }
