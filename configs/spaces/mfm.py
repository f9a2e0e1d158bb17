"""MFM: widths of latents and factors, memory, gates, losses and training, by our choice around the presets.

The losses' weights may be drawn, since the validation loss is that of the scores alone.
"""

from msa_jax.tuning import ranges
from msa_jax.tuning.space import Number, OneOf, Space


def get_space(argument: str = "") -> Space:
    """Returns the space."""
    del argument
    return Space(
        {
            **ranges.SUBNETS,
            "model.memory": OneOf(64, 128, 256),
            "model.attention_hidden": ranges.WIDTH,
            "model.attention_dropout": ranges.GATE_DROPOUT,
            "model.proposal_hidden": ranges.WIDTH,
            "model.proposal_dropout": ranges.GATE_DROPOUT,
            "model.retain_hidden": ranges.WIDTH,
            "model.retain_dropout": ranges.GATE_DROPOUT,
            "model.update_hidden": ranges.WIDTH,
            "model.update_dropout": ranges.GATE_DROPOUT,
            "model.z_text": OneOf(32, 64, 128, 256),
            "model.z_audio": OneOf(32, 48, 64, 80),
            "model.z_vision": OneOf(32, 48, 64, 80),
            "model.z_y": OneOf(32, 48, 64, 80),
            "model.f_text": OneOf(32, 64, 128, 256),
            "model.f_audio": OneOf(16, 32, 48, 80),
            "model.f_vision": OneOf(32, 48, 64, 80),
            "model.f_y, model.out_hidden": OneOf((16, 16), (32, 32), (48, 48), (64, 64)),
            "model.f_text_dropout": ranges.GATE_DROPOUT,
            "model.f_audio_dropout": ranges.GATE_DROPOUT,
            "model.f_vision_dropout": ranges.GATE_DROPOUT,
            "model.f_y_dropout": ranges.GATE_DROPOUT,
            "model.out_dropout": ranges.GATE_DROPOUT,
            "model.mmd_weight": Number(10.0, 200.0, log=True),
            "model.text_weight": Number(0.01, 5.0, log=True),
            "model.audio_weight": Number(0.01, 5.0, log=True),
            "model.vision_weight": Number(0.01, 5.0, log=True),
            "train.batch_size": ranges.BATCH,
            "train.learning_rate": ranges.RATE,
            "train.weight_decay": ranges.DECAY,
        }
    )
