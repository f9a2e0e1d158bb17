"""What the blocks of all baselines have in common."""

from msa_jax.config import Config, block


def baseline(name: str) -> Config:
    """The model block of a baseline, before its own numbers."""
    model = block()
    model.name = name
    model.task = "regression"  # regression | classification (negative, neutral, positive)
    # none | both | audio | vision: modalities split into column groups (Zheng et al. 2024, Table 8)
    model.fg = "none"
    model.qkv = "shared"  # shared (parameter counts of Zheng et al.) | per_group (their equations)
    model.attend_over = "time"  # time (their eq. 7) | groups
    model.compat = False  # True: the public code's arithmetic, quirks included (see the model's file)
    return model


def peer_train(batch_size: int, learning_rate: float, weight_decay: float = 0.0, **more) -> dict:
    """The training protocol of the MMSA toolkit: Adam, no clipping, the epoch of least validation loss."""
    train = {"batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay}
    return train | {"epochs": 100, "patience": 8, "monitor": "loss", "clip_norm": 0.0} | more


def task_weights(m: float, t: float, a: float, v: float) -> Config:
    """Factors of the tasks' losses: the clip's score, and text, audio and vision alone."""
    return block({"M": m, "T": t, "A": a, "V": v})


def unimodal_decay(text: float, audio: float, vision: float) -> dict[str, dict]:
    """Optimiser groups: the weight decay of each unimodal network."""
    decay = {"text": text, "audio": audio, "vision": vision}
    return {m: {"paths": f"unimodal/{m}/*", "weight_decay": value} for m, value in decay.items()}
