"""Our building blocks against their golden files: recurrent layers, attention, alignment, loader, metrics."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import parity_bert
from parity_errors import Errors
from parity_weights import compare_gradient, variables_of

from msa_jax import metrics
from msa_jax.data import clean
from msa_jax.data.align import align_as_mmsa
from msa_jax.nn.attention import MultiHeadAttention
from msa_jax.nn.recurrent import GRU, LSTM, LSTMInput, LSTMStep, StackedLSTM
from msa_jax.nn.transformer import EncoderLayer
from msa_jax.weights.layers import linear, lstm_cell, norm, packed_attention, recurrent

Arrays = dict[str, np.ndarray]


def _halves(state):
    """[B, 2H] to PyTorch's [2, B, H]."""
    return jnp.stack(jnp.split(state, 2, axis=-1))


def _rnn(arrays: Arrays, _meta: dict, errors: Errors) -> None:
    hidden = arrays["state/gru_bi.weight_hh_l0"].shape[1]
    layers = sum(f"state/lstm.weight_hh_l{i}" in arrays for i in range(9))
    entries = [
        *recurrent("gru_bi", "gru_bi", bidirectional=True),
        *(e for i in range(layers) for e in recurrent(f"lstm/layer_{i}", "lstm", layer=i)),
        *recurrent("lstm_bi", "lstm_bi", bidirectional=True),
        *lstm_cell("cell_input", "cell_step", "lstm_cell"),
    ]
    x = arrays["in/x"]
    mask = np.arange(x.shape[1])[None, :] < arrays["in/lengths"][:, None]

    def apply(module: Any, params, *args):
        return module.apply({"params": params}, *args)

    def run(params, mask) -> dict[str, dict[str, jax.Array]]:
        gru, h = apply(GRU(hidden, bidirectional=True), params["gru_bi"], x, mask)
        both, (h2, c2) = apply(LSTM(hidden, bidirectional=True), params["lstm_bi"], x, mask)
        top, finals = apply(StackedLSTM(hidden, layers), params["lstm"], x, mask)
        states = {"h_n": jnp.stack([h for h, _ in finals]), "c_n": jnp.stack([c for _, c in finals])}
        return {
            "gru_bi": {"output": gru, "h_n": _halves(h)},
            "lstm_bi": {"output": both, "h_n": _halves(h2), "c_n": _halves(c2)},
            "lstm": {"output": top, **states},
        }

    def loss(params):
        outputs = run(params, mask)
        total = jnp.zeros(())
        for name, out in outputs.items():
            total += jnp.sum(out["output"] * arrays[f"in/coef_output_{name}"])
            total += jnp.sum(out["h_n"] * arrays[f"in/coef_h_{name}"])
            total += jnp.sum(out["c_n"] * arrays["in/coef_c"]) if "c_n" in out else 0
        projected = apply(LSTMInput(hidden), params["cell_input"], x[:, 0])
        h, c = apply(
            LSTMStep(hidden), params["cell_step"], (arrays["in/cell_h0"], arrays["in/cell_c0"]), projected
        )
        outputs["lstm_cell"] = {"h": h, "c": c}
        return total + jnp.sum(h) + jnp.sum(c**2), (outputs, run(params, None))

    params = variables_of(entries, arrays)["params"]
    (value, (packed, unpacked)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    errors.compare("loss", value)
    for suffix, outputs in (("", packed), ("_unpacked", unpacked)):
        for name, out in outputs.items():
            for part, array in out.items():
                if f"out/{name}/{part}{suffix}" in arrays:
                    errors.compare(f"out/{name}/{part}{suffix}", array)
    compare_gradient(entries, errors, gradient, "grad/")


def _attention(arrays: Arrays, meta: dict, errors: Errors) -> None:
    heads = meta["config"]["heads"]
    inner = len(arrays["state/layer.linear1.bias"])
    entries = [
        *packed_attention("mha", "mha"),
        *packed_attention("layer/attention", "layer.self_attn"),
        *linear("layer/ff/inner", "layer.linear1"),
        *linear("layer/ff/outer", "layer.linear2"),
        *norm("layer/norm_1", "layer.norm1"),
        *norm("layer/norm_2", "layer.norm2"),
    ]
    attention, encoder = MultiHeadAttention(heads), EncoderLayer(heads, inner)
    query, key = (arrays[f"in/{name}"].swapaxes(0, 1) for name in ("query", "key"))
    key_mask, self_mask = (~arrays[f"in/{name}_padding_mask"] for name in ("key", "self"))
    bias = np.maximum(arrays["in/causal_mask"], -1e9)

    def loss(params):
        def attend(source, mask, bias=None):
            out, kept = attention.apply(
                {"params": params["mha"]}, query, source, mask, bias, mutable=["intermediates"]
            )
            return out, jnp.mean(kept["intermediates"]["attention"][0].weights, axis=1)

        def layer(mask=None, bias=None) -> Any:
            return encoder.apply({"params": params["layer"]}, query, mask, bias)

        cross, cross_weights = attend(key, key_mask)
        own, own_weights = attend(query, None)
        outputs = {
            "cross": cross,
            "self": own,
            "causal": attend(query, None, bias)[0],
            "layer": layer(),
            "layer_padding": layer(self_mask),
            "layer_causal": layer(bias=bias),
        }
        weights = {"cross_weights": cross_weights, "self_weights": own_weights}
        coefficients = arrays["in/coef"].swapaxes(0, 1)
        return sum(jnp.sum(out * coefficients) for out in outputs.values()), (outputs, weights)

    params = variables_of(entries, arrays)["params"]
    (value, (outputs, weights)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    errors.compare("loss", value)
    for name, array in outputs.items():
        errors.compare(f"out/{name}", array.swapaxes(0, 1))
    for name, array in weights.items():
        errors.compare(f"out/{name}", array)
    compare_gradient(entries, errors, gradient, "grad/")


def _align(arrays: Arrays, _meta: dict, errors: Errors) -> None:
    for key in [k for k in arrays if k.startswith("out/")]:
        _, version, case, modality = key.split("/")
        steps = int(arrays[f"in/{case}/text_len"])
        errors.compare(key, align_as_mmsa(arrays[f"in/{case}/{modality}"], steps, version == "master"))


def _loader(arrays: Arrays, _meta: dict, errors: Errors) -> None:
    for m in ("text", "audio", "vision"):
        raw = clean.as_mmsa(arrays[f"in/{m}"], m)
        errors.compare_exactly(f"out/raw/{m}", raw)
        lengths = arrays.get(f"in/{m}_lengths", np.full(len(raw), raw.shape[1]))
        mean = raw if m == "text" else clean.time_mean(raw, lengths, compat=True)
        errors.compare(f"out/mean/{m}", mean)
    for folder in ("raw", "mean"):
        errors.compare_exactly(f"out/{folder}/labels", arrays["in/regression_labels"])


def _metrics(arrays: Arrays, _meta: dict, errors: Errors) -> None:
    for case in sorted({k.split("/")[1] for k in arrays}):
        kind, label = case.split("_")[0], arrays[f"in/{case}/label"]
        if kind == "cls":
            kind = "classification"
            ours = metrics.classification_metrics(arrays[f"in/{case}/logits"], label, compat=True)
        else:
            ours = metrics.regression_metrics(kind, arrays[f"in/{case}/pred"], label)
        names = {theirs: key for key, theirs in metrics.PEER_NAMES[kind].items()}
        for key in [k for k in arrays if k.startswith(f"out/{case}/")]:
            name = names[key.rsplit("/", 1)[1]]
            errors.compare_exactly(key, _rounded(name, ours[name]))


def _rounded(key: str, value: float) -> float:
    """To 4 decimals as the peer rounds, whose MAE is a float32 (which decides one tie)."""
    value = float(np.float32(value)) if key == "mae" else value
    return value if math.isnan(value) else round(value, 4)


#: By the file's model name.
BLOCKS: dict[str, Callable[[Arrays, dict, Errors], None]] = {
    "bert": parity_bert.compare,
    "rnn": _rnn,
    "attention": _attention,
    "align": _align,
    "loader": _loader,
    "metrics": _metrics,
}
