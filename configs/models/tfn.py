"""TFN: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    model = baseline("tfn")
    model.text_hidden = 128  # of the LSTM
    model.audio_hidden = 16 if dataset == "mosei" else 32
    model.vision_hidden = 128
    # text_out and post_fusion_dim set the size of the tensor's layer
    rows = {"mosi": (32, 64), "mosei": (128, 16)}
    model.text_out, model.post_fusion_dim = rows.get(dataset, (256, 32))
    rate, post = (0.3, 0.5) if dataset == "mosi" else (0.4, 0.4)
    model.audio_dropout = rate
    model.vision_dropout = rate
    model.post_dropout = post  # on the tensor's elements
    return model


def train_settings(dataset: str) -> dict:
    """Batch size and learning rate per data set."""
    rows = {"mosi": (32, 1e-3), "mosei": (128, 5e-3)}
    return peer_train(*rows.get(dataset, (32, 5e-4)))


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 6, "post_fusion_dim": 8}
