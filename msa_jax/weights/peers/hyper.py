"""The public ALMT: the authors' own class, and that of the MMSA toolkit, the same under other names."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, linear, norm, raw
from msa_jax.weights.peers.encoder import trained_encoder
from msa_jax.weights.peers.transformers import first_row, pre_norm

_INITIALS = {"text": "l", "audio": "a", "vision": "v"}
#: Of a hyper-modality layer, in the order of the peer's numbers.
_NORMS = ("text", "audio", "vision", "hyper")
#: The width of a head that the public classes fix, but for the hyper-modality's.
_HEAD_WIDTH = 64


def _entries(model: Config) -> list[Entry]:
    entries = raw("hyper", "h_hyper", first_row)
    entries += trained_encoder(model, "bertmodel.model")
    for i, (m, initial) in enumerate(_INITIALS.items()):
        peer = f"proj_{initial}"
        entries += linear(f"{m}_input/dense", f"{peer}.0")
        entries += raw(f"{m}/positions", f"{peer}.1.pos_embedding", first_row)
        entries += raw(f"{m}/tokens", f"{peer}.1.extra_token", first_row)
        entries += pre_norm(f"{m}/encoder", f"{peer}.1.encoder", model.embed_layers[i])
    entries += raw("text_positions", "l_encoder.pos_embedding", first_row)
    for i in range(model.hyper_layers - 1):
        entries += pre_norm(f"text_layer_{i}", "l_encoder.encoder", 1, first=i)
    for i in range(model.hyper_layers):
        entries += _hyper_layer(f"hyper_{i}", f"h_hyper_layer.layers.{i}.0")
    for side in ("source", "target"):
        entries += raw(f"cross/{side}_positions", f"fusion_layer.pos_embedding_{side[0]}", first_row)
    entries += raw("cross/token", "fusion_layer.extra_token", first_row)
    entries += pre_norm("cross/encoder", "fusion_layer.CrossTransformerEncoder", model.fusion_layers)
    return entries + linear("output", "regression_layer.0")


def _hyper_layer(ours: str, peer: str) -> list[Entry]:
    entries = [e for i, name in enumerate(_NORMS, 1) for e in norm(f"{ours}/norm_{name}", f"{peer}.norm{i}")]
    entries += linear(f"{ours}/query", f"{peer}.fn.to_q", bias=False)
    for m in ("audio", "vision"):
        for name in ("key", "value"):
            entries += linear(f"{ours}/{name}_{m}", f"{peer}.fn.to_{name[0]}_t{m[0]}", bias=False)
    return entries + linear(f"{ours}/output", f"{peer}.fn.to_out.0")


def _official_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "d_model": peer["token_dim"],
        "tokens": peer["token_length"],
        "positions": tuple(peer[f"{initial}_input_length"] for initial in _INITIALS.values()),
        "head_width": _HEAD_WIDTH,
        "embed_layers": (peer["proj_depth"],) * 3,
        "embed_heads": (peer["proj_heads"],) * 3,
        "embed_hidden": peer["proj_mlp_dim"],
        "text_heads": peer["l_enc_heads"],
        "text_hidden": peer["l_enc_mlp_dim"],
        "hyper_layers": peer["AHL_depth"],
        "hyper_heads": peer["ahl_heads"],
        "hyper_head_width": peer["ahl_dim_head"],
        "hyper_dropout": peer["ahl_droup"],
        "fusion_layers": peer["fusion_layer_depth"],
        "fusion_heads": peer["fusion_heads"],
        "fusion_hidden": peer["fusion_mlp_dim"],
    }


def _mmsa_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    width, heads = peer["dst_feature_dims"], peer["h_hyper_layer_heads"]
    return {
        "d_model": width,
        "tokens": peer["dst_embedding_length"],
        "positions": tuple(peer["feature_length"]),
        "head_width": _HEAD_WIDTH,
        "embed_layers": tuple(peer["embedding_depth"]),
        "embed_heads": tuple(peer["embedding_heads"]),
        "embed_hidden": peer["dst_feature_hidden_dims"],
        "text_heads": peer["l_encoder_heads"],
        "text_hidden": width,
        "hyper_layers": peer["AHL_depth"],
        "hyper_heads": heads,
        "hyper_head_width": width // heads,
        "fusion_layers": peer["fusion_layer_depth"],
        "fusion_heads": peer["fusion_heads"],
        "fusion_hidden": peer["fusion_hidden_d"],
    }


def _settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return _mmsa_settings(peer) if "dst_feature_dims" in peer else _official_settings(peer)


ALMT = PeerModel(
    _entries,
    _settings,
    absent=("bertmodel.model.pooler.*", "bertmodel.model.embeddings.position_ids"),  # nothing reads them
    renamed=(("embedding_", "proj_"), ("regression_head.", "regression_layer.0.")),
)
