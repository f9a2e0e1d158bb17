"""The public DLF, which separates what modalities share from their own: names and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.configuration import Config
from msa_jax.models.dlf import UNREAD
from msa_jax.weights.layers import Entry, PeerModel, linear, raw
from msa_jax.weights.peers.encoder import bert
from msa_jax.weights.peers.transformers import cross_modal

_INITIALS = {"text": "l", "audio": "a", "vision": "v"}
#: BERT's pooler, and what compat alone holds.
_UNREAD = (
    "text_model.model.pooler.*",
    "proj_cosine_*",
    "*_low.*",
    *(f"trans_{_INITIALS[m]}_with_{_INITIALS[other]}.*" for m, other in UNREAD),
)


def _by_step(x: np.ndarray) -> np.ndarray:
    """A layer over a whole sequence, flattened channel by channel: (out, in * steps) to [steps, in, out]."""
    return x.reshape(len(x), len(x), -1).transpose()  # in and out are d


def _head(ours: str, before: str, after: str = "") -> list[Entry]:
    names = {"linear_1": "proj1", "linear_2": "proj2", "output": "out_layer"}
    return [e for name, peer in names.items() for e in linear(f"{ours}/{name}", f"{peer}{before}{after}")]


def _entries(model: Config) -> list[Entry]:
    entries, n_layers = _head("head", "") + _head("head_shared", "_c"), model.n_layers
    entries += linear("gate_shared", "projector_c") + cross_modal("shared", "encoder_c", n_layers)
    if model.text_encoder == "finetune":
        entries += bert("text_encoder/bert", "text_model.model", model.encoder.n_layers)
    for m, i in _INITIALS.items():
        entries += linear(f"{m}/conv", f"proj_{i}", bias=False)
        entries += raw(f"restore_{m}/kernel", f"decoder_{i}.weight", lambda x: x[..., 0].transpose())
        entries += raw(f"whole_{m}/kernel", f"align_c_{i}.weight", _by_step)
        entries += raw(f"whole_{m}/bias", f"align_c_{i}.bias")
        entries += cross_modal(f"specific_{m}", f"encoder_s_{i}", n_layers)
        entries += cross_modal(f"shared_{m}", f"self_attentions_c_{i}", n_layers)
        most = n_layers if m == "text" else max(n_layers, 3)
        entries += cross_modal(f"{m}_memory", f"trans_{i}_mem", most)
        if m != "text":
            entries += cross_modal(f"text_from_{m}", f"trans_l_with_{i}", n_layers)
        entries += _head(f"head_{m}", f"_{i}", "_high") + linear(f"gate_{m}", f"projector_{i}")
    return entries + (_unread(n_layers) if model.compat else [])


def _unread(n_layers: int) -> list[Entry]:
    entries = []
    for m, other in UNREAD:
        peer = f"trans_{_INITIALS[m]}_with_{_INITIALS[other]}"
        entries += cross_modal(f"{m}_from_{other}", peer, n_layers)
    for m, i in _INITIALS.items():
        entries += linear(f"cosine_{m}", f"proj_cosine_{i}")
        for ours, peer in (("low_1", "proj1"), ("low_2", "proj2"), ("low_output", "out_layer")):
            entries += linear(f"{ours}_{m}", f"{peer}_{i}_low")
    return entries


def _settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    d_model, heads = peer["dst_feature_dim_nheads"]
    kernels = {f"{m}_kernel": peer[f"conv1d_kernel_size_{i}"] for m, i in _INITIALS.items()}
    settings = {"d_model": d_model, "heads": heads, "n_layers": peer["nlevels"], **kernels}
    return settings | {"causal_mask": peer["attn_mask"], "piece": peer["ort_chunk"]}


DLF = PeerModel(_entries, _settings, (*_UNREAD, "*.position_ids", "*.version", "*._float_tensor"))
