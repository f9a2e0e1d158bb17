"""The public MAG-BERT, which changes the states inside a BERT: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, linear, norm
from msa_jax.weights.peers.encoder import bert


def _mag_bert(model: Config) -> list[Entry]:
    entries = linear("output", "model.classifier") + norm("gate/norm", "model.bert.MAG.LayerNorm")
    if model.text_encoder == "finetune":
        entries += bert("text_encoder/bert", "model.bert", model.encoder.n_layers, pooler=True)
    for m in ("audio", "vision"):
        entries += linear(f"gate/gate_{m}", f"model.bert.MAG.W_h{m[0]}")
        entries += linear(f"gate/{m}", f"model.bert.MAG.W_{m[0]}")
    return entries


def _mag_bert_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {"beta_shift": float(peer["beta_shift"]), "dropout": peer["dropout_prob"]}


MAG_BERT = PeerModel(_mag_bert, _mag_bert_settings, absent=("*.position_ids",))
