"""MLF-DNN: settings of the MMSA toolkit (tuned there on CH-SIMS)."""

from configs.models.shared import baseline, peer_train, task_weights, unimodal_decay


def get_config(dataset: str):
    """The model block, the same for every data set."""
    del dataset
    model = baseline("mlf_dnn")
    model.text_hidden = 64  # of the LSTM
    model.audio_hidden = 32
    model.vision_hidden = 64
    model.text_out = 32
    model.post_fusion_dim = 32
    model.post_text_dim = 16
    model.post_audio_dim = 4
    model.post_vision_dim = 32
    model.audio_dropout = 0.3
    model.vision_dropout = 0.3
    model.post_dropout = 0.5
    model.post_text_dropout = 0.5
    model.post_audio_dropout = 0.5
    model.post_vision_dropout = 0.5
    model.weights = task_weights(0.6, 0.2, 0.8, 0.8)
    return model


def train_settings(dataset: str) -> dict:
    """Weight decay differs between the unimodal networks; the rest has none."""
    del dataset
    decay = unimodal_decay(text=1e-4, audio=1e-3, vision=1e-4)
    return peer_train(32, 2e-3) | {"groups": decay}


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 6, "post_fusion_dim": 8}
