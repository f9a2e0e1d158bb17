"""The LSTM system and the gated memory of MFN and Graph-MFN, which read time first, [T, B, D]."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import GroupedHeadAttention
from msa_jax.nn.gated_memory import GatedMemory, LSTMSystem, shifted
from msa_jax.nn.recurrent import LSTM
from msa_jax.summary.operations import count_macs

HIDDEN = (("text", 4), ("audio", 3), ("vision", 2))
COLUMNS = (("audio", ((0, 1), (4, 2))),)
WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = (5, 2, 0)
MASK = jnp.asarray(np.arange(5)[:, None] < np.array(LENGTHS)[None, :])
VALUES = {
    m: jnp.asarray(np.random.default_rng(d).normal(size=(5, 3, d)), jnp.float32) for m, d in WIDTHS.items()
}


def lstm_params(params: Any, given: str, cell: Any) -> dict:
    """One LSTM of a system, as the LSTM layer names it."""
    into = params[given]
    weights = {"kernel_ih": into["kernel"], "bias_ih": into["bias"]}
    return {"forward": weights | {"kernel_hh": cell["kernel"], "bias_hh": cell["bias"]}}


def run_lstm(width: int, params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
    """The LSTM layer on x [T, B, D]: outputs [T, B, H] and the final state."""
    outputs, final = LSTM(width).apply({"params": params}, x.swapaxes(0, 1), MASK.T)
    return outputs.swapaxes(0, 1), final


def test_each_modality_is_an_lstm():
    system = LSTMSystem(HIDDEN)
    params = random_params(system, VALUES, MASK)
    states = system.apply({"params": params}, VALUES, MASK)
    for m, width in HIDDEN:
        own = lstm_params(params, f"{m}_input", params["steps"][m])
        outputs, (h, c) = run_lstm(width, own, VALUES[m])
        np.testing.assert_allclose(jnp.where(MASK[..., None], states[m][0], 0), outputs, atol=1e-6)
        np.testing.assert_allclose(states[m][0][-1], h, atol=1e-6)
        np.testing.assert_allclose(states[m][1][-1], c, atol=1e-6)


def test_fine_grained_cells_keep_their_own_state_and_attention_joins_h_and_c_alike():
    system = LSTMSystem(HIDDEN, COLUMNS)
    params = random_params(system, VALUES, MASK)
    states = system.apply({"params": params}, VALUES, MASK)
    finals = []
    for k, columns in enumerate(dict(COLUMNS)["audio"]):
        cell = jax.tree.map(lambda x, k=k: x[k], params["steps"]["audio"])
        own = lstm_params(params, f"audio_input_{k}", cell)
        _, final = run_lstm(3, own, VALUES["audio"][..., jnp.array(columns)])
        finals.append(final)
    for part in (0, 1):
        stacked = jnp.stack([final[part] for final in finals], axis=1)[:, :, None]  # [B, n, 1, H]
        joined = GroupedHeadAttention().apply({"params": params["audio_attention"]}, stacked)[:, 0]
        np.testing.assert_allclose(states["audio"][part][-1], joined, atol=1e-6)


def test_fine_grained_macs_count_the_attention_for_h_and_for_c():
    def macs(columns) -> int:
        system = LSTMSystem(HIDDEN, columns)
        params = random_params(system, VALUES, MASK)
        return count_macs(lambda p: system.apply({"params": p}, VALUES, MASK), params)

    rows, n, width, h = 3 * 5, 2, 5, 3
    cells = rows * 4 * h * (width + h)
    groups = rows * 4 * h * (4 + n * h)  # four of the five columns, and n recurrent products
    attention = rows * (n * 3 * h * h + n * h * h + n * 2 * h)  # q, k, v; W_O; scores and heads
    assert macs(COLUMNS) - macs(()) == groups - cells + 2 * attention


def test_the_step_before():
    x = jnp.arange(1.0, 7.0).reshape(3, 1, 2)
    np.testing.assert_array_equal(shifted(x), [[[0, 0]], [[1, 2]], [[3, 4]]])


def zero_gates(**biases: float) -> tuple[GatedMemory, Any]:
    """A memory of width 1 whose gates are sigmoid(bias), whatever they read."""
    memory = GatedMemory(1, 2, 2, 0.0, 0.0)
    params = jax.tree.map(jnp.zeros_like, random_params(memory, X, PROPOSAL, STEPS, train=False))
    for gate, bias in biases.items():
        params["steps"][f"{gate}_linear_2"]["bias"] = jnp.full((1,), bias)
    return memory, params


X = jnp.ones((4, 2, 3))
PROPOSAL = jnp.full((4, 2, 1), 8.0)
STEPS = jnp.array([[True, False], [True, False], [True, False], [False, False]])


@pytest.mark.parametrize(
    ("biases", "expected"),
    [
        ({}, 8 * (0.5 + 0.25 + 0.125)),  # half of what was, half of what comes, three times
        ({"retain": 99.0}, 3 * 4.0),  # nothing is forgotten
        ({"retain": -99.0, "update": 99.0}, 8.0),  # the last proposal alone
        ({"update": -99.0}, 0.0),  # nothing is written
    ],
)
def test_memory_by_hand(biases, expected):
    memory, params = zero_gates(**biases)
    last = memory.apply({"params": params}, X, PROPOSAL, STEPS, False)
    np.testing.assert_allclose(last, [[expected], [0.0]], rtol=1e-6)


def test_memory_is_two_layers_on_what_it_sees_and_remembers():
    memory = GatedMemory(2, 3, 4, 0.0, 0.0)
    proposal = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2)), jnp.float32)
    seen = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 3)), jnp.float32)
    params = random_params(memory, seen, proposal, STEPS, train=False)
    steps, u = params["steps"], np.zeros(2, np.float32)
    for t in range(3):
        gates = []
        for name in ("retain", "update"):
            kernel = np.concatenate([params[f"{name}_input"]["kernel"], steps[f"{name}_memory"]["kernel"]])
            hidden = np.maximum(np.r_[seen[t, 0], u] @ kernel + params[f"{name}_input"]["bias"], 0)
            second = steps[f"{name}_linear_2"]
            gates.append(1 / (1 + np.exp(-(hidden @ second["kernel"] + second["bias"]))))
        u = gates[0] * u + gates[1] * np.asarray(proposal[t, 0])
    last = memory.apply({"params": params}, seen, proposal, STEPS, False)
    np.testing.assert_allclose(last[0], u, rtol=1e-5)


def test_initial_range_is_that_of_the_whole_first_matrix():
    """F = 60 and M = 40: both parts are uniform within 1/sqrt(100)."""
    memory = GatedMemory(40, 50, 50, 0.0, 0.0)
    shapes = (jnp.zeros((1, 1, 60)), jnp.zeros((1, 1, 40)), jnp.ones((1, 1), bool))
    params: Any = memory.init(jax.random.key(0), *shapes, False)["params"]
    for name in ("retain", "update"):
        parts = (params[f"{name}_input"]["kernel"], params["steps"][f"{name}_memory"]["kernel"])
        for part in (*parts, params[f"{name}_input"]["bias"]):
            assert 0.08 < float(jnp.abs(part).max()) <= 0.1


def test_dropout_is_new_at_every_step():
    memory = GatedMemory(1, 64, 64, 0.5, 0.0)
    params = random_params(memory, X, PROPOSAL, STEPS, train=False)

    def kept(module: nn.Module, _method: str) -> bool:
        return isinstance(module, Dropout)

    _, seen = memory.apply(
        {"params": params}, X, PROPOSAL, STEPS, True,
        rngs={"dropout": jax.random.key(1)}, capture_intermediates=kept,
    )  # fmt: skip
    (factors,) = seen["intermediates"]["Dropout_0"]["__call__"]
    rows = np.asarray(factors).reshape(8, 64)
    assert set(np.unique(rows)) == {0.0, 2.0}
    assert len({row.tobytes() for row in rows}) == 8
