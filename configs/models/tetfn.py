"""TETFN: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import TINY_ENCODER, encoder_groups, peer_train, tuned


def get_config(dataset: str):
    """The model block."""
    mosi, mosei = dataset == "mosi", dataset == "mosei"
    model = tuned("tetfn", dataset)
    model.d_model = 50  # d: of the cross-modal stacks; the memories have 2d
    model.heads = 5
    model.audio_hidden = 32 if mosei else 16  # of the LSTM
    model.vision_hidden = 32 if mosei else 64
    model.text_kernel = 1 if mosi or mosei else 3
    model.audio_kernel = 1 if mosi or mosei else 5
    model.vision_kernel = 3 if mosi else 1  # under compat the audio's is used
    # On attention weights, by the modality that is read; where that is by way of the text, and in the
    # memories, the first.
    model.text_attention_dropout = 0.1 if mosi or mosei else 0.0
    model.audio_attention_dropout = 0.0 if mosi or mosei else 0.1
    model.vision_attention_dropout = 0.1 if mosi or mosei else 0.0
    model.relu_dropout = 0.0 if mosi else 0.1
    model.residual_dropout = 0.1 if mosi else 0.0
    model.embed_dropout = 0.1 if mosei else 0.0
    # The heads: width of the feature, by which labels are made, and rate of dropout before it.
    model.post_fusion_dim = 64
    model.post_text_dim = 32 if mosi else 64
    model.post_audio_dim = 32 if mosi or mosei else 16
    model.post_vision_dim = 16 if mosi or mosei else 32
    model.post_fusion_dropout = 0.0 if mosi or mosei else 0.1
    model.post_text_dropout = 0.1 if mosei else 0.0
    model.post_audio_dropout = 0.0
    model.post_vision_dropout = 0.1 if mosei else 0.0
    # H: made labels lie within +-H. The toolkit has 3 for CH-SIMS too, whose own labels end at 1.
    model.label_bound = 3.0
    model.exclude_zero = True  # clips of label 0 belong to neither centre; else to the positive one
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, 4 batches per update, and rate and decay of the encoder, audio, vision and the rest."""
    rows = {
        "mosi": (64, (5e-4, 0.01), (3e-4, 0.0), (3e-4, 0.01)),
        "mosei": (32, (1e-3, 0.0), (5e-3, 0.001), (1e-4, 0.01)),
    }
    sims = (64, (3e-3, 0.0), (5e-4, 0.01), (3e-3, 0.001))
    batch_size, audio, vision, rest = rows.get(dataset, sims)
    groups = encoder_groups(3e-5, 1e-3)
    for m, (rate, decay) in {"audio": audio, "vision": vision}.items():
        groups[m] = {"paths": f"{m}/*", "learning_rate": rate, "weight_decay": decay}
    return peer_train(batch_size, *rest, accumulate=4, groups=groups)


#: Audio and vision are averaged down to the text's steps; running an encoder on padding costs more than
#: compiling for more padded lengths.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    "encoder": TINY_ENCODER,
    "d_model": 8,
    "heads": 2,
    "audio_hidden": 4,
    "vision_hidden": 4,
    "post_fusion_dim": 8,
    "post_text_dim": 6,
    "post_audio_dim": 6,
    "post_vision_dim": 6,
}
