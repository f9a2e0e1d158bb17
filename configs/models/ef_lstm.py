"""EF-LSTM: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    model = baseline("ef_lstm")
    # width and layers of the LSTM, dropout between layers and before each Dense layer
    rows = {"mosi": (128, 4, 0.5), "mosei": (256, 2, 0.4)}
    model.hidden, model.n_layers, model.dropout = rows.get(dataset, (32, 3, 0.5))
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate and weight decay per data set."""
    rows = {"mosi": (32, 1e-3, 5e-3), "mosei": (128, 5e-3, 1e-4)}
    return peer_train(*rows.get(dataset, (128, 5e-4, 1e-3)))


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {"hidden": 8, "n_layers": 2}
