"""The public Self-MM and TETFN, which make labels for each modality: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.data.spec import MODALITIES
from msa_jax.models.tetfn import LAYERS
from msa_jax.weights.layers import Entry, PeerModel, linear, recurrent
from msa_jax.weights.peers.encoder import trained_encoder
from msa_jax.weights.peers.transformers import cross_modal

#: How the public classes name what they keep of audio and vision.
_NAMES = {"audio": "audio", "vision": "video"}
_INITIALS = {"text": "l", "audio": "a", "vision": "v"}
_ENCODER = "text_model.model"
#: BERT's pooler, which nothing reads, and buffers.
_ABSENT = (f"{_ENCODER}.pooler.*", "*.position_ids", "*.version", "*._float_tensor")


def _heads() -> list[Entry]:
    names = {"fusion": "fusion", "text": "text", **_NAMES}
    return [
        entry
        for ours, peer in names.items()
        for n in (1, 2, 3)
        for entry in linear(f"heads/{ours}/linear_{n}", f"post_{peer}_layer_{n}")
    ]


def _settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    settings = {"label_bound": float(peer["H"]), "exclude_zero": peer["excludeZero"]}
    for ours, theirs in {"fusion": "fusion", "text": "text", **_NAMES}.items():
        settings[f"post_{ours}_dim"] = peer[f"post_{theirs}_dim"]
        settings[f"post_{ours}_dropout"] = peer[f"post_{theirs}_dropout"]
    for m in _NAMES:
        settings[f"{m}_hidden"] = peer[f"{m[0]}_lstm_hidden_size"]
    return settings


def _self_mm(model: Config) -> list[Entry]:
    entries = trained_encoder(model, _ENCODER) + _heads()
    for ours, peer in _NAMES.items():
        entries += recurrent(f"{ours}/lstm", f"{peer}_model.rnn")
        entries += linear(f"{ours}/linear", f"{peer}_model.linear_1")
    return entries


def _self_mm_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {f"{ours}_out": peer[f"{theirs}_out"] for ours, theirs in _NAMES.items()}
    return _settings(peer) | sizes | {f"{m}_dropout": peer[f"{m[0]}_lstm_dropout"] for m in _NAMES}


def _tetfn(model: Config) -> list[Entry]:
    entries = trained_encoder(model, _ENCODER) + _heads() + linear("text_conv", "proj_l", bias=False)
    for ours, peer in _NAMES.items():
        entries += recurrent(f"{ours}/lstm", f"{peer}_model.rnn")
        entries += linear(f"{ours}/conv", f"{peer}_model.conv", bias=False)
    for m, initial in _INITIALS.items():
        entries += cross_modal(f"{m}_memory", f"trans_{initial}_mem", LAYERS)
        for other in MODALITIES:
            ours, peer = f"{m}_from_{other}", f"trans_{initial}_with_{_INITIALS[other]}"
            if other == m:
                continue
            if "text" in (m, other):
                entries += cross_modal(ours, peer, LAYERS)
            else:
                entries += cross_modal(f"{ours}_lower", f"{peer}.lower_mha", 1)
                entries += cross_modal(f"{ours}_upper", f"{peer}.upper_mha", LAYERS)
    return entries


def _tetfn_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return _settings(peer) | {
        "d_model": peer["dst_feature_dims"],
        "heads": peer["nheads"],
        "text_kernel": peer["conv1d_kernel_size_l"],
        "audio_kernel": peer["conv1d_kernel_size_a"],
        "vision_kernel": peer["conv1d_kernel_size_v"],
        "text_attention_dropout": peer["attn_dropout"],
        "audio_attention_dropout": peer["attn_dropout_a"],
        "vision_attention_dropout": peer["attn_dropout_v"],
        "relu_dropout": peer["relu_dropout"],
        "residual_dropout": peer["res_dropout"],
        "embed_dropout": peer["embed_dropout"],
    }


SELF_MM = PeerModel(_self_mm, _self_mm_settings, _ABSENT)
TETFN = PeerModel(_tetfn, _tetfn_settings, _ABSENT)
