"""GRU and LSTM: PyTorch's numbers and gradients, and padding that never matters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_file import GoldenFile

from msa_jax.nn.recurrent import GRU, LSTM, LSTMCell, StackedLSTM

RNN = GoldenFile("rnn")
X = jnp.asarray(RNN["in/x"])
MASK = jnp.arange(X.shape[1])[None, :] < jnp.asarray(RNN["in/lengths"])[:, None]
SUFFIX = {"forward": "", "backward": "_reverse"}


def weights_of(module: str, tail: str) -> dict:
    return {
        "kernel_ih": jnp.asarray(RNN[f"state/{module}.weight_ih{tail}"].T),
        "kernel_hh": jnp.asarray(RNN[f"state/{module}.weight_hh{tail}"].T),
        "bias_ih": jnp.asarray(RNN[f"state/{module}.bias_ih{tail}"]),
        "bias_hh": jnp.asarray(RNN[f"state/{module}.bias_hh{tail}"]),
    }


def bidirectional_weights(module: str) -> dict:
    return {d: weights_of(module, f"_l0{suffix}") for d, suffix in SUFFIX.items()}


PARAMS = {
    "gru_bi": bidirectional_weights("gru_bi"),
    "lstm": {f"layer_{i}": {"forward": weights_of("lstm", f"_l{i}")} for i in range(2)},
    "lstm_bi": bidirectional_weights("lstm_bi"),
    "lstm_cell": weights_of("lstm_cell", ""),
}


def halves(state):
    """[B, 2H] to PyTorch's [2, B, H]."""
    return jnp.stack(jnp.split(state, 2, axis=-1))


def run(module: str, params, mask) -> dict[str, Any]:
    """Outputs and states in PyTorch's layout."""
    if module == "gru_bi":
        outputs, h = GRU(5, bidirectional=True).apply({"params": params}, X, mask)
        return {"output": outputs, "h_n": halves(h)}
    if module == "lstm_bi":
        outputs, (h, c) = LSTM(5, bidirectional=True).apply({"params": params}, X, mask)
        return {"output": outputs, "h_n": halves(h), "c_n": halves(c)}
    finals: Any
    outputs, finals = StackedLSTM(5, n_layers=2).apply({"params": params}, X, mask)
    return {
        "output": outputs,
        "h_n": jnp.stack([h for h, _ in finals]),
        "c_n": jnp.stack([c for _, c in finals]),
    }


def run_cell(params) -> Any:
    state = (jnp.asarray(RNN["in/cell_h0"]), jnp.asarray(RNN["in/cell_c0"]))
    return LSTMCell(5).apply({"params": params}, state, X[:, 0])


def golden_loss(params):
    packed = {module: run(module, params[module], MASK) for module in ("gru_bi", "lstm", "lstm_bi")}
    total = 0.0
    for module, out in packed.items():
        total += jnp.sum(out["output"] * RNN[f"in/coef_output_{module}"])
        total += jnp.sum(out["h_n"] * RNN[f"in/coef_h_{module}"])
        if "c_n" in out:
            total += jnp.sum(out["c_n"] * RNN["in/coef_c"])
    h, c = run_cell(params["lstm_cell"])
    return total + jnp.sum(h) + jnp.sum(c**2), packed | {"lstm_cell": {"h": h, "c": c}}


@jax.jit
def unpacked(params):
    return {module: run(module, params[module], None) for module in ("gru_bi", "lstm", "lstm_bi")}


def test_outputs_without_packing_equal_pytorch():
    for module, out in unpacked(PARAMS).items():
        RNN.assert_output(f"out/{module}/output_unpacked", out["output"])
        RNN.assert_output(f"out/{module}/h_n_unpacked", out["h_n"])


def test_outputs_loss_and_gradients_equal_pytorch():
    (loss, outputs), gradient = jax.jit(jax.value_and_grad(golden_loss, has_aux=True))(PARAMS)
    np.testing.assert_allclose(loss, RNN["loss"], rtol=1e-5)
    for module, out in outputs.items():
        for name, value in out.items():
            RNN.assert_output(f"out/{module}/{name}", value)

    def check(module, tail, grads):
        for ours, theirs in (("kernel_ih", "weight_ih"), ("kernel_hh", "weight_hh")):
            RNN.assert_gradient(f"{module}.{theirs}{tail}", grads[ours].T)
        for name in ("bias_ih", "bias_hh"):
            RNN.assert_gradient(f"{module}.{name}{tail}", grads[name])

    for module in ("gru_bi", "lstm_bi"):
        for direction, suffix in SUFFIX.items():
            check(module, f"_l0{suffix}", gradient[module][direction])
    for i in range(2):
        check("lstm", f"_l{i}", gradient["lstm"][f"layer_{i}"]["forward"])
    check("lstm_cell", "", gradient["lstm_cell"])


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
    return jnp.asarray(x), jnp.arange(steps)[None, :] < jnp.asarray(LENGTHS)[:, None]


@pytest.mark.parametrize("name", LAYERS)
def test_padding_changes_neither_outputs_nor_gradients(name):
    layer = LAYERS[name]
    x, mask = clips(5, 0.0)
    params = jax.jit(layer.init)(jax.random.key(0), x, mask)["params"]

    def loss(params, x, mask):
        outputs, final = layer.apply({"params": params}, x, mask)
        total = jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(jnp.cos(s)) for s in jax.tree.leaves(final))
        return total, (outputs, final)

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (outputs, final)), gradient = compute(params, x, mask)
    assert not np.asarray(outputs)[~np.asarray(mask)].any()
    assert not any(np.asarray(state)[1].any() for state in jax.tree.leaves(final))  # the clip of length 0
    (_, (outputs_8, final_8)), gradient_8 = compute(params, *clips(8, np.nan))
    for a, b in zip(
        jax.tree.leaves((outputs, final, gradient)),
        jax.tree.leaves((outputs_8[:, :5], final_8, gradient_8)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_backward_direction_reads_a_clip_from_its_end():
    x, mask = clips(6, np.nan)
    flipped = np.array(x)
    for row, length in enumerate(LENGTHS):
        flipped[row, :length] = flipped[row, :length][::-1]
    both = GRU(3, bidirectional=True)
    params = both.init(jax.random.key(1), x, mask)["params"]
    outputs, _ = both.apply({"params": params}, x, mask)
    alone, _ = GRU(3).apply({"params": {"forward": params["backward"]}}, jnp.asarray(flipped), mask)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(outputs[row, :length, 3:], alone[row, :length][::-1], atol=1e-6)


def test_arithmetic_follows_the_input_and_weights():
    x, mask = clips(5, 0.0)
    layer = LAYERS["bilstm"]
    params = jax.jit(layer.init)(jax.random.key(0), x, mask)["params"]
    run = jax.jit(lambda params, x: layer.apply({"params": params}, x, mask))
    outputs, final = run(jax.tree.map(lambda a: a.astype(jnp.bfloat16), params), x.astype(jnp.bfloat16))
    assert {a.dtype for a in jax.tree.leaves((outputs, final))} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(outputs.astype(jnp.float32), run(params, x)[0], atol=0.02)


def test_dropout_stands_between_layers_only():
    x, mask = clips(5, 0.0)
    key = {"dropout": jax.random.key(3)}
    deep = StackedLSTM(3, n_layers=2, dropout=0.5)
    params = deep.init(jax.random.key(0), x, mask)
    one = StackedLSTM(3, n_layers=1, dropout=0.5)
    first = {"params": {"layer_0": params["params"]["layer_0"]}}
    np.testing.assert_array_equal(one.apply(first, x, mask, True, rngs=key)[0], one.apply(first, x, mask)[0])
    changed = deep.apply(params, x, mask, True, rngs=key)[0] - deep.apply(params, x, mask)[0]
    assert np.abs(changed).max() > 1e-3
