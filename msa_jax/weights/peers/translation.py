"""The public MCTN: names and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.configuration import Config
from msa_jax.models.mctn import CELLS
from msa_jax.weights.layers import Entry, PeerModel, linear, raw, recurrent


def _mctn(model: Config) -> list[Entry]:
    entries = recurrent("lstm", "regression.rnn") + linear("pool_text/score", "regression.linear")
    entries += linear("output", "regression.linear2")
    for n in (1, 2):
        entries += recurrent(f"encoder_{n}/lstm", f"encoder{n}.rnn", bidirectional=True)
        entries += linear(f"encoder_{n}/summary", f"encoder{n}.fc", bias=False)
        entries += _decoder(f"decoder_{n}", f"decoder{n}", model.hidden)
    return entries


def _decoder(ours: str, peer: str, hidden: int) -> list[Entry]:
    """Its matrices read two things side by side, the last of them ``hidden`` wide; we keep them apart."""

    def first(x: np.ndarray) -> np.ndarray:
        return x.transpose()[:-hidden]

    def last(x: np.ndarray) -> np.ndarray:
        return x.transpose()[-hidden:]

    entries = linear(f"{ours}/output", f"{peer}.fc_out")
    entries += raw(f"{ours}/steps/query/kernel", f"{peer}.attention.attn.weight", first)
    entries += raw(f"{ours}/key/kernel", f"{peer}.attention.attn.weight", last)
    entries += linear(f"{ours}/steps/score", f"{peer}.attention.v", bias=False)
    for cell, suffix in zip(CELLS, ("", "_reverse"), strict=True):
        rnn, steps = f"{peer}.rnn", f"{ours}/steps/{cell}"
        entries += raw(f"{ours}/{cell}_frame/kernel", f"{rnn}.weight_ih_l0{suffix}", first)
        entries += raw(f"{steps}_context/kernel", f"{rnn}.weight_ih_l0{suffix}", last)
        entries += raw(f"{steps}_context/bias", f"{rnn}.bias_ih_l0{suffix}")
        entries += raw(f"{steps}_cell/kernel", f"{rnn}.weight_hh_l0{suffix}", np.transpose)
        entries += raw(f"{steps}_cell/bias", f"{rnn}.bias_hh_l0{suffix}")
    return entries


def _mctn_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {"hidden": peer["hid_dim"], "max_steps": peer["max_seq_len"]}


#: The class's state dict has shared modules under several names.
_SHARED = (
    *((f"attn{n}.", f"decoder{n}.attention.") for n in (1, 2)),
    *((f"seq2seq{n}.{part}.", f"{part}{n}.") for n in (1, 2) for part in ("encoder", "decoder")),
)
MCTN = PeerModel(_mctn, _mctn_settings, renamed=_SHARED)
