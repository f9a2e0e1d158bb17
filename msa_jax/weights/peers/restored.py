"""The public TFR-Net, which reconstructs what its clips have lost: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError
from msa_jax.weights.layers import Entry, PeerModel, batch_norm, linear, recurrent
from msa_jax.weights.peers.encoder import trained_encoder
from msa_jax.weights.peers.transformers import cross_modal

_INITIALS = {"text": "l", "audio": "a", "vision": "v"}
#: What the public code calls the parts that are read here.
_PARTS = {
    "alignmentModule": "crossmodal_attn",
    "generatorModule": "linear",
    "fusionModule": "c_gate",
    "recloss_type": "combine",
    "without_generator": False,
    "attn_mask": True,
}


def _entries(model: Config) -> list[Entry]:
    entries = []
    entries += trained_encoder(model, "text_model.model")
    aligned, fused = "align_subnet.Model", "fusion_subnet.Model"
    most = max(model.n_layers, 3)
    for m, initial in _INITIALS.items():
        entries += linear(f"{m}/conv", f"{aligned}.proj_{initial}", bias=False)
        for other, with_initial in _INITIALS.items():
            if other != m:
                peer = f"{aligned}.trans_{initial}_with_{with_initial}"
                entries += cross_modal(f"{m}_from_{other}", peer, model.n_layers)
        entries += cross_modal(f"{m}_memory", f"{aligned}.trans_{initial}_mem", most)
        entries += cross_modal(f"{m}_restoring", f"{aligned}.trans_{initial}_final", most)
        entries += linear(f"restore_{m}", f"generator_{m[0]}.Model.linear")
        for layer in range(model.gru_layers):
            ours = f"reader_{m}/gru_{layer}"
            entries += recurrent(ours, f"{fused}.{m}_encoder.gru.gru", layer, bidirectional=True)
        entries += linear(f"reader_{m}/gate", f"{fused}.{m}_encoder.cnn")
        entries += linear(f"reader_{m}/linear", f"{fused}.{m}_encoder.fc")
    head = f"{fused}.classifier.linear_trans"
    entries += batch_norm("norm", f"{head}_norm")
    return entries + linear("hidden", f"{head}_hidden") + linear("output", f"{head}_final")


def _settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    for key, read in _PARTS.items():
        if peer[key] != read:
            raise DataError(
                f"this TFR-Net has {key}={peer[key]}; only {key}={read} is read here, as published."
            )
    d_model, heads = peer["dst_feature_dim_nheads"]
    settings = {
        "d_model": d_model,
        "heads": heads,
        "frame_heads": peer["num_temporal_head"],
        "n_layers": peer["nlevels"],
        "gru_layers": peer["fusion_gru_layers"],
        "head_hidden": peer["cls_hidden_dim"],
        "text_attention_dropout": peer["attn_dropout"],
        "audio_attention_dropout": peer["attn_dropout_a"],
        "vision_attention_dropout": peer["attn_dropout_v"],
        "relu_dropout": peer["relu_dropout"],
        "residual_dropout": peer["res_dropout"],
        "embed_dropout": peer["embed_dropout"],
        "text_dropout": peer["text_dropout"],
        "fusion_dropout": peer["fusion_drop"],
        "head_dropout": peer["cls_dropout"],
        "moment_weight": float(peer["weight_sim_loss"]),
    }
    for m, weight in zip(MODALITIES, peer["weight_gen_loss"], strict=True):
        settings[f"{m}_weight"] = float(weight)
        settings[f"{m}_hidden"] = peer[f"fusion_{m[0]}_hid"]
        settings[f"{m}_kernel"] = peer[f"conv1d_kernel_size_{_INITIALS[m]}"]
    return settings


#: BERT's pooler, which nothing reads, and what are no weights.
_ABSENT = (
    "text_model.model.pooler.*",
    "*.position_ids",
    "*.num_batches_tracked",
    "*.version",
    "*._float_tensor",
)

TFR_NET = PeerModel(_entries, _settings, _ABSENT)
