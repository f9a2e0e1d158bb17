"""ALMT: sizes, what the tokens read, positions, the hyper-modality's stream, where column groups go."""

import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import CONFIGS, SPEC, model_block, random_model_params, small_batch

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError, DataError
from msa_jax.models.almt import HyperModalityLayer
from msa_jax.summary import counting

#: BERT's pooler, which the public class carries and nothing reads.
POOLER = 768 * 768 + 768
#: Trainable parameters of the public class, and those beside BERT.
PUBLISHED = {
    "mosi": (112_085_889, 2_603_649),
    "mosei": (112_705_281, 3_223_041),
    "sims": (105_500_545, 3_232_897),
}
#: As Tables 4 and 5 of Zheng et al. 2024 count. Their MOSEI is the aligned file.
PRINTED = {
    "mosei:almt": (88_724_609, "2.77e11"),
    "mosei:almt,fg=both": (88_988_417, "2.80e11"),
    "sims:almt": (88_805_633, "2.24e11"),
    "sims:almt,fg=both": (89_052_545, "2.31e11"),
}
ALIGNED = {"mosei": ["data.expected.audio=(50,74)", "data.expected.vision=(50,35)"], "sims": []}


def shapes_of(argument: str, *overrides: str) -> dict[str, tuple[int, ...]]:
    """Shape per parameter of a data set's full model."""
    dataset, variant = argument.split(":")
    config = configuration.load(f"{CONFIGS / dataset}.py:{variant}", list(overrides))
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)["params"]
    return {k: x.shape for k, x in flax.traverse_util.flatten_dict(shapes, sep="/").items()}


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_trainable_parameters(dataset):
    tuned, beside = PUBLISHED[dataset]
    shapes = shapes_of(f"{dataset}:almt")
    assert count(shapes) + POOLER == tuned
    assert count({k: s for k, s in shapes.items() if not k.startswith("text_encoder/")}) == beside


def test_trainable_parameters_with_stored_features_and_classes():
    beside = PUBLISHED["mosei"][1]
    assert count(shapes_of("mosei:almt", "model.text_encoder=frozen")) == beside
    classes = shapes_of("mosei:almt,task=classification", "model.text_encoder=frozen")
    assert count(classes) == beside + 2 * (128 + 1)


@pytest.mark.parametrize("row", PRINTED)
def test_counts_of_the_printed_tables(row):
    dataset, variant = row.split(":")
    config = configuration.load(f"{CONFIGS / dataset}.py:{variant}", ALIGNED[dataset])
    counted = counting.summarise_as_thop(config)
    parameters, operations = PRINTED[row]
    assert counted["parameters"] == parameters
    assert f"{counted['macs_per_batch']:.2e}".replace("+", "") == operations


def test_column_groups_have_a_projection_each_and_one_transformer():
    shapes = shapes_of("sims:almt,fg=audio", "model.text_encoder=frozen")
    kernels = [k for k in shapes if k.startswith("audio_input/group_") and k.endswith("/kernel")]
    assert sorted(shapes[k][0] for k in kernels) == [1, 12, 20]
    assert shapes["audio_input/attention/output/kernel"] == (3 * 128, 128)
    assert shapes["vision_input/dense/kernel"] == (709, 128)
    assert [k for k in shapes if k.startswith("audio/encoder/") and k.endswith("query/kernel")] == [
        "audio/encoder/attention_0/query/kernel"
    ]


def frozen(*overrides: str) -> Any:
    return models.build(model_block("almt", "text_encoder=frozen", *overrides), SPEC)


MODEL, COMPAT = frozen(), frozen("compat=true")
PARAMS = {"params": random_model_params(MODEL)}
RUN, RUN_COMPAT = (jax.jit(functools.partial(m.apply, train=False)) for m in (MODEL, COMPAT))


def test_steps_that_nothing_reads_are_left_out_and_change_nothing():
    """``compat`` computes them: on whole clips, both give the same."""
    batch = small_batch(rows=(0, 0))
    short, whole = RUN(PARAMS, batch), RUN_COMPAT(PARAMS, batch)
    np.testing.assert_allclose(short.predictions["M"], whole.predictions["M"], atol=1e-6)
    for m, record in SPEC.modalities.items():
        assert short.features[f"encoded_{m}"].shape == (2, 2, 8)
        assert whole.features[f"encoded_{m}"].shape == (2, 2 + record.length, 8)
        np.testing.assert_allclose(
            short.features[f"encoded_{m}"], whole.features[f"encoded_{m}"][:, :2], atol=1e-6
        )
    assert (short.features["crossed"].shape, whole.features["crossed"].shape) == ((2, 1, 8), (2, 3, 8))


def test_only_compat_reads_padding():
    quiet, loud = small_batch(rows=(1, 2)), small_batch(rows=(1, 2), filler=3.0)
    np.testing.assert_array_equal(RUN(PARAMS, quiet).predictions["M"], RUN(PARAMS, loud).predictions["M"])
    one, other = RUN_COMPAT(PARAMS, quiet).features, RUN_COMPAT(PARAMS, loud).features
    for m in ("audio", "vision"):
        assert np.abs(one[m] - other[m]).max() > 1e-3
    np.testing.assert_array_equal(one["text"], other["text"])  # stored features of padding arrive as zeros
    tokens = RUN(PARAMS, quiet).features["text"]
    assert np.abs(one["text"] - tokens).max() > 1e-3  # which compat reads


def test_there_is_a_position_for_every_step_of_the_data():
    shapes = jax.tree.map(jnp.shape, PARAMS["params"])
    tokens = 2
    for m, record in SPEC.modalities.items():
        assert shapes[m]["positions"] == (tokens + record.length, 8)
    longer = frozen("positions=(5,12,6)")
    assert random_model_params(longer)["audio"]["positions"].shape == (tokens + 12, 8)
    with pytest.raises(DataError, match="clips of 9 steps of audio are longer than the 8"):
        jax.eval_shape(MODEL.apply, PARAMS, small_batch((5, 9, 6)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "positions=(5,7,6)",
            r"model\.positions=\(5, 7, 6\) leaves audio 7 positions, but small has clips of 8",
        ),
        ("positions=(5,8)", r"model\.positions=\(5, 8\) must be three whole numbers of at least 0"),
        (
            "embed_layers=(1,0,1)",
            r"model\.embed_layers=\(1, 0, 1\) must be three whole numbers of at least 1",
        ),
        ("tokens=0", r"model\.tokens=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_model_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        frozen(override)


def test_a_hyper_modality_layer_shifts_its_normalised_stream():
    layer = HyperModalityLayer(heads=2, head_width=3, dropout=0.0)
    rng = np.random.default_rng(0)
    text, audio, vision, hyper = (jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(4))
    params: Any = random_params(layer, text, audio, vision, hyper, train=False)

    apply = jax.jit(functools.partial(layer.apply, train=False))

    def shifted(params: Any, *inputs: jax.Array) -> jax.Array:
        return jnp.asarray(apply({"params": params}, *inputs))

    norm = params["norm_hyper"]
    stream = (hyper - hyper.mean(-1, keepdims=True)) / jnp.sqrt(hyper.var(-1, keepdims=True) + 1e-5)
    stream = stream * norm["scale"][None, None] + norm["bias"][None, None]
    whole = shifted(params, text, audio, vision, hyper)
    # The shift does not depend on the stream, and is what audio and vision add.
    np.testing.assert_allclose(
        whole - stream,
        shifted(params, text, audio, vision, jnp.zeros_like(hyper)) - norm["bias"][None, None],
        atol=1e-5,
    )
    mute = params | {k: jax.tree.map(jnp.zeros_like, params[k]) for k in ("value_audio", "value_vision")}
    bias = params["output"]["bias"][None, None]
    np.testing.assert_allclose(shifted(mute, text, audio, vision, hyper), stream + bias, atol=1e-5)
    for part, moved in (("audio", (text, 2 * vision, vision)), ("vision", (text, audio, 2 * audio))):
        deaf = params | {f"value_{part}": mute[f"value_{part}"]}
        np.testing.assert_allclose(
            shifted(deaf, text, audio, vision, hyper), shifted(deaf, *moved, hyper), atol=1e-6
        )
        assert np.abs(shifted(params, *moved, hyper) - whole).max() > 1e-2


def test_initial_values_are_the_public_ones():
    batch = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: example_batch(SPEC, 1))
    )

    @jax.jit
    def draw() -> dict[str, jax.Array]:
        """Only what is looked at, so that only this is compiled."""
        params = flax.traverse_util.flatten_dict(MODEL.init(jax.random.key(0), batch)["params"], sep="/")
        return {k: x for k, x in params.items() if k.endswith(("positions", "tokens", "token", "hyper"))}

    for name, x in draw().items():
        if name.endswith("positions"):
            assert 0.5 < np.std(x) < 1.5, name
        else:
            np.testing.assert_array_equal(x, 1 if name == "hyper" else 0, err_msg=name)


def test_the_loss_is_the_squared_error():
    batch = small_batch()
    outputs = RUN(PARAMS, batch)
    loss, parts = models.objective(model_block("almt"), SPEC)(outputs, batch, ())
    error = np.asarray(outputs.predictions["M"]) - np.asarray(batch.labels["M"])
    np.testing.assert_allclose(loss, np.mean(error**2), rtol=1e-6)
    assert list(parts) == ["M"]
