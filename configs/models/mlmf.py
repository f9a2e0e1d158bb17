"""MLMF: settings of the MMSA toolkit (tuned there on CH-SIMS)."""

from configs.models.shared import baseline, peer_train, task_weights, unimodal_decay


def get_config(dataset: str):
    """The model block, the same for every data set."""
    del dataset
    model = baseline("mlmf")
    model.text_hidden = 256  # of the LSTM
    model.audio_hidden = 32
    model.vision_hidden = 256
    model.text_out = 128
    model.rank = 3
    model.post_text_dim = 8
    model.post_audio_dim = 4
    model.post_vision_dim = 32
    model.audio_dropout = 0.3
    model.vision_dropout = 0.3
    model.post_text_dropout = 0.4
    model.post_audio_dropout = 0.4
    model.post_vision_dropout = 0.4
    model.weights = task_weights(0.2, 1.0, 0.4, 0.8)
    return model


def train_settings(dataset: str) -> dict:
    """Weight decay per unimodal network and for the rest; a learning rate for the factors."""
    del dataset
    decay = unimodal_decay(text=1e-4, audio=0.0, vision=1e-4)
    factors = {"paths": "fusion/*_factor", "learning_rate": 1e-3}
    return peer_train(128, 1e-3, 5e-3) | {"groups": decay | {"factors": factors}}


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 4}
