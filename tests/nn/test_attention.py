"""Attention and the encoder layer: PyTorch's numbers and gradients, masks, dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_file import GoldenFile

from msa_jax.nn.attention import MultiHeadAttention, causal_bias
from msa_jax.nn.transformer import EncoderLayer

FILE = GoldenFile("attention")
QUERY, KEY = (jnp.asarray(FILE[f"in/{n}"]).swapaxes(0, 1) for n in ("query", "key"))
KEY_MASK, SELF_MASK = (jnp.asarray(~FILE[f"in/{n}_padding_mask"]) for n in ("key", "self"))

ATTENTION: Any = MultiHeadAttention(2)
LAYER: Any = EncoderLayer(2, 10)


def attention_params(name: str) -> dict:
    kernels = np.split(FILE[f"state/{name}.in_proj_weight"], 3)
    biases = np.split(FILE[f"state/{name}.in_proj_bias"], 3)
    params = {
        part: {"kernel": jnp.asarray(kernel.T), "bias": jnp.asarray(bias)}
        for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
    }
    return params | {"output": dense_params(f"{name}.out_proj")}


def dense_params(name: str) -> dict:
    return {
        "kernel": jnp.asarray(FILE[f"state/{name}.weight"].T),
        "bias": jnp.asarray(FILE[f"state/{name}.bias"]),
    }


def norm_params(name: str) -> dict:
    return {
        "scale": jnp.asarray(FILE[f"state/{name}.weight"]),
        "bias": jnp.asarray(FILE[f"state/{name}.bias"]),
    }


PARAMS = {
    "mha": attention_params("mha"),
    "layer": {
        "attention": attention_params("layer.self_attn"),
        "ff": {"inner": dense_params("layer.linear1"), "outer": dense_params("layer.linear2")},
        "norm_1": norm_params("layer.norm1"),
        "norm_2": norm_params("layer.norm2"),
    },
}


def run(params) -> tuple[dict, dict]:
    """The file's six outputs [B, T, D], and attention weights averaged over heads."""
    bias = causal_bias(6, 6)

    def attend(source, mask, bias=None):
        out, kept = ATTENTION.apply(
            {"params": params["mha"]}, QUERY, source, mask, bias, mutable=["intermediates"]
        )
        return out, jnp.mean(kept["intermediates"]["weights"][0], axis=1)

    def layer(mask=None, bias=None):
        return LAYER.apply({"params": params["layer"]}, QUERY, mask, bias)

    cross, cross_weights = attend(KEY, KEY_MASK)
    own, own_weights = attend(QUERY, None)
    outputs = {
        "cross": cross,
        "self": own,
        "causal": attend(QUERY, None, bias)[0],
        "layer": layer(),
        "layer_padding": layer(SELF_MASK),
        "layer_causal": layer(bias=bias),
    }
    return outputs, {"cross_weights": cross_weights, "self_weights": own_weights}


def test_outputs_loss_and_gradients_equal_pytorch():
    coefficients = jnp.asarray(FILE["in/coef"]).swapaxes(0, 1)

    def golden_loss(params):
        outputs, weights = run(params)
        return sum(jnp.sum(out * coefficients) for out in outputs.values()), (outputs, weights)

    (loss, (outputs, weights)), gradient = jax.jit(jax.value_and_grad(golden_loss, has_aux=True))(PARAMS)
    np.testing.assert_allclose(loss, FILE["loss"], rtol=1e-5)
    for name, value in outputs.items():
        FILE.assert_output(f"out/{name}", value.swapaxes(0, 1))
    for name, value in weights.items():
        FILE.assert_output(f"out/{name}", value)

    def check_attention(name, grads):
        parts = [grads[p] for p in ("query", "key", "value")]
        FILE.assert_gradient(f"{name}.in_proj_weight", np.concatenate([p["kernel"].T for p in parts]))
        FILE.assert_gradient(f"{name}.in_proj_bias", np.concatenate([p["bias"] for p in parts]))
        check_dense(f"{name}.out_proj", grads["output"])

    def check_dense(name, grads):
        FILE.assert_gradient(f"{name}.weight", grads["kernel"].T)
        FILE.assert_gradient(f"{name}.bias", grads["bias"])

    check_attention("mha", gradient["mha"])
    layer = gradient["layer"]
    check_attention("layer.self_attn", layer["attention"])
    check_dense("layer.linear1", layer["ff"]["inner"])
    check_dense("layer.linear2", layer["ff"]["outer"])
    for number in (1, 2):
        FILE.assert_gradient(f"layer.norm{number}.weight", layer[f"norm_{number}"]["scale"])
        FILE.assert_gradient(f"layer.norm{number}.bias", layer[f"norm_{number}"]["bias"])


def test_padding_keys_are_never_read():
    params = PARAMS["mha"]

    def loss(params, source, mask):
        return jnp.sum(ATTENTION.apply({"params": params}, QUERY, source, mask) ** 2)

    longer = jnp.pad(jnp.where(KEY_MASK[..., None], KEY, jnp.nan), ((0, 0), (0, 3), (0, 0)))
    longer_mask = jnp.pad(KEY_MASK, ((0, 0), (0, 3)))
    compute = jax.jit(jax.value_and_grad(loss))
    value, gradient = compute(params, KEY, KEY_MASK)
    value_2, gradient_2 = compute(params, longer, longer_mask)
    np.testing.assert_allclose(value, value_2, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_real_key_gives_the_same_finite_answer_at_any_padding():
    params = {"params": PARAMS["mha"]}
    # Even weights over values that are all the value bias.
    p = PARAMS["mha"]
    expected = p["value"]["bias"] @ p["output"]["kernel"] + p["output"]["bias"]
    for steps in (1, 7):
        source = jnp.full((5, steps, 8), jnp.nan)
        nothing = jax.jit(ATTENTION.apply)(params, QUERY, source, jnp.zeros((5, steps), bool))
        np.testing.assert_allclose(nothing, np.broadcast_to(expected, nothing.shape), atol=1e-6)


def test_causal_bias_hides_the_future():
    np.testing.assert_array_equal(causal_bias(2, 4, ahead=1) == 0, [[1, 1, 0, 0], [1, 1, 1, 0]])


def test_scores_stay_accurate_in_bfloat16():
    run = jax.jit(lambda p, q, k: ATTENTION.apply({"params": p}, q, k, KEY_MASK))
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS["mha"], QUERY, KEY))
    out = run(*half)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), run(PARAMS["mha"], QUERY, KEY), atol=0.02 * np.abs(out).max()
    )
    jaxpr = str(jax.make_jaxpr(run)(*half))
    assert "f32[5,2,6,9] = exp" in jaxpr.replace(":", "")


def test_dropout_acts_on_the_weights():
    """With identity values and output, a dropped weight shows as a missing key and the rest grow."""
    eye = {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}
    flat = {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}
    params = {"params": {"query": flat, "key": flat, "value": eye, "output": eye}}
    source = jnp.eye(4)[None]
    layer: Any = MultiHeadAttention(1, dropout=0.5)
    out = layer.apply(params, jnp.zeros((1, 300, 4)), source, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(out)) == {0.0, 0.5}
    assert 0.4 < float(jnp.mean(out == 0)) < 0.6
