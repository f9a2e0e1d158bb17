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


def encoder_block(dataset: str) -> Config:
    """Sizes of the text encoder: BERT-base, the Chinese one for CH-SIMS, unless a folder is given."""
    encoder = block()
    # A local folder in the layout of Hugging Face (config.json, model.safetensors, vocab.txt), whose
    # sizes replace those below; "random": no folder, untrained weights.
    encoder.folder = ""
    encoder.width = 768
    encoder.n_layers = 12
    encoder.heads = 12
    encoder.intermediate = 3072
    encoder.vocab = 30522 if dataset in ("mosi", "mosei") else 21128
    encoder.positions = 512
    encoder.types = 2
    encoder.dropout = 0.1
    encoder.attention_dropout = 0.1
    encoder.layer_norm_eps = 1e-12
    encoder.remat = False  # compute each layer again in the backward pass: less memory, more time
    return encoder


def tuned(name: str, dataset: str) -> Config:
    """The model block of a baseline that trains its text encoder along."""
    model = baseline(name)
    # finetune | frozen (the data set's stored text features, the only ones of generated clips)
    model.text_encoder = "frozen" if dataset == "synthetic" else "finetune"
    model.encoder = encoder_block(dataset)
    return model


def encoder_groups(learning_rate: float, weight_decay: float, warmup_epochs: float = 0.0) -> dict[str, dict]:
    """Optimiser groups: the encoder's matrices, and its biases and norms, which do not decay."""
    paths = {"encoder": "text_encoder/*", "encoder_no_decay": "text_encoder/*bias, text_encoder/*norm/*"}
    decays = {"encoder": weight_decay, "encoder_no_decay": 0.0}
    return {
        name: {
            "paths": paths[name],
            "learning_rate": learning_rate,
            "weight_decay": decays[name],
            "warmup_epochs": warmup_epochs,
        }
        for name in paths
    }


#: An encoder for trying things out, without a folder.
TINY_ENCODER = {
    "folder": "random",
    "width": 8,
    "n_layers": 1,
    "heads": 2,
    "intermediate": 8,
    "vocab": 64,
    "positions": 64,
}
