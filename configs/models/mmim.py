"""MMIM: settings of the MMSA toolkit, which are the same for all data sets."""

from configs.models.shared import TINY_ENCODER, peer_train, tuned


def get_config(dataset: str):
    """The model block."""
    model = tuned("mmim", dataset)
    model.audio_hidden = 16  # of the bidirectional LSTM, per direction
    model.vision_hidden = 16
    model.audio_out = 16  # of the layer after it
    model.vision_out = 16
    model.fusion_hidden = 128  # of both fusion layers
    model.dropout = 0.1  # before them
    model.contrast_weight = 0.1  # factor of the contrast (alpha)
    model.bound_weight = 0.1  # factor of the likelihood and the entropy (beta)
    # The pass before each epoch's own, which trains the networks of the likelihood.
    model.mi_learning_rate = 1e-3
    model.mi_weight_decay = 1e-4
    model.mi_clip_norm = 1.0  # global norm; 0: off
    model.mi_share = 0.5 if dataset == "mosei" else 1.0  # part of the epoch's batches
    return model


def train_settings(dataset: str) -> dict:
    """A rate of its own for the encoder; clipped by norm; the rate halves after 20 epochs on a plateau."""
    del dataset
    encoder = {"paths": "text_encoder/*", "learning_rate": 5e-5, "weight_decay": 1e-4}
    schedule = {"schedule": "plateau", "plateau_factor": 0.5, "plateau_patience": 20}
    return peer_train(32, 1e-3, 1e-4, clip_norm=1.0, groups={"encoder": encoder}, **schedule)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "audio_out": 8,
    "vision_out": 8,
    "fusion_hidden": 8,
}
