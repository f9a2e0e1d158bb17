"""GRU and LSTM: padding never matters. Their numbers are compared with PyTorch's in test_parity."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from msa_jax.nn.recurrent import GRU, LSTM, LSTMInput, LSTMStep, StackedLSTM

LAYERS = {
    "bigru": GRU(3, bidirectional=True),
    "bilstm": LSTM(3, bidirectional=True),
    "stacked": StackedLSTM(3, n_layers=2),
}
LENGTHS = (5, 0, 1, 4)


def clips(steps: int, filler: float):
    """Four clips of fixed contents, padded with ``filler`` to ``steps``."""
    x = np.full((4, steps, 2), filler, np.float32)
    for row, length in enumerate(LENGTHS):
        x[row, :length] = np.random.default_rng(row).normal(size=(length, 2))
    return x, np.arange(steps)[None, :] < np.array(LENGTHS)[:, None]


@pytest.mark.parametrize("name", LAYERS)
def test_padding_changes_neither_outputs_nor_gradients(name):
    layer = LAYERS[name]
    x, mask = clips(5, 0.0)
    params = random_params(layer, x, mask)

    def loss(params, x, mask):
        outputs, final = layer.apply({"params": params}, x, mask)
        total = jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(jnp.cos(s)) for s in jax.tree.leaves(final))
        return total, (outputs, final)

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (outputs, final)), gradient = compute(params, x, mask)
    assert not np.asarray(outputs)[~mask].any()
    assert not any(np.asarray(state)[1].any() for state in jax.tree.leaves(final))  # the clip of length 0
    (_, (outputs_8, final_8)), gradient_8 = compute(params, *clips(8, np.nan))
    for a, b in zip(
        jax.tree.leaves((outputs, final, gradient)),
        jax.tree.leaves((np.asarray(outputs_8)[:, :5], final_8, gradient_8)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_backward_direction_reads_a_clip_from_its_end():
    x, mask = clips(6, np.nan)
    flipped = x.copy()
    for row, length in enumerate(LENGTHS):
        flipped[row, :length] = flipped[row, :length][::-1]
    both = GRU(3, bidirectional=True)
    params = random_params(both, x, mask)
    outputs, _ = jax.jit(both.apply)({"params": params}, x, mask)
    alone, _ = jax.jit(GRU(3).apply)({"params": {"forward": params["backward"]}}, flipped, mask)
    outputs, alone = np.asarray(outputs), np.asarray(alone)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(outputs[row, :length, 3:], alone[row, :length][::-1], atol=1e-6)


def test_arithmetic_follows_the_input_and_weights():
    x, mask = clips(5, 0.0)
    layer = LAYERS["bilstm"]
    params = random_params(layer, x, mask)
    run = jax.jit(lambda params, x: layer.apply({"params": params}, x, mask))
    outputs, final = run(jax.tree.map(lambda a: a.astype(jnp.bfloat16), params), x.astype(jnp.bfloat16))
    assert {a.dtype for a in jax.tree.leaves((outputs, final))} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.asarray(outputs, np.float32), run(params, x)[0], atol=0.02)


def test_dropout_stands_between_layers_only():
    x, mask = clips(5, 0.0)
    params = random_params(StackedLSTM(3, n_layers=2), x, mask)

    @functools.partial(jax.jit, static_argnames=("n_layers", "train"))
    def run(params, n_layers, train):
        layers: Any = StackedLSTM(3, n_layers=n_layers, dropout=0.5)
        return layers.apply({"params": params}, x, mask, train, rngs={"dropout": jax.random.key(3)})[0]

    first = {"layer_0": params["layer_0"]}
    np.testing.assert_array_equal(run(first, 1, True), run(first, 1, False))
    assert np.abs(np.asarray(run(params, 2, True)) - np.asarray(run(params, 2, False))).max() > 1e-3


def test_an_lstm_in_two_parts_is_the_layer():
    x, mask = clips(5, 0.0)
    layer = LSTM(3)
    weights = random_params(layer, x, mask)
    _, (h, c) = layer.apply({"params": weights}, x)
    parts = [
        {"kernel": weights["forward"][f"kernel_{p}"], "bias": weights["forward"][f"bias_{p}"]}
        for p in ("ih", "hh")
    ]
    projected = LSTMInput(3).apply({"params": parts[0]}, x)
    state: Any = (np.zeros((4, 3), np.float32),) * 2
    for step in range(5):
        state = LSTMStep(3).apply({"params": parts[1]}, state, projected[:, step])
    np.testing.assert_allclose(state, (h, c), atol=1e-6)
