"""MFN: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train

#: Widths and dropout rates per data set; the keys are explained in get_config.
_WIDTHS = {
    "mosi": ((256, 32, 256), 400, (32, 64, 256, 32, 128)),
    "mosei": ((128, 32, 128), 128, (128, 128, 256, 256, 128)),
    "sims": ((64, 16, 64), 64, (128, 128, 64, 64, 64)),
}
_RATES = {
    "mosi": (0.2, 0.0, 0.7, 0.5, 0.0),
    "mosei": (0.2, 0.5, 0.7, 0.0, 0.5),
    "sims": (0.2, 0.0, 0.2, 0.7, 0.7),
}


def get_config(dataset: str):
    """The model block."""
    model = baseline("mfn")
    (text, audio, vision), memory, hidden = _WIDTHS.get(dataset, _WIDTHS["sims"])
    rates = _RATES.get(dataset, _RATES["sims"])
    model.text_hidden = text  # of the LSTMs
    model.audio_hidden = audio
    model.vision_hidden = vision
    model.memory = memory  # width of the memory
    model.attention_hidden = hidden[0]  # hidden widths: attention over the cells (NN1Config there),
    model.proposal_hidden = hidden[1]  # what may be written to the memory (NN2Config),
    model.retain_hidden = hidden[2]  # the gate on what is remembered (gamma1Config),
    model.update_hidden = hidden[3]  # the gate on what is written (gamma2Config),
    model.out_hidden = hidden[4]  # the head
    model.attention_dropout = rates[0]  # dropout on each of the five, a new mask per step
    model.proposal_dropout = rates[1]
    model.retain_dropout = rates[2]
    model.update_dropout = rates[3]
    model.out_dropout = rates[4]
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate and weight decay per data set."""
    rows = {"mosi": (128, 2e-3), "mosei": (64, 5e-4, 1e-4)}
    return peer_train(*rows.get(dataset, (32, 1e-3)))


#: Audio and vision are averaged down to the text's steps; under compat to one vector per clip.
DATA = {"reduce": "mean_align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    **{"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "memory": 6, "attention_hidden": 5},
    **{"proposal_hidden": 8, "retain_hidden": 8, "update_hidden": 8, "out_hidden": 8},
}
