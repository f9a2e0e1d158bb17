"""RoBERTa, ModernBERT and the states of several layers: what they depend on, by hand and by property."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.errors import ConfigError
from msa_jax.nn.bert import BertSettings, normal
from msa_jax.nn.encoder import text_encoder
from msa_jax.nn.layer_mix import LayerMix
from msa_jax.nn.modernbert import rotated

BERT = BertSettings(8, 2, 2, 12, 30, 10, 2, 0.0, 0.0)
ROBERTA = dataclasses.replace(BERT, kind="roberta", pad=1, types=1)
MODERN = dataclasses.replace(BERT, kind="modernbert", pad=29, global_every=2, window=2, thetas=(50.0, 10.0))
KINDS = {"bert": BERT, "roberta": ROBERTA, "modernbert": MODERN}
NEW = pytest.mark.parametrize("kind", ["roberta", "modernbert"])
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(7) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
IDS = RNG.integers(2, 29, (4, 7))
SEGMENTS = np.zeros_like(IDS)
COEFFICIENTS = RNG.normal(size=(4, 7, 8)).astype(np.float32)


def init(settings: BertSettings, pooler: bool = False) -> Any:
    """Parameters away from the initial values, under which attention is nearly even."""
    model = text_encoder(settings, pooler)
    start = jax.jit(lambda key: model.init(key, IDS, MASK, SEGMENTS, train=False)["params"])
    return jax.tree.map(
        lambda x: x + 10 * normal(jax.random.key(x.size), x.shape) if x.ndim else x, start(jax.random.key(0))
    )


def states_of(settings: BertSettings, params: Any, ids: Any = IDS, mask: Any = MASK, **more: Any) -> Any:
    """What the encoder gives, and the states of all layers as they are kept."""
    model = text_encoder(settings, more.pop("pooler", False))

    def run(p: Any) -> Any:
        segments = jnp.zeros_like(jnp.asarray(ids))
        inputs = (jnp.asarray(ids), jnp.asarray(mask), segments, False)
        return model.apply({"params": p}, *inputs, mutable=["intermediates"], **more)

    read, kept = jax.jit(run)(params)
    return read, kept["intermediates"]["states"]


@NEW
def test_padding_and_batch_mates_change_nothing(kind):
    settings = KINDS[kind]
    params = init(settings)

    def loss(p: Any, ids: Any) -> Any:
        states: Any = text_encoder(settings).apply({"params": p}, ids, MASK, SEGMENTS, train=False)
        return jnp.sum(jnp.where(MASK[..., None], states, 0) * COEFFICIENTS), states

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    plain, other = gradient(params, IDS), gradient(params, np.where(MASK, IDS, 31 - IDS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), plain, other)
    alone, _ = states_of(settings, params, IDS[[1], :3], MASK[[1], :3])
    np.testing.assert_allclose(alone[0], plain[1][1, :3], rtol=0, atol=4e-6)


def test_roberta_counts_over_tokens_that_are_no_padding():
    """A token of padding inside a text, which transformers skips, takes no position."""
    params = init(ROBERTA)
    table, word = params["embeddings"]["position"], params["embeddings"]["word"]
    assert table.shape == (12, 8)
    ids, mask = np.array([[5, 1, 6, 7]]), np.array([[True, True, True, False]])
    params["embeddings"]["norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    _, (x, *_) = states_of(ROBERTA, params, ids, mask)
    raw = word[jnp.array([5, 1, 6])] + table[jnp.array([2, 1, 3])] + params["embeddings"]["segment"]
    normed = (raw - raw.mean(-1, keepdims=True)) / jnp.sqrt(raw.var(-1, keepdims=True))
    np.testing.assert_allclose(x[0, :3], normed, rtol=0, atol=2e-5)


@NEW
def test_padding_is_never_learned(kind):
    settings = KINDS[kind]

    def loss(p: Any) -> Any:
        ids = np.where(IDS > 15, settings.pad, IDS)
        states: Any = text_encoder(settings).apply({"params": p}, ids, MASK, SEGMENTS, train=False)
        return jnp.sum(states * COEFFICIENTS)

    gradient = jax.jit(jax.grad(loss))(init(settings))["embeddings"]["word"]
    assert not np.asarray(gradient[settings.pad]).any()
    assert np.asarray(gradient[IDS[0][IDS[0] <= 15]]).any()


def test_rotated_pairs_keep_length_and_know_distances_alone():
    x = jnp.asarray(RNG.normal(size=(1, 1, 9, 6)), jnp.float32)
    one, other = rotated(x, 100.0), rotated(jnp.broadcast_to(x[:, :, :1], x.shape), 100.0)
    np.testing.assert_allclose((one**2).sum(-1), (x**2).sum(-1), rtol=1e-5)
    products = np.asarray(other[0, 0] @ other[0, 0].T)
    for shift in range(9):
        along = np.diagonal(products, shift)
        np.testing.assert_allclose(along, along[0], rtol=0, atol=1e-5)
    # Columns 1 and 4 are a pair: at step 2 it is turned by 2 * 100 ** (-1/3).
    angle = 2 * 100 ** (-1 / 3)
    expected = x[0, 0, 2, 1] * np.cos(angle) - x[0, 0, 2, 4] * np.sin(angle)
    np.testing.assert_allclose(one[0, 0, 2, 1], expected, rtol=1e-5)


def test_local_layers_read_the_window_alone():
    """With windows of one step to either side; the first layer reads the whole text."""
    model, params = text_encoder(MODERN), init(MODERN)
    _, kept = jax.jit(
        lambda p: model.apply({"params": p}, IDS, MASK, SEGMENTS, train=False, mutable=["intermediates"])
    )(params)
    whole, local = (
        np.asarray(kept["intermediates"][f"layer_{i}"]["attention"]["weights"][0][0]) for i in (0, 1)
    )
    near = np.abs(np.arange(7)[:, None] - np.arange(7)) <= 1
    assert (whole > 0).all()
    assert (local[:, ~near] == 0).all()
    assert (local[:, near] > 0).all()


def test_a_mix_by_hand():
    states = [jnp.full((1, 2, 3), x) for x in (1.0, 2.0, 6.0)]
    for layers, expected in (("last", 6.0), ("mean", 3.0), ("learned", 3.0)):
        found, params = LayerMix(layers).init_with_output(jax.random.key(0), states)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert ("params" in params) == (layers == "learned")
    mix = {"weights": jnp.log(jnp.array([1.0, 2.0, 1.0])), "scale": jnp.float32(3)}
    found: Any = LayerMix("learned").apply({"params": mix}, states)
    np.testing.assert_allclose(found, 3 * (1 / 4 + 2 / 2 + 6 / 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "layers"), [("bert", "learned"), ("roberta", "mean"), ("modernbert", "learned")]
)
def test_encoders_mix_changed_states_and_the_pooler_reads_the_mix(kind, layers):
    settings = dataclasses.replace(KINDS[kind], layers=layers)
    pooler = kind != "modernbert"
    params = init(settings, pooler)
    read, states = states_of(settings, params, injections={1: lambda x: 2 - x}, pooler=pooler)
    assert len(states) == settings.n_layers + 1
    changed = [x if i != 1 else 2 - x for i, x in enumerate(states)]
    mixed = np.asarray(LayerMix(layers).apply({"params": params.get("mix", {})}, changed))
    states, *pooled = read if pooler else (read,)
    np.testing.assert_allclose(states, mixed, rtol=0, atol=1e-5)
    for found in pooled:
        kernel, bias = (np.asarray(params["pooler"][name]) for name in ("kernel", "bias"))
        np.testing.assert_allclose(found, np.tanh(mixed[:, 0] @ kernel + bias), rtol=0, atol=1e-5)


def test_remat_gives_the_same_gradients():
    settings = dataclasses.replace(MODERN, layers="learned")
    params = init(settings)

    def run(s: BertSettings) -> Any:
        def loss(p: Any) -> Any:
            rngs = {"dropout": jax.random.key(1)}
            states: Any = text_encoder(s).apply({"params": p}, IDS, MASK, SEGMENTS, train=True, rngs=rngs)
            return jnp.sum(states * COEFFICIENTS)

        return jax.jit(jax.value_and_grad(loss))(params)

    again, plain = run(dataclasses.replace(settings, remat=True)), run(settings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


def test_bfloat16_stays_near():
    settings = dataclasses.replace(MODERN, layers="learned")
    params = init(settings)
    half, _ = states_of(settings, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
    assert half.dtype == jnp.bfloat16
    full, _ = states_of(settings, params)
    np.testing.assert_allclose(np.asarray(half, np.float32)[MASK], full[MASK], atol=0.2)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # roberta-base and ModernBERT-base, without heads
        (dataclasses.replace(ROBERTA, width=768, n_layers=12, heads=12, intermediate=3072, vocab=50265,
                             positions=512), 124_055_040),
        (dataclasses.replace(MODERN, width=768, n_layers=22, heads=12, intermediate=1152, vocab=50368,
                             positions=8192, pad=50283, global_every=3, window=128), 149_014_272),
    ],
)  # fmt: skip
def test_parameters_of_the_public_sizes(settings, count):
    shapes: Any = jax.eval_shape(
        lambda: text_encoder(settings).init(jax.random.key(0), IDS, MASK, SEGMENTS, train=False)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_too_many_tokens_are_one_sentence():
    ids = np.ones((1, 11), np.int32)
    for settings in KINDS.values():
        with pytest.raises(ConfigError, match="texts of 11 tokens, but the encoder has 10 positions"):
            text_encoder(settings).init(jax.random.key(0), ids, ids == 1, ids, train=False)
