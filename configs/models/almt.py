"""ALMT: settings of the public code, which differ between the data sets in one number."""

from configs.models.shared import TINY_ENCODER, peer_train, tuned


def get_config(dataset: str):
    """The model block."""
    model = tuned("almt", dataset)
    model.d_model = 128
    model.tokens = 8  # that gather a modality, and of the hyper-modality
    # Steps of text, audio, vision with a learned position; 0: as many as the data's clips have.
    model.positions = (0, 0, 0)
    model.head_width = 64  # of every attention but the hyper-modality's
    model.embed_layers = (1, 1, 1)  # over tokens and steps of text, audio, vision
    model.embed_heads = (8, 8, 8)
    model.embed_hidden = 128  # inside their feed-forward networks
    model.text_heads = 8  # of the layers that the text's tokens pass further
    model.text_hidden = 128
    model.hyper_layers = 3  # one per text state, so there are hyper_layers - 1 such layers
    model.hyper_heads = 8
    model.hyper_head_width = 16
    model.hyper_dropout = 0.0  # on the shift; nothing else but the text encoder has dropout
    model.fusion_layers = 2 if dataset == "mosi" else 4
    model.fusion_heads = 8
    model.fusion_hidden = 128
    return model


def train_settings(dataset: str) -> dict:
    """AdamW with one rate for all, 200 epochs, 20 of them warm-up from 0, then a cosine to 0."""
    del dataset
    schedule = {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 20.0}
    return peer_train(64, 1e-4, 1e-4, epochs=200, patience=32, **schedule)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "d_model": 8,
    "tokens": 2,
    "head_width": 4,
    "embed_heads": (2, 2, 2),
    "embed_hidden": 8,
    "text_heads": 2,
    "text_hidden": 8,
    "hyper_heads": 2,
    "hyper_head_width": 4,
    "fusion_layers": 1,
    "fusion_heads": 2,
    "fusion_hidden": 8,
}
