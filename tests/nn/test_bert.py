"""BERT's encoder: what real tokens may depend on, its sizes, names, precision and dropout."""

import dataclasses
import fnmatch
import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.errors import ConfigError
from msa_jax.nn import bert
from msa_jax.nn.bert import Bert, BertSettings, Injections, normal

SETTINGS = BertSettings(8, 2, 2, 12, 30, 10, 2, 0.0, 0.0)
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(7) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 30, (4, 7))
SEGMENTS = RNG.integers(0, 2, (4, 7))
COEFFICIENTS = RNG.normal(size=(4, 7, 8)).astype(np.float32)


def init(settings=SETTINGS, pooler=False):
    model = Bert(settings, pooler)
    start = jax.jit(lambda key: model.init(key, IDS, MASK, SEGMENTS, train=False))
    variables: Any = start(jax.random.key(0))
    # Away from the initial values, under which attention is nearly even.
    return jax.tree.map(lambda x: x + 10 * normal(jax.random.key(x.size), x.shape), variables["params"])


PARAMS = init()


@functools.partial(jax.jit, static_argnames="settings")
def apply(params, ids: Any = IDS, mask: Any = MASK, segments: Any = SEGMENTS, settings=SETTINGS) -> Any:
    return Bert(settings).apply({"params": params}, ids, mask, segments, train=False)


@jax.jit
def gradient(params, ids, segments):
    """States at real tokens, and the gradient of a loss on them."""

    def loss(p):
        states = jnp.where(MASK[..., None], apply(p, ids, segments=segments), 0)
        return jnp.sum(states * COEFFICIENTS), states

    return jax.grad(loss, has_aux=True)(params)


def test_padding_changes_nothing():
    plain = gradient(PARAMS, IDS, SEGMENTS)
    other = gradient(PARAMS, np.where(MASK, IDS, 29 - IDS), np.where(MASK, SEGMENTS, 1 - SEGMENTS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), plain, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plain))


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_a_clip_by_itself_and_cut(clip):
    length = LENGTHS[clip]
    alone = apply(PARAMS, IDS[[clip], :length], MASK[[clip], :length], SEGMENTS[[clip], :length])
    np.testing.assert_allclose(alone[0], apply(PARAMS)[clip, :length], rtol=0, atol=2e-6)


def test_a_layer_by_hand():
    """One layer, one head, written out with the separate projections."""
    settings = dataclasses.replace(SETTINGS, n_layers=1, heads=1)
    p = init(settings)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), p)

    def norm(x, q):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * q["scale"] + q["bias"]

    def affine(x, q):
        return x @ q["kernel"] + q["bias"]

    ids, segments = IDS[0], SEGMENTS[0]
    embeddings, layer = p["embeddings"], p["layer_0"]
    x = embeddings["word"][ids] + embeddings["position"][:7] + embeddings["segment"][segments]
    x = norm(x, embeddings["norm"])
    query, key, value = (affine(x, layer["attention"][name]) for name in ("query", "key", "value"))
    scores = np.exp(query @ key.T / np.sqrt(8))
    read = affine(scores / scores.sum(-1, keepdims=True) @ value, layer["attention"]["output"])
    x = norm(x + read, layer["attention_norm"])
    hidden = affine(x, layer["intermediate"])
    erf = np.asarray(jax.scipy.special.erf(hidden / np.sqrt(2)))
    x = norm(x + affine(hidden * (1 + erf) / 2, layer["output"]), layer["output_norm"])
    states = apply(jax.tree.map(jnp.float32, p), settings=settings)
    np.testing.assert_allclose(states[0], x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("vocab", "count"), [(30522, 109_482_240), (21128, 102_267_648)])
def test_parameters_of_bert_base(vocab, count):
    settings = BertSettings(768, 12, 12, 3072, vocab, 512, 2, 0.1, 0.1)
    shapes: Any = jax.eval_shape(
        lambda: Bert(settings, pooler=True).init(jax.random.key(0), IDS, MASK, SEGMENTS, train=False)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_injection_changes_what_the_next_layer_reads(after):
    """Up to it the states are the plain ones; what it gives is read by the next layer, or is the answer."""

    def states(injections: Injections | None) -> Any:
        def run(params: Any) -> Any:
            inputs = (IDS, MASK, SEGMENTS, False, injections)
            return Bert(SETTINGS).apply({"params": params}, *inputs, mutable=["intermediates"])

        read, kept = jax.jit(run)(PARAMS)
        return *kept["intermediates"]["states"], read

    plain, changed = states(None), states({after: lambda x: 2 - x})
    for i in range(after + 1):
        np.testing.assert_allclose(plain[i], changed[i], rtol=0, atol=1e-6)
    if after == SETTINGS.n_layers:
        np.testing.assert_allclose(changed[-1], 2 - plain[-1], rtol=0, atol=1e-6)
        return
    layer = bert.BertLayer(SETTINGS)
    params = {"params": PARAMS[f"layer_{after}"]}
    read: Any = jax.jit(lambda x: layer.apply(params, x, jnp.asarray(MASK), False))(2 - plain[after])
    np.testing.assert_allclose(changed[after + 1], np.asarray(read), rtol=0, atol=1e-6)


def test_what_does_not_decay_is_known_by_name():
    """Biases and LayerNorms, and nothing else, fit the two patterns."""
    for path, leaf in flax.traverse_util.flatten_dict(PARAMS, sep="/").items():
        fits = any(fnmatch.fnmatch(f"text_encoder/{path}", f"text_encoder/{p}") for p in ("*bias", "*norm*"))
        assert fits == (leaf.ndim == 1), path


def test_initial_values():
    values = np.asarray(normal(jax.random.key(3), (400, 500)))
    assert np.isfinite(values).all()
    assert abs(values.mean()) < 2e-4
    assert abs(values.std() - 0.02) < 2e-4
    assert abs((np.abs(values) < 0.02).mean() - 0.6827) < 5e-3
    assert 0.08 < np.abs(values).max() < 0.12


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_remat_gives_the_same_gradients(monkeypatch, rate):
    """With dropout too, whose masks must be the same in both passes."""
    settings = dataclasses.replace(SETTINGS, dropout=rate, attention_dropout=rate, remat=rate > 0)

    def run(s):
        def loss(p):
            rngs = {"dropout": jax.random.key(1)}
            states: Any = Bert(s).apply({"params": p}, IDS, MASK, SEGMENTS, train=True, rngs=rngs)
            return jnp.sum(states * COEFFICIENTS)

        return jax.jit(jax.value_and_grad(loss))(PARAMS)

    again = run(dataclasses.replace(settings, remat=True))
    if rate:  # the same functions, differentiated as they stand

        def forward(layer, train, variables, x, mask, seed):
            return layer.apply(variables, x, mask, train, rngs={"dropout": seed})

        monkeypatch.setattr(bert, "_forward", forward)
    plain = run(settings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, again)


def test_remat_takes_less_memory():
    settings = BertSettings(32, 3, 4, 128, 30, 48, 2, 0.1, 0.1)
    ids = jnp.ones((8, 48), jnp.int32)

    def temporary(s):
        def loss(variables):
            rngs = {"dropout": jax.random.key(1)}
            states: Any = Bert(s).apply(variables, ids, ids > 0, ids - 1, train=True, rngs=rngs)
            return jnp.sum(states**3)

        shapes = jax.eval_shape(lambda: Bert(s).init(jax.random.key(0), ids, ids > 0, ids, train=False))
        planned: Any = jax.jit(jax.grad(loss)).lower(shapes).compile().memory_analysis()
        return planned.temp_size_in_bytes

    assert temporary(dataclasses.replace(settings, remat=True)) < 0.5 * temporary(settings)


def test_dropout_is_on_in_training_only():
    settings = dataclasses.replace(SETTINGS, dropout=0.5, attention_dropout=0.5)
    np.testing.assert_array_equal(apply(PARAMS), apply(PARAMS, settings=settings))

    @jax.jit
    def train(seed) -> Any:
        rngs = {"dropout": jax.random.key(seed)}
        return Bert(settings).apply({"params": PARAMS}, IDS, MASK, SEGMENTS, train=True, rngs=rngs)

    assert np.abs(train(0) - train(1)).max() > 0.1
    np.testing.assert_array_equal(train(2), train(2))


def test_bfloat16_stays_near():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    states = apply(half)
    assert states.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(states, np.float32)[MASK], apply(PARAMS)[MASK], atol=0.15)


def test_padding_ids_are_not_learned():
    grads, _ = gradient(PARAMS, np.where(IDS > 15, 0, IDS), SEGMENTS)
    word = np.asarray(grads["embeddings"]["word"])
    assert not word[0].any()
    assert word[IDS[0][IDS[0] <= 15]].any()


def test_too_many_tokens_are_one_sentence():
    ids = np.ones((1, 11), np.int32)
    with pytest.raises(ConfigError, match="texts of 11 tokens, but the encoder has 10 positions"):
        apply(PARAMS, ids, ids == 1, ids)
    with pytest.raises(ConfigError, match="3 heads do not divide the encoder's width 8"):
        dataclasses.replace(SETTINGS, heads=3)
