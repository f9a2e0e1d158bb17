"""LMF: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    model = baseline("lmf")
    large = dataset in ("mosi", "mosei")
    model.text_hidden = 128 if large else 64  # of the LSTM
    model.audio_hidden = 16
    model.vision_hidden = 128 if large else 64
    model.text_out = model.text_hidden // 2
    model.rank = 3 if dataset == "mosi" else 4
    rate = 0.3 if dataset == "mosi" else 0.2
    model.audio_dropout = rate
    model.vision_dropout = rate
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate and weight decay per data set; the factors' own rate on CH-SIMS."""
    rows = {"mosi": (64, 1e-3, 5e-3), "mosei": (32, 1e-3, 1e-3)}
    train = peer_train(*rows.get(dataset, (64, 2e-3, 5e-3)))
    factor_rate = 1e-3 if dataset in rows else 5e-4
    return train | {"groups": {"factors": {"paths": "fusion/*_factor", "learning_rate": factor_rate}}}


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 4}
