"""MulT: settings of the MMSA toolkit (tuned there per data set)."""

from configs.models.shared import baseline, peer_train


def get_config(dataset: str):
    """The model block."""
    mosi, mosei = dataset == "mosi", dataset == "mosei"
    model = baseline("mult")
    model.d_model = 30 if mosei else 50  # d: of the cross-modal stacks; the memories have 2d
    model.heads = 6 if mosei else 10
    model.n_layers = 4 if mosi or mosei else 2  # of a cross-modal stack; the memories have at least 3
    model.text_kernel = 5
    model.audio_kernel = 5 if mosi else 1
    model.vision_kernel = 5 if mosi else (3 if mosei else 1)
    model.causal_mask = True  # a query sees keys up to its own place plus the difference in length
    # On attention weights, by the modality that is read; the memories use the first.
    model.text_attention_dropout = 0.3 if mosi else (0.4 if mosei else 0.2)
    model.audio_attention_dropout = 0.2 if mosi else (0.0 if mosei else 0.1)
    model.vision_attention_dropout = 0.0
    model.relu_dropout = 0.0
    model.residual_dropout = 0.0 if mosi or mosei else 0.2
    model.embed_dropout = 0.2 if mosi else (0.0 if mosei else 0.1)
    model.output_dropout = 0.5 if mosi or mosei else 0.1
    model.text_dropout = 0.5 if mosi else 0.3  # on the text features themselves
    return model


def train_settings(dataset: str) -> dict:
    """Batch size, learning rate, patience of the schedule; 8 batches per update, clipped by value."""
    rows = {"mosi": (16, 2e-3, 5), "mosei": (4, 5e-4, 20)}
    batch_size, rate, patience = rows.get(dataset, (16, 2e-3, 10))
    schedule = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": patience}
    return peer_train(batch_size, rate, accumulate=8, clip_value=0.6, **schedule)


#: Nothing changes in the data block: every step is read.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {"d_model": 8, "heads": 2, "n_layers": 1}
