"""Where each output of a golden file stands among our models' features, and in which layout."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from msa_jax.data.spec import MODALITIES

Take = Callable[[Mapping[str, Any]], Any]


def _feature(name: str) -> Take:
    return lambda features: features[name]


_FOUR = {
    "Feature_t": _feature("text"),
    "Feature_a": _feature("audio"),
    "Feature_v": _feature("vision"),
    "Feature_f": _feature("fusion"),
}

_INITIALS = {"l": "text", "a": "audio", "v": "vision"}


def _time_first(name: str) -> Take:
    return lambda features: features[name].swapaxes(0, 1)


def _time_last(name: str) -> Take:
    return lambda features: features[name].swapaxes(1, 2)


def _low_rank(features: Mapping[str, Any]) -> Any:
    """LMF's products; the peer drops the axis of a single output."""
    products = features["products"]
    return products[..., 0] if products.shape[-1] == 1 else products


def _text_state(n: int) -> Take:
    return lambda features: features["text_states"][:, n]


def _judged(features: Mapping[str, Any]) -> Any:
    """LNLN's logits per token: all dominant tokens of the batch, then those of the whole texts."""
    return jnp.concatenate([x.reshape(-1, 2) for x in jnp.split(features["judged"], 2, axis=1)])


def _joined(kind: str) -> Take:
    order = ("audio", "vision", "text")
    return lambda features: jnp.concatenate([features[f"{kind}_{m}"] for m in order], axis=1)


#: MulT's "l_with_a" and so on.
_CROSS_MODAL = {
    f"{i}_with_{j}": _time_first(f"{_INITIALS[i]}_from_{_INITIALS[j]}")
    for i in _INITIALS
    for j in _INITIALS
    if i != j
}

_PEER_INITIALS = {"t": "text", "a": "audio", "v": "vision"}
#: What the peer puts after the initial.
_MISA_AFTER = {"orig": "projected", "recon": "reconstructed"}

_PEER_NAMES = {"gmc_tokens": "global", "text": "text", "audio": "audio", "video": "vision"}
#: The longest clips of its file, to which the peer cuts what it reads.
_EMT_LONGEST = {"audio": 10, "vision": 8}


def _in_batch(name: str) -> Take:
    return lambda features: features[name][:, : _EMT_LONGEST.get(name.rsplit("_", 1)[1])]


#: Of EMT-DLFR's incomplete view. "_m" behind a name marks it where the complete one has the same.
_EMT_VIEW = {
    "bert": "states",
    "gmc_out": "global",
    **{f"{m}_utt": f"vector_{ours}" for m, ours in _PEER_NAMES.items()},
    **{f"z_{m}": f"projected_{ours}" for m, ours in _PEER_NAMES.items()},
    **{f"p_{m}": f"predicted_{ours}" for m, ours in _PEER_NAMES.items()},
}
_EMT_DLFR = {
    **{f"{name}_m": _feature(ours) for name, ours in _EMT_VIEW.items()},
    **{name: _feature(f"complete_{ours}") for name, ours in _EMT_VIEW.items()},
    **{f"{m}_recon": _in_batch(f"restored_{ours}") for m, ours in _PEER_NAMES.items()},
    **{f"local_{m}": _in_batch(f"complete_local_{ours}") for m, ours in _PEER_NAMES.items()},
    **{f"local_{m}_m": _in_batch(f"local_{ours}") for m, ours in _PEER_NAMES.items()},
    "text_for_recon": _feature("wanted_text"),
}

_DLF_SEQUENCES = {"origin_{}": "convolved", "s_{}": "specific", "c_{}": "shared", "recon_{}": "restored"}
_DLF_VECTORS = {"c_{}_sim": "whole", "c_{}_att": "shared_end", "h_{}": "end"}
_DLF = {
    "bert": _feature("states"),
    "fused": _feature("fusion"),
    "l_with_a": _time_first("text_from_audio"),
    "l_with_v": _time_first("text_from_vision"),
    **{f"s_{i}_r": _time_last(f"found_{m}") for i, m in _INITIALS.items()},
    **{k.format(i): _time_first(f"{v}_{m}") for i, m in _INITIALS.items() for k, v in _DLF_SEQUENCES.items()},
    **{k.format(i): _feature(f"{v}_{m}") for i, m in _INITIALS.items() for k, v in _DLF_VECTORS.items()},
}

#: model -> golden output -> how to read it from Outputs.features.
OUTPUTS: dict[str, dict[str, Take]] = {
    "ef_lstm": {"normed": _feature("normed")},
    "lf_dnn": _FOUR,
    "tfn": _FOUR | {"Feature_f": _feature("tensor")},
    "lmf": _FOUR | {"Feature_f": _low_rank},
    "mfn": {"L": _feature("fusion")},
    # ours [B, T, 19], the peer's time first
    "graph_mfn": {"Efficacies": lambda features: features["efficacies"].swapaxes(0, 1)},
    "mfm": {
        "mfn_last": _feature("joint"),
        "zy": _feature("z_y"),
        "fy": _feature("fusion"),
        **{f"{kind}{i}": _feature(f"{kind}_{m}") for i, m in _INITIALS.items() for kind in ("z", "f")},
        **{f"x_{i}_hat": _time_first(f"decoded_{m}") for i, m in _INITIALS.items()},
    },
    "mlf_dnn": _FOUR,
    "mtfn": _FOUR | {"Feature_f": _feature("tensor")},
    "mlmf": _FOUR | {"Feature_f": _low_rank},
    "mult": _FOUR | _CROSS_MODAL,
    "almt": {
        "bert": _feature("states"),
        "h_hyper": _feature("hyper"),
        "fusion": _feature("crossed"),
        **{f"h_{i}": _feature(f"encoded_{m}") for i, m in _INITIALS.items()},
        **{f"l_state_{n}": _text_state(n) for n in range(9)},
    },
    "lnln": {
        "bert_m": _feature("states"),
        "w": lambda features: features["complete"][:, None],
        "completeness": _feature("checked"),
        "proxy": _feature("proxy"),
        "h_d": _feature("dominant"),
        "h_hyper": _feature("hyper"),
        "fusion": _feature("crossed"),
        "effectiveness": _judged,
        "rec_feats": _joined("restored"),
        "complete_feats": _joined("wanted"),
        **{f"h_{i}": _feature(f"encoded_{m}") for i, m in _INITIALS.items()},
        **{f"l_state_{n}": _text_state(n) for n in range(9)},
    },
    "cenet": {"sequence": _feature("states")},
    "dlf": _DLF,
    "emt_dlfr": _EMT_DLFR,
    "tfr_net": {
        "bert_m": _feature("states"),
        "bert": _feature("wanted_text"),
        **{f"{m}_h": _feature(f"enhanced_{m}") for m in MODALITIES},
        **{f"{m}_h_g": _feature(f"attended_{m}") for m in MODALITIES},
        **{f"{m}_rec": _feature(f"restored_{m}") for m in MODALITIES},
        **{f"rep_{m}": _feature(f"vector_{m}") for m in MODALITIES},
    },
    "mag_bert": {
        "gate_v": _feature("gate_vision"),
        "gate_a": _feature("gate_audio"),
        "h_m": _feature("displacement"),
        "sequence": _feature("states"),
        "pooled": _feature("fusion"),
    },
    "mctn": {
        **{
            f"{kind}_{i}": _feature(f"{long}_{i}")
            for kind, long in (("join", "joint"), ("s", "summary"))
            for i in ("1", "back", "2")
        },
        **{
            f"{m}_1": _feature(f"translated_{ours}")
            for m, ours in (("video", "vision"), ("text", "text"), ("audio", "audio"))
        },
    },
    "misa": {
        "bert": _feature("states"),
        "transformer": _time_first("attended"),
        **{
            f"utt_{i}_{n}": _feature(f"{name}_{m}")
            for i, m in _PEER_INITIALS.items()
            for n, name in _MISA_AFTER.items()
        },
        **{
            f"utt_{name}_{i}": _feature(f"{name}_{m}")
            for i, m in _PEER_INITIALS.items()
            for name in ("private", "shared")
        },
    },
    "mmim": _FOUR,
    "self_mm": _FOUR | {"bert": _feature("states")},
    "tetfn": _FOUR
    | _CROSS_MODAL
    | {
        "bert": _feature("states"),
        "conv_a": _time_last("convolved_audio"),
        "conv_v": _time_last("convolved_vision"),
        "lower_v_text": _time_first("vision_from_text_for_audio"),
    },
    "tmt": {
        "project_layer": _feature("encoded"),
        "x_invariant": _feature("invariant"),
        "fusion_1": _feature("crossed_specific"),
        "fusion_2": _feature("crossed_invariant"),
        **{f"x_specific_{m[0]}": _feature(f"specific_{m}") for m in ("text", "audio", "vision")},
        **{f"proj_{m[0]}": _feature(f"projected_{m}") for m in ("text", "audio", "vision")},
    },
}

#: Values of a batch of one that are held against the file's whole array, whose row they are: DLF's is 0.0358
#: and what float32 leaves of larger numbers. The public class itself is 1.03e-5 of it away from float64, and
#: gives the same clip 1.28e-5 of it more in the batch of five.
ROWS = {"dlf": {"out1/V": "out/V"}}
#: model -> golden prediction -> ours, where the names differ.
PREDICTIONS: dict[str, dict[str, str]] = {
    "dlf": {"C": "M_shared", **{i.upper(): f"M_{m}" for i, m in _INITIALS.items()}}
}

#: model -> golden part of the loss -> ours, where the names differ.
PARTS: dict[str, dict[str, str]] = {
    "dlf": {
        "task_all": "M",
        "task_c": "M_shared",
        "sim": "ranking",
        **{
            f"{name}_{i}": f"{ours}_{m}"
            for i, m in _INITIALS.items()
            for name, ours in (("task", "M"), ("recon", "restore"), ("s", "find"), ("ort", "overlap"))
        },
    },
    "emt_dlfr": {
        "pred_m": "M",
        "pred": "M_complete",
        **{f"attra_{m}": f"attract_{ours}" for m, ours in _PEER_NAMES.items()},
        **{f"recon_{m}": f"restore_{ours}" for m, ours in _PEER_NAMES.items()},
    },
    "lnln": {"sp": "M", "cc": "complete", "adv": "adversarial", "rec": "restore"},
    "tfr_net": {"task": "M", "gen": "restore", **{f"gen_{m[0]}": f"restore_{m}" for m in MODALITIES}},
}
