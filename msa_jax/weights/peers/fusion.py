"""The public EF-LSTM, LF-DNN and the latter's relatives: names and settings."""

from collections.abc import Mapping
from typing import Any

from msa_jax.configuration import Config
from msa_jax.weights.layers import Entry, PeerModel, batch_norm, linear, raw, recurrent


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


def _dropouts(peer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The rates for audio, vision, text (which a single LSTM layer ignores) and what follows."""
    audio, vision, _text, *rest = peer["dropouts"]
    return {"audio_dropout": audio, "vision_dropout": vision} | dict(zip(names, rest, strict=False))


def _heads() -> list[Entry]:
    return [
        e
        for m, peer in (("text", "text"), ("audio", "audio"), ("vision", "video"))
        for e in _post(f"heads/{m}", f"post_{peer}")
    ]


def _head_settings(peer: Mapping[str, Any], *after_fusion: str) -> dict[str, Any]:
    """Of the three heads, and of the layers after the fusion where the class has them ("post")."""
    rates = peer.get("post_dropouts", (0.0, 0.0, 0.0, 0.0))
    names = ("post_text", "post_audio", "post_vision", *after_fusion)
    widths = {
        f"post_{m}_dim": peer[f"post_{theirs}_dim"]
        for m, theirs in (("text", "text"), ("audio", "audio"), ("vision", "video"))
    }
    weights = {f"weights.{task}": float(peer[task]) for task in ("M", "T", "A", "V")}
    return widths | weights | {f"{n}_dropout": r for n, r in zip(names, rates, strict=False)}


def _factors() -> list[Entry]:
    peers = {"audio": "audio_factor", "vision": "video_factor", "text": "text_factor"}
    entries = [e for m, peer in peers.items() for e in raw(f"fusion/{m}_factor", peer)]
    return entries + raw("fusion/weights", "fusion_weights") + raw("fusion/bias", "fusion_bias")


def _with_post(_model: Config) -> list[Entry]:
    return _clip_subnets() + _post("post_fusion", "post_fusion")


def _with_post_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {"text_out": peer["text_out"], "post_fusion_dim": peer["post_fusion_dim"]}
    return _subnet_widths(peer) | sizes | _dropouts(peer, "post_dropout")


def _lmf_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {"text_out": peer["hidden_dims"][0] // 2, "rank": peer["rank"]}
    return _subnet_widths(peer) | sizes | _dropouts(peer)


_CONSTANTS = ("*.num_batches_tracked", "output_range", "output_shift")

EF_LSTM = PeerModel(
    lambda model: [
        *batch_norm("norm", "norm"),
        *(e for n in range(model.n_layers) for e in recurrent(f"lstm/layer_{n}", "lstm", layer=n)),
        *linear("linear", "linear"),
        *linear("out", "out"),
    ],
    lambda peer: {"hidden": peer["hidden_dims"], "n_layers": peer["num_layers"], "dropout": peer["dropout"]},
)
LF_DNN = PeerModel(_with_post, _with_post_settings)
TFN = PeerModel(_with_post, _with_post_settings, _CONSTANTS)
LMF = PeerModel(lambda _model: _clip_subnets() + _factors(), _lmf_settings)
MLF_DNN = PeerModel(
    lambda model: _with_post(model) + _heads(),
    lambda peer: _with_post_settings(peer) | _head_settings(peer, "post"),
)
MTFN = PeerModel(
    lambda model: _with_post(model) + _heads(),
    lambda peer: _with_post_settings(peer) | _head_settings(peer, "post"),
    _CONSTANTS,
)
MLMF = PeerModel(
    lambda _model: _clip_subnets() + _factors() + _heads(),
    lambda peer: _lmf_settings(peer) | _head_settings(peer),
)
