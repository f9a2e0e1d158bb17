"""Graph-MFN: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train

#: Widths and dropout rates per data set; the keys are explained in get_config.
_WIDTHS = {
    "mosi": ((256, 32, 256), 300, 64, (32, 128, 64, 256)),
    "mosei": ((64, 16, 64), 300, 128, (32, 64, 256, 128)),
    "sims": ((256, 32, 256), 64, 128, (256, 32, 32, 256)),
}
_RATES = {
    "mosi": (0.0, 0.5, 0.5, 0.0),
    "mosei": (0.5, 0.0, 0.7, 0.7),
    "sims": (0.5, 0.2, 0.7, 0.2),
}


def get_config(dataset: str):
    """The model block."""
    model = baseline("graph_mfn")
    (text, audio, vision), memory, node, hidden = _WIDTHS.get(dataset, _WIDTHS["sims"])
    rates = _RATES.get(dataset, _RATES["sims"])
    model.text_hidden = text  # of the LSTMs
    model.audio_hidden = audio
    model.vision_hidden = vision
    model.memory = memory  # width of the memory
    model.node = node  # width of the graph's inner nodes and of its summary (inner_node_dim there)
    model.graph_hidden = 100  # hidden width of the graph's networks; the same for all data sets
    model.proposal_hidden = hidden[0]  # hidden widths: what may be written to the memory (NNConfig),
    model.retain_hidden = hidden[1]  # the gate on what is remembered (gamma1Config),
    model.update_hidden = hidden[2]  # the gate on what is written (gamma2Config),
    model.out_hidden = hidden[3]  # the head
    model.proposal_dropout = rates[0]  # dropout on each of the four, a new mask per step
    model.retain_dropout = rates[1]
    model.update_dropout = rates[2]
    model.out_dropout = rates[3]
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate and weight decay per data set."""
    rows = {"mosi": (32, 2e-3, 5e-3), "mosei": (64, 2e-3, 1e-3)}
    return peer_train(*rows.get(dataset, (64, 5e-4, 1e-3)))


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    **{"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "memory": 6, "node": 5, "graph_hidden": 6},
    **{"proposal_hidden": 8, "retain_hidden": 8, "update_hidden": 8, "out_hidden": 8},
}
