"""The public ALMT, the authors' own class and that of the MMSA toolkit, and the public LNLN built on it."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.errors import DataError
from msa_jax.weights.layers import Entry, PeerModel, linear, norm, raw
from msa_jax.weights.peers.encoder import bert
from msa_jax.weights.peers.transformers import first_row, pre_norm

_INITIALS = {"text": "l", "audio": "a", "vision": "v"}
#: Of a hyper-modality layer, in the order of the peer's numbers.
_NORMS = ("text", "audio", "vision", "hyper")
#: The width of a head that the public classes fix, but for the hyper-modality's.
_HEAD_WIDTH = 64


#: What the two classes call the parts behind the tokens: the text's layers, the hyper-modality's, the cross
#: transformer, the last layer.
_ALMT_PARTS = ("l_encoder", "h_hyper_layer", "fusion_layer", "regression_layer.0")
_LNLN_PARTS = ("dmml.0", "dmml.1", "dmml.2", "dmml.3")


def _shared(model: Config, parts: tuple[str, str, str, str]) -> list[Entry]:
    text, hyper, cross, output = parts
    entries = raw("hyper", "h_hyper", first_row)
    if model.text_encoder == "finetune":
        entries += bert("text_encoder/bert", "bertmodel.model", model.encoder.n_layers)
    for i, (m, initial) in enumerate(_INITIALS.items()):
        entries += linear(f"{m}_input/dense", f"proj_{initial}.0")
        entries += _gathering(m, f"proj_{initial}.1", model.embed_layers[i])
    entries += raw("text_positions", f"{text}.pos_embedding", first_row)
    for i in range(model.hyper_layers - 1):
        entries += pre_norm(f"text_layer_{i}", f"{text}.encoder", 1, first=i)
    for i in range(model.hyper_layers):
        entries += _hyper_layer(f"hyper_{i}", f"{hyper}.layers.{i}.0")
    for side in ("source", "target"):
        entries += raw(f"cross/{side}_positions", f"{cross}.pos_embedding_{side[0]}", first_row)
    entries += raw("cross/token", f"{cross}.extra_token", first_row)
    entries += pre_norm("cross/encoder", f"{cross}.CrossTransformerEncoder", model.fusion_layers)
    return entries + linear("output", output)


def _gathering(ours: str, peer: str, n_layers: int) -> list[Entry]:
    """A transformer over tokens and steps."""
    return [
        *raw(f"{ours}/positions", f"{peer}.pos_embedding", first_row),
        *raw(f"{ours}/tokens", f"{peer}.extra_token", first_row),
        *pre_norm(f"{ours}/encoder", f"{peer}.encoder", n_layers),
    ]


def _almt(model: Config) -> list[Entry]:
    return _shared(model, _ALMT_PARTS)


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


#: Nothing reads them.
_ABSENT = ("bertmodel.model.pooler.*", "bertmodel.model.embeddings.position_ids")

ALMT = PeerModel(
    _almt,
    _settings,
    absent=_ABSENT,
    renamed=(("embedding_", "proj_"), ("regression_head.", "regression_layer.0.")),
)


#: LNLN's generator of a proxy.
_PROXY = "proxy_dominate_modality_generator"


def _lnln(model: Config) -> list[Entry]:
    entries = _shared(model, _LNLN_PARTS) + raw("proxy_start", "h_p", first_row)
    entries += _gathering("proxy", _PROXY, model.proxy_layers)
    entries += _gathering("check", "completeness_check.0", model.completeness_layers)
    heads = {"complete": "completeness_check.1", "discriminator": "effective_discriminator"}
    for ours, peer in heads.items():
        entries += linear(f"{ours}/inner", f"{peer}.0") + linear(f"{ours}/outer", f"{peer}.2")
    for i, m in enumerate(("audio", "vision", "text")):
        peer = f"reconstructor.{i}"
        entries += raw(f"restore_{m}/positions", f"{peer}.pos_embedding", first_row)
        entries += pre_norm(f"restore_{m}/encoder", f"{peer}.encoder", model.restore_layers)
    return entries


def _lnln_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    sizes, base = peer["model"], peer["base"]
    read, learned = sizes["feature_extractor"], sizes["dmml"]
    generator = sizes["dmc"]["proxy_dominant_feature_generator"]
    check, restore = sizes["dmc"]["completeness_check"], sizes["reconstructor"]
    language, hyper = learned["language_encoder"], learned["hyper_modality_learning"]
    fusion = learned["fuison_transformer"]  # spelt so
    width = language["input_dim"]
    if {generator["heads"], check["heads"], restore["heads"]} != {generator["heads"]}:
        raise DataError(
            "this LNLN has different numbers of heads in its generator, completeness check and "
            "reconstructors; only one for all three is read here, as published."
        )
    text, vision, audio = read["input_length"]
    return {
        "d_model": width,
        "tokens": read["token_length"][0],
        "positions": (text, audio, vision),
        "head_width": _HEAD_WIDTH,
        "embed_layers": (read["depth"],) * 3,
        "embed_heads": (read["heads"],) * 3,
        "embed_hidden": read["hidden_dims"][0],
        "text_heads": language["heads"],
        "text_hidden": language["hidden_dim"],
        "hyper_layers": hyper["depth"],
        "hyper_heads": hyper["heads"],
        "hyper_head_width": width // hyper["heads"],
        "fusion_layers": fusion["depth"],
        "fusion_heads": fusion["heads"],
        "fusion_hidden": fusion["hidden_dim"],
        "heads": generator["heads"],
        "completeness_layers": check["depth"],
        "completeness_hidden": check["hidden_dim"],
        "proxy_layers": generator["depth"],
        "proxy_hidden": generator["hidden_dim"],
        "restore_layers": restore["depth"],
        "restore_hidden": restore["hidden_dim"],
        "discriminator_hidden": sizes["dmc"]["effectiveness_discriminator"]["hidden_dim"],
        "completeness_weight": base["alpha"],
        "adversarial_weight": base["beta"],
        "restore_weight": base["gamma"],
        "task_weight": base["sigma"],
    }


LNLN = PeerModel(_lnln, _lnln_settings, _ABSENT)
