"""Every switch of UFEN + MTFN: shapes, no idle parameters, no effect of padding, clear mistakes."""

import functools
import itertools
import typing
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import CONFIGS, GROUPS, SPEC, model_block, random_model_params, small_batch, used

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import ConfigError
from msa_jax.models.ufen import Ufen
from msa_jax.models.ufen_mtfn import Settings

#: Keys of the model block that take one of a few words, but for the text's source.
CHOICES = {
    key: typing.get_args(kind)
    for key, kind in typing.get_type_hints(Settings).items()
    if typing.get_origin(kind) is Literal and key != "text_encoder"
}
#: Together these hold every value of every switch.
VARIANTS = {
    "whole modalities": "frontend=concat n_layers=1 conv_topology=parallel gate=sigmoid pair_pool=last "
    "use_encoder_decoder=false loss_tasks=AT",
    "audio and vision split": "fg=both fg_subnet=bigru qkv=per_group attend_over=groups conv_stride=1 "
    "share_self_attention=true multi_task=false unimodal_target=own fg_residual=true",
    "audio split": "fg=audio upsample=dense filters=12 self_heads=3 ufen_layer_norm=true gate=residual "
    "padding=valid head=scaled_tanh decoder_pool=mean",
    "vision split": "fg=vision upsample=nearest n_layers=3 kernel_size=4 pos_enc=sinusoidal "
    "pair_pool=attention masking=false d_ff=32 fg_norm=true",
    "early": "ufen_pool=early use_self_attention=false fusion_tokens=one ed_heads=1 pair_pool=max",
    "little": "use_bigru=false use_conv=false use_cross_attention=false fusion_tokens=one loss_tasks=",
}
#: Parameters that a switch leaves without a part in the loss.
IDLE = {
    "whole modalities": {"head_vision"},
    "audio and vision split": {"head_text", "head_audio", "head_vision", "head_fusion"},
    "little": {"head_text", "head_audio", "head_vision"},
}


def test_variants_hold_every_value():
    chosen = {word for words in VARIANTS.values() for word in words.split()}
    default = model_block("ufen_mtfn")
    for key, known in CHOICES.items():
        assert {f"{key}={value}" for value in known} - {f"{key}={default[key]}"} <= chosen
    for key, value in default.items():
        if isinstance(value, bool) and key != "compat":
            assert f"{key}={str(not value).lower()}" in chosen


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_has_a_part_in_the_loss(name):
    block = model_block("ufen_mtfn", *VARIANTS[name].split())
    model, objective, batch = models.build(block, SPEC), models.objective(block, SPEC), small_batch()
    shapes = []

    def loss(params):
        outputs = model.apply({"params": params}, batch, train=False)
        shapes.append(jax.tree.map(jnp.shape, outputs))
        return objective(outputs, batch, {})[0]

    idle = {
        path.split("/")[0] for path, is_used in used(loss, random_model_params(model)).items() if not is_used
    }
    assert idle == IDLE.get(name, set())
    count = 6 if block.use_cross_attention else 3
    read = {"flatten": count * 16, "mean": 16}[block.decoder_pool]
    tasks = {"M", "T", "A", "V"} | ({"fusion"} if block.use_encoder_decoder else set())
    assert shapes[0].predictions == dict.fromkeys(tasks, (4,))
    each = dict.fromkeys(("text", "audio", "vision"), (4, 16))
    assert shapes[0].features == each | {"fusion": (4, read), "pairs": (4, count, 16)}


LEVELS = [
    f"conv_topology={topology} padding={padding} use_self_attention=false {sampling}"
    for topology, padding, sampling in itertools.product(
        ("cascade", "parallel"),
        ("same", "valid"),
        ("conv_stride=2", "conv_stride=1", "upsample=nearest", "upsample=dense filters=4"),
    )
]
OTHERS = [
    "",
    "kernel_size=4 gate=residual",
    "kernel_size=4 padding=valid upsample=nearest use_self_attention=false",
    "use_conv=false gate=sigmoid",
    "ufen_layer_norm=true pos_enc=sinusoidal",
    "share_self_attention=true padding=valid n_layers=3",
]
SPLITS = ["fg_subnet=bigru qkv=per_group", "use_bigru=false attend_over=groups"]


def ufen_run(words: str, steps: int, groups=()) -> Any:
    """One modality's X_fus for three clips of 7, 2 and 0 steps, padded to ``steps``."""
    s: Any = models.read(model_block("ufen_mtfn", "d_model=4", "cross_heads=1", "ed_heads=1", *words.split()))
    x = np.zeros((3, steps, 5), np.float32)
    x[0, :7] = np.random.default_rng(0).normal(size=(7, 5))
    x[1, :2] = np.random.default_rng(1).normal(size=(2, 5))
    mask = np.arange(steps)[None, :] < np.array([7, 2, 0])[:, None]
    module: Any = functools.partial(Ufen(s, groups).apply, train=False)
    params = random_params(Ufen(s, groups), x, mask, train=False, scale=1.0)
    return jax.jit(module)({"params": params}, x, mask)


@pytest.mark.parametrize("words", [f"use_bigru=false {w}" for w in LEVELS + OTHERS])
def test_padding_of_even_and_odd_length_changes_no_level(words):
    exact = np.asarray(ufen_run(words, 7))
    assert np.abs(exact[0]).max(1).all()
    assert np.abs(exact[1, :2]).max(1).all()
    assert not exact[1, 2:].any()
    assert not exact[2].any()
    np.testing.assert_allclose(np.asarray(ufen_run(words, 10))[:, :7], exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", SPLITS)
def test_padding_changes_no_split_modality(words):
    columns = tuple(GROUPS.values())
    exact = ufen_run(words, 7, columns)
    np.testing.assert_allclose(np.asarray(ufen_run(words, 8, columns))[:, :7], exact, rtol=1e-4, atol=1e-5)


#: A model that is little more than its pools and heads, so that it compiles soon.
BARE = (
    "n_layers=1 use_bigru=false use_conv=false use_self_attention=false use_encoder_decoder=false "
    "use_cross_attention=false"
)


def forward_of(words: str, spec: DatasetSpec = SPEC, scale: float = 0.4):
    """A jitted ``batch -> outputs`` with random parameters."""
    model = models.build(model_block("ufen_mtfn", *words.split()), spec)
    params = random_model_params(model, spec, scale)
    return jax.jit(lambda batch: model.apply({"params": params}, batch, train=False))


@pytest.mark.parametrize(
    "words",
    [
        f"{BARE} use_cross_attention=true pair_pool=last",
        f"{BARE} pair_pool=max",
        f"{BARE} pair_pool=attention ufen_pool=early",
    ],
)
def test_padding_changes_no_pooled_pair(words):
    forward = forward_of(words)
    a, b = forward(small_batch()), forward(small_batch((6, 9, 7), filler=np.nan))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_without_masking_padding_counts_as_zeros():
    forward = forward_of(f"{BARE} masking=false")
    a, b, c = (
        forward(small_batch(steps, filler)).predictions["M"]
        for steps, filler in (((5, 8, 6), 0.0), ((5, 8, 6), np.nan), ((6, 9, 7), 0.0))
    )
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_scaled_tanh_keeps_scores_within_the_label_range():
    forward = forward_of(
        f"{BARE} head=scaled_tanh", DatasetSpec("odd", SPEC.modalities, (1.0, 5.0), "sims"), scale=9.0
    )
    scores = np.stack(list(forward(small_batch()).predictions.values()))
    assert scores.min() >= 1
    assert scores.max() <= 5
    assert np.ptp(scores) > 2


def test_dropout_follows_its_key():
    model: Any = models.build(model_block("ufen_mtfn", *BARE.split()), SPEC)
    params, batch = random_model_params(model), small_batch()

    @jax.jit
    def predict(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply({"params": params}, batch, train=True, rngs=rngs).predictions["M"]

    np.testing.assert_array_equal(predict(0), predict(0))
    assert np.abs(predict(0) - predict(1)).max() > 1e-3


def test_jit_changes_nothing():
    run = functools.partial(ufen_run, "use_bigru=false", 7)
    with jax.disable_jit():
        plain = run()
    np.testing.assert_allclose(run(), plain, rtol=1e-4, atol=1e-5)


def parameters_by_hand(widths: dict[str, int], d: int, layers: int, kernel: int) -> int:
    """The default model's count, layer by layer."""
    half = d // 2
    attention, norm, dense = 4 * d * d, 2 * d, d * d + d
    total = 0
    for width in widths.values():
        total += 2 * (3 * half * width + 3 * half * half + 6 * half)  # Bi-GRU, two biases
        total += layers * (kernel * d * d + d + attention)  # convolution, self-attention
        total += (d + 1) + dense  # head Y_i, map to Z_i
    total += 6 * (attention + norm) + (6 * d + 1)  # pairs, head Y_m
    return total + 2 * (attention + norm + 2 * dense) + (6 * d + 1)  # encoder, decoder, head Y_m'


@pytest.mark.parametrize("dataset", ["sims", "mosi", "mosei"])
def test_published_sizes_build_and_have_the_expected_parameters(dataset):
    config = configuration.load(f"{CONFIGS / dataset}.py")
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 3))
    outputs, variables = jax.eval_shape(
        lambda b: model.init_with_output(jax.random.key(0), b, train=False), batch
    )
    widths = {name: record.width for name, record in spec.modalities.items()}
    total = sum(x.size for x in jax.tree.leaves(variables))
    assert total == parameters_by_hand(widths, config.model.d_model, layers=2, kernel=3)
    assert outputs.predictions["M"].shape == (3,)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["gate=prodct"], ["model.gate", "sigmoid", "'product'"]),
        (["task=classification"], ["model.task", "regression"]),
        (["loss_tasks=TX"], ["model.loss_tasks", "'TX'"]),
        (["loss_tasks=TT"], ["at most once"]),
        (["d_model=15"], ["model.d_model=15", "even"]),
        (["d_model=0"], ["at least 1"]),
        (["d_ff=-1"], ["model.d_ff=-1"]),
        (["dropout=1"], ["model.dropout"]),
        (["cross_heads=3"], ["model.cross_heads=3", "16"]),
        (["filters=10", "self_heads=4"], ["model.self_heads=4", "10"]),
        (["fusion_loss_weight=0"], ["model.fusion_loss_weight"]),
        (["frontend=concat", "fg=both"], ["model.frontend=concat", "model.fg=both"]),
    ],
)
def test_a_wrong_value_gives_one_clear_sentence(overrides, words):
    with pytest.raises(ConfigError) as caught:
        models.build(model_block("ufen_mtfn", *overrides), SPEC)
    for word in words:
        assert word in str(caught.value)


def test_what_the_data_lack_is_named():
    bare = {name: ModalitySpec(4, 3) for name in SPEC.modalities}
    bare["audio"] = ModalitySpec(4, 3, {"a": (0, 1)})
    spec = DatasetSpec("bare", bare, (-3.0, 3.0), "mosi")
    with pytest.raises(ConfigError, match=r"vision of bare has no column groups .*: audio"):
        models.build(model_block("ufen_mtfn", "fg=vision"), spec)
    split = models.build(model_block("ufen_mtfn", "fg=both"), spec)
    assert dict(split.groups) == {"audio": ((0, 1),)}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"labels T, A, V, which bare does not have"):
        models.objective(model_block("ufen_mtfn", "unimodal_target=own"), spec)
    models.objective(model_block("ufen_mtfn", "unimodal_target=own", "loss_tasks="), spec)


def test_an_unknown_model_names_the_known_ones():
    block = configuration.block(model_block("ufen_mtfn"))
    block.name = "ufen_mftn"
    for make in (models.build, models.objective):
        with pytest.raises(ConfigError, match=r"'ufen_mftn' is unknown; there are ufen_mtfn.* 'ufen_mtfn'\?"):
            make(block, SPEC)
