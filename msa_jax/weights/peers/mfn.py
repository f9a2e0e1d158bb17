"""The public MFN, Graph-MFN and MFM: names and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax.configuration import Config
from msa_jax.data.spec import MODALITIES
from msa_jax.models.graph_mfn import INNER_NODES, node_name
from msa_jax.models.mfm import LATENTS
from msa_jax.weights.layers import Entry, PeerModel, linear, lstm_cell, raw, recurrent

#: How the public classes abbreviate the modalities.
_LETTERS = {"text": "l", "audio": "a", "vision": "v"}


def _system() -> list[Entry]:
    entries = []
    for m, letter in _LETTERS.items():
        entries += lstm_cell(f"system/{m}_input", f"system/steps/{m}", f"lstm_{letter}")
    return entries


def _two_layers(ours: str, peer: str) -> list[Entry]:
    return [e for n in (1, 2) for e in linear(f"{ours}/linear_{n}", f"{peer}_fc{n}")]


def _gates(width: int) -> list[Entry]:
    """Both gates of the memory; their first matrix has ``width`` columns for what they see beside it."""

    def of_input(x: np.ndarray) -> np.ndarray:
        return x.transpose()[:width]

    def of_memory(x: np.ndarray) -> np.ndarray:
        return x.transpose()[width:]

    entries = []
    for gate, peer in (("retain", "gamma1"), ("update", "gamma2")):
        entries += raw(f"memory/{gate}_input/kernel", f"{peer}_fc1.weight", of_input)
        entries += raw(f"memory/{gate}_input/bias", f"{peer}_fc1.bias")
        entries += raw(f"memory/steps/{gate}_memory/kernel", f"{peer}_fc1.weight", of_memory)
        entries += linear(f"memory/steps/{gate}_linear_2", f"{peer}_fc2")
    return entries


def _memory_fusion(model: Config) -> list[Entry]:
    """MFN without its head."""
    window = 2 * (model.text_hidden + model.audio_hidden + model.vision_hidden)
    return _system() + _gates(window) + _two_layers("attention", "att1") + _two_layers("proposal", "att2")


def _mfn(model: Config) -> list[Entry]:
    return _memory_fusion(model) + _two_layers("out", "out")


def _mfm(model: Config) -> list[Entry]:
    entries = [e._replace(peer=f"mfn_encoder.{e.peer}") for e in _memory_fusion(model)]
    entries += linear("latent_y", "last_to_zy_fc1") + _two_layers("out", "fy_to_y")
    for m, letter in LATENTS.items():
        entries += _two_layers(f"factor_{m}", f"z{letter}_to_f{letter}")
    for m, letter in _LETTERS.items():
        # A cell of its own there, whose names do without a layer's number.
        lstm = recurrent(f"encoder_{m}/lstm", f"encoder_{letter}.lstm")
        entries += [e._replace(peer=e.peer.removesuffix("_l0")) for e in lstm]
        entries += linear(f"encoder_{m}/linear", f"encoder_{letter}.fc1")
        steps = f"decoder_{m}/steps"
        entries += lstm_cell(f"{steps}/input", f"{steps}/cell", f"decoder_{letter}.lstm")
        entries += linear(f"decoder_{m}/linear", f"decoder_{letter}.fc1")
    return entries


def _graph_mfn(model: Config) -> list[Entry]:
    entries = _system() + _gates(model.node) + _two_layers("proposal", "att2") + _two_layers("out", "out")
    for m, letter in _LETTERS.items():
        entries += linear(f"{m}_transform", f"{letter}_transform")
    networks = {"summary": "t_network", "efficacy": "efficacy_model"}
    for node in INNER_NODES:
        networks[node_name(node)] = "networks." + "_".join(str(MODALITIES.index(m)) for m in node)
    for ours, peer in networks.items():
        entries += linear(f"graph/{ours}/linear_1", f"graph_mfn.{peer}.0")
        entries += linear(f"graph/{ours}/linear_2", f"graph_mfn.{peer}.1.0")
    return entries + linear("graph/efficacy_linear_3", "graph_mfn.efficacy_model.2")


def _settings(nets: Mapping[str, str], peer: Mapping[str, Any]) -> dict[str, Any]:
    text, audio, vision = peer["hidden_dims"]
    settings = {"text_hidden": text, "audio_hidden": audio, "vision_hidden": vision}
    settings["memory"] = peer["memsize"]
    for ours, name in nets.items():
        settings |= {f"{ours}_hidden": peer[name]["shapes"], f"{ours}_dropout": peer[name]["drop"]}
    return settings


_GATES_AND_HEAD = {"retain": "gamma1Config", "update": "gamma2Config", "out": "outConfig"}


def _mfn_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    return _settings({"attention": "NN1Config", "proposal": "NN2Config", **_GATES_AND_HEAD}, peer)


def _graph_mfn_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    nets = {"proposal": "NNConfig", **_GATES_AND_HEAD}
    return _settings(nets, peer) | {"node": peer["inner_node_dim"]}


def _mfm_settings(peer: Mapping[str, Any]) -> dict[str, Any]:
    nets = {
        "attention": "NN1Config",
        "proposal": "NN2Config",
        "retain": "gamma1Config",
        "update": "gamma2Config",
    }
    settings = _settings(nets, peer)
    for m, letter in LATENTS.items():
        settings |= {f"z_{m}": peer[f"z{letter}_size"], f"f_{m}": peer[f"f{letter}_size"]}
        settings[f"f_{m}_dropout"] = peer[f"z{letter}_to_f{letter}_dropout"]
    for m, letter in _LETTERS.items():
        settings[f"{m}_weight"] = peer[f"lda_x{letter}"]
    head = {"out_hidden": peer["fy_size"], "out_dropout": peer["fy_to_y_dropout"]}
    return settings | head | {"mmd_weight": peer["lda_mmd"]}


MFN = PeerModel(_mfn, _mfn_settings)
#: Nothing there reads the head of its memory network.
MFM = PeerModel(_mfm, _mfm_settings, absent=("mfn_encoder.out_*",))
#: The networks of the inner nodes are not part of the public class's state dict.
GRAPH_MFN = PeerModel(_graph_mfn, _graph_mfn_settings, optional=("graph_mfn.networks.*",))
