"""What the spaces of several models share: the lists that the MMSA toolkit's tuner draws from.

Rates are spread between the lists' ends; widths stay lists. Where the toolkit's lists cannot be right, the
space says what was changed.
"""

from msa_jax.tuning.space import Number, OneOf

RATE = Number(5e-4, 5e-3, log=True)
DECAY = OneOf(0.0, 1e-4, 1e-3, 5e-3)
BATCH = OneOf(32, 64, 128)
#: Of the layers of a memory or a gate.
WIDTH = OneOf(32, 64, 128, 256)
GATE_DROPOUT = Number(0.0, 0.7)
#: A text encoder's rate. Some of the toolkit's lists go up to 5e-3, where a pretrained encoder forgets.
ENCODER_RATE = Number(1e-5, 1e-4, log=True)

_TRIPLES = ((128, 16, 128), (64, 16, 64), (128, 32, 128), (256, 32, 256), (64, 32, 64))
#: Widths of the three subnets.
SUBNETS = {"model.text_hidden, model.audio_hidden, model.vision_hidden": OneOf(*_TRIPLES)}
#: The same where the text's output has half of its width.
HALVED_SUBNETS = {
    "model.text_hidden, model.audio_hidden, model.vision_hidden, model.text_out": OneOf(
        *((*widths, widths[0] // 2) for widths in _TRIPLES)
    )
}
SUBNET_DROPOUTS = {"model.audio_dropout, model.vision_dropout": Number(0.2, 0.4)}
#: Of the heads of a model with a task per modality.
HEADS = {
    "model.post_text_dim": OneOf(8, 16, 32, 64),
    "model.post_audio_dim": OneOf(4, 8, 16),
    "model.post_vision_dim": OneOf(8, 16, 32, 64),
}
#: Decay of each subnet of such a model.
SUBNET_DECAYS = {
    f"train.groups.{name}.weight_decay": OneOf(0.0, 1e-5, 1e-4, 1e-3) for name in ("text", "audio", "vision")
}
#: The encoder's rate, that of its biases and norms among it.
ENCODER = {
    "train.groups.encoder.learning_rate, train.groups.encoder_no_decay.learning_rate": ENCODER_RATE,
    "train.groups.encoder.weight_decay": OneOf(1e-3, 1e-2),
}
