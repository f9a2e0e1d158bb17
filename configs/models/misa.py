"""MISA: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import TINY_ENCODER, peer_train, tuned


def get_config(dataset: str):
    """The model block."""
    mosi, mosei = dataset == "mosi", dataset == "mosei"
    model = tuned("misa", dataset)
    model.hidden = 128  # H of the projected, private and shared vectors
    model.heads = 2  # of the transformer layer over them
    model.ff_hidden = 2048  # inside its feed-forward network
    model.dropout = 0.2 if mosi else (0.5 if mosei else 0.0)  # before the last layer
    model.transformer_dropout = 0.1
    # Factors of the losses: private apart from shared, shared alike, and the reconstruction.
    model.diff_weight = 0.1 if mosi else 0.3
    model.sim_weight = 0.3 if mosi else (0.8 if mosei else 1.0)
    model.recon_weight = 1.0 if mosi or mosei else 0.8
    return model


def train_settings(dataset: str) -> dict:
    """One rate for all, the encoder included; two batches per update, clipped by value."""
    batch_size = 16 if dataset == "mosi" else 64
    clip_value = 0.8 if dataset in ("mosi", "mosei") else 1.0
    return peer_train(batch_size, 1e-4, accumulate=2, clip_value=clip_value)


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {"encoder": TINY_ENCODER, "hidden": 8, "ff_hidden": 8}
