"""UFEN + MTFN: every knob of the model, with its source.

"Table n" and "eq. n" are those of Cai et al. 2025. "Reading An" marks what the paper leaves open;
the value here is the reading we recommend, the others are named beside it.
"""

from configs.models.shared import TINY_ENCODER, encoder_block, encoder_groups
from msa_jax.config import block


def get_config(dataset: str):
    """The model block; the paper uses one architecture on every data set.

    On MOSI, d_model, dropout and the schedule are our choice on its validation split: as printed
    (dropout 0.1, constant rate) the model fits its 1,284 clips too closely.
    """
    model = block()
    model.name = "ufen_mtfn"
    model.task = "regression"  # all losses are MSE (eq. 17)
    # none | both | audio | vision: modalities split into column groups (Zheng et al. 2024, Table 8)
    model.fg = "none"
    model.compat = False  # there is no public code to be compatible with: changes nothing

    # Input. Text: frozen (stored features) | finetune (an encoder trained along). Reading A12: the paper's
    # learning rate would destroy a BERT, so it must have been frozen, or had a rate of its own.
    model.text_encoder = "frozen"
    model.encoder = encoder_block(dataset)
    model.frontend = "fine_grained"  # fine_grained (what fg says) | concat (whole modalities only)
    model.fg_subnet = "dense"  # dense | bigru: sub-network of a column group, width d_model
    model.qkv = "shared"  # shared (parameter counts of Zheng et al.) | per_group (their equations)
    model.attend_over = "time"  # time (their eq. 7) | groups
    model.masking = True  # False: padding counts as zeros, as in code that knows no lengths

    # UFEN, one per modality.
    model.d_model = 128  # d_m is not printed
    model.use_bigru = True  # Table 9; False: Dense per step
    model.n_layers = 2  # L, Table 7: 2 is best
    model.use_conv = True  # Table 9; False: every level is the Bi-GRU's output
    model.kernel_size = 3  # K is not printed
    model.filters = 0  # F_l is not printed; 0: d_model. With upsample=dense 64 is a reading of A3
    model.conv_topology = "cascade"  # cascade (Fig. 3) | parallel. Reading A2
    model.conv_stride = 2  # reading A3: eq. 6 undoes a coarser time axis; 1: nothing to undo
    model.padding = "same"  # same | valid. Reading A3
    model.upsample = "linear"  # linear | nearest | dense (stride 1, Dense from F to d). Reading A3
    model.use_self_attention = True  # Table 9; False: S = X
    model.self_heads = 1  # Table 2
    model.share_self_attention = False  # reading A13: one per layer
    model.gate = "product"  # product (eq. 5) | sigmoid | residual. Reading A14
    model.pos_enc = "none"  # none | sinusoidal, after the Bi-GRU. Reading A16
    model.ufen_layer_norm = False  # after the Bi-GRU and after the sum. Reading A15: Fig. 3 has none
    model.ufen_pool = "late"  # late (sequences meet in MTFN) | early (their means). Reading A4

    # MTFN.
    model.use_cross_attention = True  # Table 9; False: the three pooled modalities
    model.cross_heads = 4  # Table 2
    model.pair_pool = "mean"  # mean | last | max | attention, over the query's steps. Reading A5
    model.use_encoder_decoder = True  # Table 9; False: Y_m is the final prediction
    model.fusion_tokens = "six"  # six tokens of width d | one of width 6d. Reading A7
    model.ed_heads = 4  # reading A9: the paper lists no third number of heads; 1
    model.d_ff = 0  # 0: d_model. Reading A17: d, 2d or 4d
    model.decoder_pool = "flatten"  # flatten | mean, before W_de. Reading A8
    model.head = "linear"  # linear | scaled_tanh (within the label range). Reading A1: no softmax

    model.attention_dropout = 0.2  # Table 2
    model.dropout = 0.1  # Table 2; places: reading A15, A17

    # Loss.
    model.multi_task = True  # Table 9; False: only the final prediction
    model.loss_tasks = "TAV"  # Table 8: unimodal losses beside the two multimodal ones; "" for none
    model.unimodal_target = "multimodal"  # multimodal | own (data with T, A, V labels). Reading A11
    model.fusion_loss_weight = 1.0  # reading A10; 3: the two multimodal terms inside the sum over i
    if dataset == "mosi":
        model.update({"d_model": 64, "dropout": 0.3})
    return model


def train_settings(dataset: str) -> dict:
    """Table 2 (learning rate, batch size, patience, epochs); Adam without weight decay."""
    rows = {  # learning rate, batch size, epochs
        "mosi": (5e-3, 32, 30),
        "mosei": (1e-4, 32, 50),
        "sims": (5e-3, 16, 50),
    }
    rate, batch_size, epochs = rows.get(dataset, rows["sims"])
    # Reading A12: an encoder that is trained along learns at a rate of its own, after a warm-up.
    groups = encoder_groups(2e-5, 0.0, warmup_epochs=5.0)
    train = {"learning_rate": rate, "batch_size": batch_size, "epochs": epochs, "patience": 8}
    train["groups"] = groups
    return train | ({"schedule": "cosine"} if dataset == "mosi" else {})


#: Nothing changes in the data block: every step is read.
DATA = {}
#: For trying things out: small widths.
TINY = {"d_model": 16, "cross_heads": 2, "ed_heads": 2, "encoder": TINY_ENCODER}
