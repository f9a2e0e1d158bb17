"""Self-MM: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import TINY_ENCODER, encoder_groups, peer_train, tuned


def get_config(dataset: str):
    """The model block."""
    mosi, mosei = dataset == "mosi", dataset == "mosei"
    model = tuned("self_mm", dataset)
    model.audio_hidden = 16  # of the LSTM
    model.vision_hidden = 32 if mosi or mosei else 64
    model.audio_out = 16  # of the layer after it
    model.vision_out = 32
    model.audio_dropout = 0.0
    model.vision_dropout = 0.0
    # The heads: width of the feature, by which labels are made, and rate of dropout before it.
    model.post_fusion_dim = 128
    model.post_text_dim = 32 if mosi or mosei else 64
    model.post_audio_dim = 16
    model.post_vision_dim = 32
    model.post_fusion_dropout = 0.1 if mosei else 0.0
    model.post_text_dropout = 0.0 if mosei else 0.1
    model.post_audio_dropout = 0.0 if mosei else 0.1
    model.post_vision_dropout = 0.0
    model.label_bound = 3.0 if mosi or mosei else 1.0  # H: made labels lie within +-H
    model.exclude_zero = True  # clips of label 0 belong to neither centre; else to the positive one
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, 4 batches per update, and rate and decay of the encoder, audio, vision and the rest."""
    batch_size = 16 if dataset == "mosi" else 32
    decay = {"mosi": 1e-3, "mosei": 0.0}.get(dataset, 1e-2)
    vision_rate = 1e-4 if dataset == "mosei" else 5e-3
    groups = encoder_groups(5e-5, 1e-3) | {
        "audio": {"paths": "audio/*", "learning_rate": 5e-3, "weight_decay": decay},
        "vision": {"paths": "vision/*", "learning_rate": vision_rate, "weight_decay": decay},
    }
    rest = 1e-2 if dataset == "mosei" else 1e-3
    return peer_train(batch_size, 1e-3, rest, accumulate=4, groups=groups)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "audio_out": 4,
    "vision_out": 4,
    "post_fusion_dim": 8,
    "post_text_dim": 6,
    "post_audio_dim": 6,
    "post_vision_dim": 6,
}
