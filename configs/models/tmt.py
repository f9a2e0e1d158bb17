"""TMT: settings of the public code, which has one set of numbers for all data sets."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    del dataset
    model = baseline("tmt")
    model.n_classes = 3  # for task=classification
    model.d_model = 256
    model.heads = 8
    model.head_width = 64
    model.n_layers = 2  # of the transformer over tokens and steps
    model.hidden = 512  # inside its feed-forward networks
    model.cross_layers = 2  # of each cross transformer
    model.cross_hidden = 256
    model.cross_positions = 150  # learned positions on either side of it; 6 are in use
    model.head_hidden = 128
    model.frames = (20, 20, 20)  # steps read of text, audio, vision; later ones are cut off
    model.input_dropout = 0.5  # on the features
    model.embed_dropout = 0.1  # on tokens and steps with their positions
    model.dropout = 0.5  # in the feed-forward networks, and on what attention and they add
    model.task_weight = 10.0
    model.orthogonal_weight = 0.01
    model.mmd_weight = 1.0
    return model


def train_settings(dataset: str) -> dict:
    """200 epochs, 20 of them warm-up from 0, then a cosine to 0.

    The public script keeps the epoch of the best test score, so it says nothing on stopping; patience
    is our choice, ALMT's.
    """
    del dataset
    schedule = {"schedule": "cosine", "warmup_epochs": 20.0}
    return peer_train(64, 1e-4, epochs=200, patience=32, **schedule)


#: Audio and vision are averaged down to the text's steps; four padded lengths, as the cost grows with them.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    "d_model": 8,
    "heads": 2,
    "head_width": 4,
    "n_layers": 1,
    "hidden": 8,
    "cross_layers": 1,
    "cross_hidden": 8,
    "cross_positions": 6,
    "head_hidden": 8,
}
