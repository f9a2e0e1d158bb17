"""The public MulT and TMT: names and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, linear, norm, raw

_INITIALS = {"text": "l", "audio": "a", "vision": "v"}


def cross_modal(ours: str, peer: str, n_layers: int) -> list[Entry]:
    """A cross-modal stack, MulT's TransformerEncoder."""
    entries = norm(f"{ours}/norm", f"{peer}.layer_norm")
    for layer in range(n_layers):
        place, there = f"{ours}/layer_{layer}", f"{peer}.layers.{layer}"
        for part in ("weight", "bias"):
            name = f"{place}/attention/in_proj_{'kernel' if part == 'weight' else part}"
            entries += raw(name, f"{there}.self_attn.in_proj_{part}", lambda x: x.transpose())
        entries += linear(f"{place}/attention/output", f"{there}.self_attn.out_proj")
        entries += linear(f"{place}/inner", f"{there}.fc1") + linear(f"{place}/outer", f"{there}.fc2")
        for i in (0, 1):
            entries += norm(f"{place}/norm_{i + 1}", f"{there}.layer_norms.{i}")
    return entries


def _mult(model: Config) -> list[Entry]:
    entries = []
    for m, initial in _INITIALS.items():
        entries += linear(f"{m}/conv", f"proj_{initial}", bias=False)
        for other, with_initial in _INITIALS.items():
            if other != m:
                peer = f"trans_{initial}_with_{with_initial}"
                entries += cross_modal(f"{m}_from_{other}", peer, model.n_layers)
        entries += cross_modal(f"{m}_memory", f"trans_{initial}_mem", max(model.n_layers, 3))
    for ours, peer in (("linear_1", "proj1"), ("linear_2", "proj2"), ("output", "out_layer")):
        entries += linear(ours, peer)
    return entries


def _mult_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    d_model, heads = peer["dst_feature_dim_nheads"]
    return {
        "d_model": d_model,
        "heads": heads,
        "n_layers": peer["nlevels"],
        "causal_mask": peer["attn_mask"],
        "text_kernel": peer["conv1d_kernel_size_l"],
        "audio_kernel": peer["conv1d_kernel_size_a"],
        "vision_kernel": peer["conv1d_kernel_size_v"],
        "text_attention_dropout": peer["attn_dropout"],
        "audio_attention_dropout": peer["attn_dropout_a"],
        "vision_attention_dropout": peer["attn_dropout_v"],
        "relu_dropout": peer["relu_dropout"],
        "residual_dropout": peer["res_dropout"],
        "embed_dropout": peer["embed_dropout"],
        "output_dropout": peer["output_dropout"],
        "text_dropout": peer["text_dropout"],
    }


MULT = PeerModel(_mult, _mult_settings, absent=("*.version", "*._float_tensor"))


def pre_norm(ours: str, peer: str, n_layers: int, first: int = 0) -> list[Entry]:
    """A pre-norm stack of TMT and ALMT: the peer's layers from ``first`` on are ours from 0 on."""
    entries = []
    for layer in range(n_layers):
        attention, there = f"{ours}/attention_{layer}", f"{peer}.layers.{first + layer}.0"
        for name in ("query", "key", "value"):
            entries += norm(f"{attention}/norm_{name}", f"{there}.norm_{name[0]}")
            entries += linear(f"{attention}/{name}", f"{there}.fn.to_{name[0]}", bias=False)
        entries += linear(f"{attention}/output", f"{there}.fn.to_out.0")
        ff, there = f"{ours}/ff_{layer}", f"{peer}.layers.{first + layer}.1"
        entries += norm(f"{ff}/norm", f"{there}.norm")
        entries += linear(f"{ff}/inner", f"{there}.fn.net.0") + linear(f"{ff}/outer", f"{there}.fn.net.3")
    return entries


def first_row(x: np.ndarray) -> np.ndarray:
    """The peer's tables have a leading axis of 1."""
    return x[0]


def _tmt(model: Config) -> list[Entry]:
    entries = raw("tokens", "project_layer.cls_token", first_row)
    entries += raw("positions", "project_layer.pos_embedding", first_row)
    entries += pre_norm("encoder", "project_layer.encoder", model.n_layers)
    for m, initial in _INITIALS.items():
        entries += linear(f"{m}/dense", f"proj_{initial}")
    for ours, peer in (("cross_specific", "fusion_layer_1"), ("cross_invariant", "fusion_layer_2")):
        for side in ("source", "target"):
            entries += raw(f"{ours}/{side}_positions", f"{peer}.pos_embedding_{side[0]}", first_row)
        entries += pre_norm(f"{ours}/encoder", f"{peer}.CrossTransformerEncoder", model.cross_layers)
    return entries + linear("linear", "cls_head.0") + linear("output", "cls_head.1")


def _tmt_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    outputs = peer["num_outputs"]
    return {
        "task": "regression" if outputs == 1 else "classification",
        "classes": outputs if outputs > 1 else 0,
        "d_model": peer["dim"],
        "heads": peer["heads"],
        "head_width": peer["dim_head"],
        "n_layers": peer["depth"],
        "hidden": peer["mlp_dim"],
        "cross_layers": peer["cross_depth"],
        "cross_hidden": peer["cross_mlp_dim"],
        "cross_positions": peer["cross_frames"],
        "head_hidden": peer["head_dim"],
        "frames": tuple(peer["seq_lens"]),  # text, audio, vision
        "task_weight": peer["delta"],
        "orthogonal_weight": peer["alpha"],
        "mmd_weight": peer["beta"],
    }


TMT = PeerModel(_tmt, _tmt_settings)
