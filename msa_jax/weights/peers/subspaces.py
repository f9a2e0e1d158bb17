"""The public MISA and MMIM: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, linear, norm, packed_attention, recurrent
from msa_jax.weights.peers.encoder import trained_encoder

#: Of the encoder, what nothing reads.
_UNREAD = ("bertmodel.model.pooler.*", "bertmodel.model.embeddings.position_ids")


def _misa(model: Config) -> list[Entry]:
    entries = trained_encoder(model, "bertmodel.model")
    # Each private map is a layer of its own sequence, numbered as the authors happened to.
    for m, private in (("text", "t_1"), ("vision", "v_1"), ("audio", "a_3")):
        i = m[0]
        entries += linear(f"project_{m}", f"project_{i}.project_{i}")
        entries += norm(f"project_{m}_norm", f"project_{i}.project_{i}_layer_norm")
        entries += linear(f"private_{m}", f"private_{i}.private_{private}")
        entries += linear(f"reconstruct_{m}", f"recon_{i}.recon_{i}_1")
        if m != "text":
            entries += recurrent(f"{m}/first/lstm", f"{i}rnn1", bidirectional=True)
            entries += norm(f"{m}/norm", f"{i}layer_norm")
            entries += recurrent(f"{m}/second", f"{i}rnn2", bidirectional=True)
    entries += linear("shared", "shared.shared_1")
    layer = "transformer_encoder.layers.0"
    entries += packed_attention("transformer/attention", f"{layer}.self_attn")
    for ours, peer in (("inner", "linear1"), ("outer", "linear2")):
        entries += linear(f"transformer/ff/{ours}", f"{layer}.{peer}")
    for n in (1, 2):
        entries += norm(f"transformer/norm_{n}", f"{layer}.norm{n}")
    entries += linear("fusion_1", "fusion.fusion_layer_1") + linear("fusion_2", "fusion.fusion_layer_3")
    if model.compat:
        entries += linear("discriminator", "sp_discriminator.sp_discriminator_layer_1")
        entries += norm("text_norm", "tlayer_norm")
    return entries


def _misa_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden": peer["hidden_size"],
        "dropout": peer["dropout"],
        "diff_weight": peer["diff_weight"],
        "sim_weight": peer["sim_weight"],
        "recon_weight": peer["recon_weight"],
    }


def _mmim(model: Config) -> list[Entry]:
    entries = trained_encoder(model, "bertmodel.model")
    for m, peer in (("audio", "acoustic_enc"), ("vision", "visual_enc")):
        entries += recurrent(f"{m}/lstm", f"{peer}.rnn", bidirectional=True)
        entries += linear(f"{m}/linear", f"{peer}.linear_1")
        place = f"mi_t{m[0]}"
        for ours, theirs in (("mean", "mlp_mu"), ("log_variance", "mlp_logvar")):
            for n in (1, 2):
                entries += linear(f"mi_{m}/{ours}_{n}", f"{place}.{theirs}.{2 * n - 2}")
        entries += linear(f"mi_{m}/entropy", f"{place}.entropy_prj.0")
    for n in (1, 2, 3):
        entries += linear(f"fusion_{n}", f"fusion_prj.linear_{n}")
    return entries + [
        e for m in ("text", "audio", "vision") for e in linear(f"predict_{m}", f"cpc_z{m[0]}.net")
    ]


def _mmim_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "audio_hidden": peer["d_ah"],
        "vision_hidden": peer["d_vh"],
        "audio_out": peer["d_aout"],
        "vision_out": peer["d_vout"],
        "fusion_hidden": peer["d_prjh"],
        "dropout": peer["dropout_prj"],
        "contrast_weight": peer["alpha"],
        "bound_weight": peer["beta"],
    }


MISA = PeerModel(_misa, _misa_settings, absent=(*_UNREAD, "sp_discriminator.*", "tlayer_norm.*"))
MMIM = PeerModel(_mmim, _mmim_settings, absent=_UNREAD)
