"""The public MulT and TMT: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.config import Config
from msa_jax.interop.layers import Entry, PeerModel, linear, norm, raw

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
