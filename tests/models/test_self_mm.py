"""Self-MM: what its heads read, where column groups go, and its size."""

from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.summary import thop

#: Of the layers in BERT-base that are no embeddings, which the published tables count.
ENCODER_LAYERS = 12 * 7_087_872 + 2 * 768 + 768 * 769


def applied(batch, *overrides: str) -> Any:
    """A tiny model with random parameters, which reads stored text features."""
    model: Any = models.build(model_block("self_mm", "text_encoder=frozen", *overrides), SPEC)
    params = random_model_params(model)
    return jax.jit(model.apply)({"params": params}, batch), params


@pytest.mark.parametrize(("dataset", "expected"), [("mosi", 159_332), ("mosei", 165_668), ("sims", 381_380)])
def test_parameters_without_the_encoder(dataset, expected):
    assert count_parameters(f"{dataset}.py:self_mm", "model.text_encoder=frozen") == expected


@pytest.mark.parametrize(
    ("dataset", "fg", "expected"),
    [
        ("mosei", "none", 85_812_260),
        ("mosei", "both", 85_833_460),
        ("sims", "none", 86_027_972),
        ("sims", "both", 86_136_500),
    ],
)
def test_parameters_of_the_published_tables(dataset, fg, expected):
    overrides = ["model.compat=true", "model.text_encoder=frozen"]
    config = configuration.load(f"{CONFIGS / dataset}.py:self_mm,fg={fg}", overrides)
    spec = opening.expected_spec(config)
    batch = jax.eval_shape(lambda: example_batch(spec, 2, (8, 8, 8)))
    counted = thop.count(models.build(config.model, spec), batch, "self_mm").parameters
    assert counted + ENCODER_LAYERS == expected


def test_text_is_the_first_token_alone():
    batch = small_batch()
    values = dict(batch.values)
    later, first = (values["text"].at[:, at].add(1.0) for at in (slice(1, None), slice(0, 1)))
    (base, _), (same, _), (other, _) = (
        applied(batch.replace(values={**values, "text": x})) for x in (values["text"], later, first)
    )
    np.testing.assert_array_equal(base.predictions["M"], same.predictions["M"])
    assert np.all(base.predictions["T"] != other.predictions["T"])
    np.testing.assert_array_equal(base.predictions["A"], other.predictions["A"])


def test_audio_and_vision_are_read_by_their_lengths_in_compat_too():
    zeros, loud = (applied(small_batch(filler=x), "compat=true")[0].predictions for x in (0.0, 9.0))
    for task in ("M", "A", "V"):
        np.testing.assert_array_equal(zeros[task], loud[task])


def test_a_head_reads_its_own_feature():
    """The features are what labels are made by: ReLU of the head's first layer."""
    outputs, params = applied(small_batch())
    for task, name in {"M": "fusion", "T": "text", "A": "audio", "V": "vision"}.items():
        head, feature = params["heads"][name], np.asarray(outputs.features[name])
        assert np.all(feature >= 0)
        hidden = np.maximum(feature @ head["linear_2"]["kernel"] + head["linear_2"]["bias"], 0)
        score = (hidden @ head["linear_3"]["kernel"] + head["linear_3"]["bias"])[:, 0]
        np.testing.assert_allclose(outputs.predictions[task], score, atol=1e-5)


def test_column_groups_have_an_lstm_and_a_layer_each():
    _, params = applied(small_batch(), "fg=vision")
    flat: Any = flax.traverse_util.flatten_dict(params["vision"], sep="/")
    shapes = {path: x.shape for path, x in flat.items()}
    assert shapes["group_0/lstm/forward/kernel_ih"] == (2, 16)
    assert shapes["group_1/linear/kernel"] == (4, 4)
    assert shapes["attention/output/kernel"] == (8, 4)  # on one vector per group and clip
    assert "linear" in params["audio"]


def test_training_follows_the_public_protocol():
    train = configuration.load(f"{CONFIGS / 'mosei'}.py:self_mm").train
    assert (train.batch_size, train.accumulate, train.learning_rate, train.weight_decay) == (
        32,
        4,
        1e-3,
        1e-2,
    )
    groups = {name: (g.learning_rate, g.weight_decay) for name, g in train.groups.items()}
    assert groups == {
        "encoder": (5e-5, 1e-3),
        "encoder_no_decay": (5e-5, 0.0),
        "audio": (5e-3, 0.0),
        "vision": (1e-4, 0.0),
    }
