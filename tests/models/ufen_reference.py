"""UFEN + MTFN in float64 NumPy for one clip without padding, written from the equations alone."""

import numpy as np

PAIRS = ("va", "vt", "ta", "tv", "av", "at")
NAMES = {"t": "text", "a": "audio", "v": "vision"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def layer_norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def gru(p, x):
    h, out = np.zeros(p["kernel_hh"].shape[0]), []
    for step in x:
        i_r, i_z, i_n = np.split(step @ p["kernel_ih"] + p["bias_ih"], 3)
        h_r, h_z, h_n = np.split(h @ p["kernel_hh"] + p["bias_hh"], 3)
        z = sigmoid(i_z + h_z)
        h = (1 - z) * np.tanh(i_n + sigmoid(i_r + h_r) * h_n) + z * h
        out.append(h)
    return np.array(out)


def attention(p, x, source, heads):
    q, k, v = dense(p["query"], x), dense(p["key"], source), dense(p["value"], source)
    width = q.shape[-1] // heads
    parts = []
    for head in range(heads):
        cut = slice(head * width, (head + 1) * width)
        parts.append(softmax(q[:, cut] @ k[:, cut].T / np.sqrt(width)) @ v[:, cut])
    return dense(p["output"], np.concatenate(parts, -1))


def convolution(p, x, stride):
    """Kernel 3; step j sees the input steps 2j - 1, 2j, 2j + 1."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    return np.array(
        [np.einsum("kd,kdf->f", padded[j : j + 3], p["kernel"]) + p["bias"] for j in range(0, len(x), stride)]
    )


def upsample(x, length, scale):
    place = np.clip(np.arange(length) / scale, 0, len(x) - 1)
    return np.stack([np.interp(place, np.arange(len(x)), column) for column in x.T], -1)


def ufen(p, x):
    h = np.concatenate([gru(p["bigru"]["forward"], x), gru(p["bigru"]["backward"], x[::-1])[::-1]], -1)
    level, fused = h, 0
    for layer in (1, 2):
        level = np.maximum(convolution(p[f"conv_{layer}"], level, 2), 0)
        gated = level * attention(p[f"self_attention_{layer}"], level, level, 1)
        fused = fused + upsample(gated, len(x), 2**layer)
    return fused


def encoder_block(p, c, source, heads):
    n = layer_norm(p["norm"], c + attention(p["attention"], c, source, heads))
    return n + dense(p["ff"]["outer"], np.maximum(dense(p["ff"]["inner"], n), 0))


def ufen_mtfn(p, clip, heads):
    """Predictions of a clip {"t": [T, D], ...}, by the names that the model gives them."""
    fused = {m: ufen(p[f"ufen_{NAMES[m]}"], x) for m, x in clip.items()}
    out = {m.upper(): dense(p[f"head_{NAMES[m]}"], x.mean(0))[0] for m, x in fused.items()}
    z = {m: dense(p[f"map_{NAMES[m]}"], x) for m, x in fused.items()}
    tokens = []
    for query, source in PAIRS:
        name = f"{NAMES[query]}_from_{NAMES[source]}"
        tokens.append(layer_norm(p[f"norm_{name}"], attention(p[name], z[query], z[source], heads)).mean(0))
    c = np.stack(tokens)
    encoded = encoder_block(p["encoder"], c, c, heads)
    decoded = encoder_block(p["decoder"], c, encoded, heads)
    out["fusion"] = dense(p["head_fusion"], c.ravel())[0]
    out["M"] = dense(p["head_decoder"], decoded.ravel())[0]
    return out
