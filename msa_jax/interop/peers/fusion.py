"""The public LF-DNN and its relatives: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.config import Config
from msa_jax.interop.layers import Entry, PeerModel, batch_norm, linear, recurrent


def _clip_subnets() -> list[Entry]:
    """The audio and vision MLPs and the text LSTM of LF-DNN, TFN and LMF."""
    entries = []
    for m, peer in (("audio", "audio_subnet"), ("vision", "video_subnet")):
        place = f"unimodal/{m}/mlp"
        entries += batch_norm(f"{place}/norm", f"{peer}.norm")
        for layer in (1, 2, 3):
            entries += linear(f"{place}/linear_{layer}", f"{peer}.linear_{layer}")
    entries += recurrent("unimodal/text/lstm", "text_subnet.rnn")
    return entries + linear("unimodal/text/linear", "text_subnet.linear_1")


def _post(ours: str, peer: str) -> list[Entry]:
    return [e for n in (1, 2, 3) for e in linear(f"{ours}/linear_{n}", f"{peer}_layer_{n}")]


def _subnet_widths(peer: Mapping[str, Any]) -> dict[str, Any]:
    text, audio, vision = peer["hidden_dims"]
    return {"text_hidden": text, "audio_hidden": audio, "vision_hidden": vision}


def _lf_dnn(_model: Config) -> list[Entry]:
    return _clip_subnets() + _post("post_fusion", "post_fusion")


def _lf_dnn_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    audio, vision, _, post = peer["dropouts"]
    return _subnet_widths(peer) | {
        "text_out": peer["text_out"],
        "post_fusion_dim": peer["post_fusion_dim"],
        "audio_dropout": audio,
        "vision_dropout": vision,
        "post_dropout": post,
    }


LF_DNN = PeerModel(_lf_dnn, _lf_dnn_settings)
