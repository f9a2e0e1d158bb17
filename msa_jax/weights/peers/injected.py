"""The public MAG-BERT and CENET, which change the states inside a BERT: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, linear, norm
from msa_jax.weights.peers.encoder import trained_encoder


def _mag_bert(model: Config) -> list[Entry]:
    entries = linear("output", "model.classifier") + norm("gate/norm", "model.bert.MAG.LayerNorm")
    entries += trained_encoder(model, "model.bert", pooler=True)
    for m in ("audio", "vision"):
        entries += linear(f"gate/gate_{m}", f"model.bert.MAG.W_h{m[0]}")
        entries += linear(f"gate/{m}", f"model.bert.MAG.W_{m[0]}")
    return entries


def _mag_bert_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {"beta_shift": float(peer["beta_shift"]), "dropout": peer["dropout_prob"]}


def _cenet(model: Config) -> list[Entry]:
    inside = "bert.encoder.CE"
    entries = linear("hidden", "classifier.dense") + linear("output", "classifier.out_proj")
    entries += trained_encoder(model, "bert")
    for m, theirs in (("audio", "acoustic"), ("vision", "visual")):
        for ours, place in (("inner", 0), ("outer", 2)):
            entries += linear(f"{m}/{ours}", f"{inside}.{theirs}_transform.{place}")
        for name in ("query", "key", "value"):
            entries += linear(f"enhancement/{m}/{name}", f"{inside}.h{m[0]}.W{name[0]}")
    return entries + linear("enhancement/shift", f"{inside}.cat_connect")


def _no_sizes(_peer: Mapping[str, Any]) -> dict[str, Any]:
    """All widths are the encoder's."""
    return {}


#: What the class of CENET has and nothing reads: BERT's pooler and three tables of embeddings.
_UNREAD = (
    "bert.pooler.*",
    *(f"bert.embeddings.{t}_embeddings.weight" for t in ("senti", "pos_tag", "polarity")),
)

MAG_BERT = PeerModel(_mag_bert, _mag_bert_settings, absent=("*.position_ids",))
CENET = PeerModel(_cenet, _no_sizes, absent=_UNREAD)
