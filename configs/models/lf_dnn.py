"""LF-DNN: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    model = baseline("lf_dnn")
    model.text_hidden = 128  # of the LSTM
    model.audio_hidden = 16 if dataset == "mosi" else 32
    model.vision_hidden = 128
    model.text_out = 128 if dataset == "mosei" else 256
    model.post_fusion_dim = 128 if dataset in ("mosi", "mosei") else 32
    rate, post = (0.2, 0.2) if dataset in ("mosi", "mosei") else (0.3, 0.5)
    model.audio_dropout = rate
    model.vision_dropout = rate
    model.post_dropout = post
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate and weight decay per data set."""
    rows = {"mosi": (128, 1e-3, 0.01), "mosei": (64, 2e-3, 0.001)}
    return peer_train(*rows.get(dataset, (128, 5e-3, 0.005)))


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 6, "post_fusion_dim": 8}
