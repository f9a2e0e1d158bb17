"""The public EMT-DLFR, whose modalities meet in global tokens: names and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.configuration import Config
from msa_jax.errors import DataError
from msa_jax.weights.layers import Entry, PeerModel, batch_norm, linear, norm, raw, recurrent
from msa_jax.weights.peers.encoder import trained_encoder

_NAMES = {"text": "text", "audio": "audio", "vision": "video"}
#: The one unit and pooling that all others are copies of.
_UNIT, _POOL = "fusion.mpus.0.0.0.layers.0", "fusion.attn_pools.0.attention"


def _half(place: int) -> Any:
    """Keys or values out of their one matrix, (out, in) to [in, out]."""
    return lambda x: np.split(x, 2)[place].transpose()


def _attention(ours: str, peer: str) -> list[Entry]:
    entries = linear(f"{ours}/query", f"{peer}.fn.to_q", bias=False)
    entries += raw(f"{ours}/key/kernel", f"{peer}.fn.to_kv.weight", _half(0))
    entries += raw(f"{ours}/value/kernel", f"{peer}.fn.to_kv.weight", _half(1))
    return entries + linear(f"{ours}/output", f"{peer}.fn.to_out")


def _unit() -> list[Entry]:
    entries = _attention("unit/cross", f"{_UNIT}.0") + _attention("unit/own", f"{_UNIT}.1")
    norms = {"cross": "0.norm", "source": "0.norm_context", "own": "1.norm", "ff": "2.norm"}
    entries += [e for ours, peer in norms.items() for e in norm(f"unit/{ours}_norm", f"{_UNIT}.{peer}")]
    entries += linear("unit/inner", f"{_UNIT}.2.fn.net.0") + linear("unit/outer", f"{_UNIT}.2.fn.net.2")
    return entries + linear("pool/inner", f"{_POOL}.0") + linear("pool/score", f"{_POOL}.2")


def _attraction(ours: str, peer: str) -> list[Entry]:
    projector, predictor = f"{peer}_projector.net", f"{peer}_predictor.net"
    statistics = [e for e in batch_norm(f"{ours}/projector_norm", f"{projector}.1") if "running" in e.peer]
    return [
        *linear(f"{ours}/projector", f"{projector}.0"),
        *statistics,
        *linear(f"{ours}/predictor_1", f"{predictor}.0", bias=False),
        *batch_norm(f"{ours}/predictor_norm", f"{predictor}.1"),
        *linear(f"{ours}/predictor_2", f"{predictor}.3"),
    ]


def _entries(model: Config) -> list[Entry]:
    entries = _unit() + _attraction("attraction_global", "gmc_tokens")
    entries += trained_encoder(model, "text_model.model")
    widths = {"text": model.encoder.width, "audio": model.audio_out, "vision": model.vision_out}
    for m, peer in _NAMES.items():
        if m != "text":
            entries += recurrent(f"{m}/lstm", f"{peer}_model.rnn")
            if model[f"{m}_hidden"] != model[f"{m}_out"]:
                entries += linear(f"{m}/linear", f"{peer}_model.linear_1")
        if widths[m] != model.d_model:
            entries += linear(f"equalise_{m}", f"proj_{peer}", bias=False)
        entries += _attraction(f"attraction_{m}", peer) + linear(f"restore_{m}", f"recon_{peer}")
    return entries + [e for n in (1, 2, 3) for e in linear(f"head/linear_{n}", f"post_fusion_layer_{n}")]


def _settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    shared = ("mpu_share", "modality_share", "layer_share")
    if not all(peer[key] for key in shared) or peer["learnable_pos_emb"] or peer["attn_act_fn"] != "tanh":
        raise DataError(
            "this EMT-DLFR has units of its own for directions, modalities or layers, learned positions or "
            f"another activation than tanh; only {', '.join(shared)} = true is read here, as published."
        )
    settings = {
        "d_model": peer["d_model"],
        "n_layers": peer["fusion_layers"],
        "heads": peer["heads"],
        "ff_expansion": peer["ff_expansion"],
        "post_fusion_dim": peer["post_fusion_dim"],
        "global_predictor": peer["gmc_tokens_pred_dim"],
        "attract_weight": float(peer["loss_attra_weight"]),
        "restore_weight": float(peer["loss_recon_weight"]),
    }
    for m, theirs in _NAMES.items():
        settings[f"{m}_predictor"] = peer[f"{theirs}_pred_dim"]
        if m != "text":
            settings[f"{m}_hidden"] = peer[f"{m[0]}_lstm_hidden_size"]
            settings[f"{m}_out"] = peer[f"{theirs}_out"]
    return settings


#: BERT's pooler, which nothing reads; the positions; and, under other names, the shared unit and pooling.
_ABSENT = (
    "text_model.model.pooler.*",
    "*.position_ids",
    "*.num_batches_tracked",
    "fusion.pos_embed.pe",
    "fusion.mpus.[1-9]*",
    "fusion.mpus.0.[12].*",
    "fusion.mpus.0.0.1.*",
    "fusion.attn_pools.[1-9]*",
)

EMT_DLFR = PeerModel(_entries, _settings, _ABSENT)
