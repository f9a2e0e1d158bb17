"""Which setting a name stands for that we do not have: what users of other code know it by."""

from collections.abc import Mapping
from typing import Any

from msa_jax.errors import nearest

#: What users of other code call our settings, in small letters; of several the first that a configuration
#: has is meant. docs/from_mmsa.md has what has no single counterpart.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "lr": ("train.learning_rate",),
    "lr_main": ("train.learning_rate",),
    "learning_rate_other": ("train.learning_rate",),
    "wd": ("train.weight_decay",),
    "weight_decay_main": ("train.weight_decay",),
    "weight_decay_other": ("train.weight_decay",),
    "bs": ("train.batch_size",),
    "batch": ("train.batch_size",),
    "early_stop": ("train.patience",),
    "early_stopping": ("train.patience",),
    "epoch": ("train.epochs",),
    "n_epochs": ("train.epochs",),
    "num_epochs": ("train.epochs",),
    "max_epochs": ("train.epochs",),
    "update_epochs": ("train.accumulate",),
    "grad_accum": ("train.accumulate",),
    "grad_clip": ("train.clip_value",),
    "when": ("train.plateau_patience",),
    "optim": ("train.optimizer",),
    "scheduler": ("train.schedule",),
    "keyeval": ("train.monitor",),
    "seeds": ("train.seed",),
    "cur_seed": ("train.seed",),
    "gpu_ids": ("train.devices",),
    "gpus": ("train.devices",),
    "device": ("train.devices",),
    "lr_bert": ("train.groups.encoder.learning_rate",),
    "learning_rate_bert": ("train.groups.encoder.learning_rate",),
    "weight_decay_bert": ("train.groups.encoder.weight_decay",),
    "learning_rate_audio": ("train.groups.audio.learning_rate",),
    "learning_rate_video": ("train.groups.vision.learning_rate",),
    "weight_decay_audio": ("train.groups.audio.weight_decay",),
    "weight_decay_video": ("train.groups.vision.weight_decay",),
    "text_weight_decay": ("train.groups.text.weight_decay",),
    "audio_weight_decay": ("train.groups.audio.weight_decay",),
    "video_weight_decay": ("train.groups.vision.weight_decay",),
    "factor_lr": ("train.groups.factors.learning_rate",),
    "dataset_root_dir": ("data.root",),
    "featurepath": ("data.path",),
    "feature_path": ("data.path",),
    "custom_feature": ("data.path",),
    "need_normalized": ("data.reduce",),
    "need_model_aligned": ("data.reduce",),
    "use_bert": ("model.text_encoder",),
    "use_finetune": ("model.text_encoder",),
    "use_bert_finetune": ("model.text_encoder",),
    "pretrained": ("model.encoder.folder",),
    "transformers": ("model.encoder.folder",),
    "train_mode": ("model.task",),
    "num_classes": ("model.classes", "model.task"),
    "hidden_dims": ("model.hidden", "model.text_hidden"),
    "hidden_size": ("model.hidden",),
    "num_layers": ("model.n_layers",),
    "nlevels": ("model.n_layers",),
    "dst_feature_dim_nheads": ("model.d_model",),
    "post_video_dim": ("model.post_vision_dim",),
    "post_video_dropout": ("model.post_vision_dropout",),
    "video_out": ("model.vision_out",),
    "conv1d_kernel_size_l": ("model.text_kernel",),
    "conv1d_kernel_size_a": ("model.audio_kernel",),
    "conv1d_kernel_size_v": ("model.vision_kernel",),
    "attn_dropout": ("model.text_attention_dropout",),
    "attn_dropout_a": ("model.audio_attention_dropout",),
    "attn_dropout_v": ("model.vision_attention_dropout",),
    "res_dropout": ("model.residual_dropout",),
    "attn_mask": ("model.causal_mask",),
    "memsize": ("model.memory",),
    "inner_node_dim": ("model.node",),
    "a_lstm_hidden_size": ("model.audio_hidden",),
    "v_lstm_hidden_size": ("model.vision_hidden",),
    "a_lstm_dropout": ("model.audio_dropout",),
    "v_lstm_dropout": ("model.vision_dropout",),
    "t_bert_dropout": ("model.encoder.dropout",),
    "h": ("model.label_bound",),
    "excludezero": ("model.exclude_zero",),
    "d_ah": ("model.audio_hidden",),
    "d_vh": ("model.vision_hidden",),
    "d_aout": ("model.audio_out",),
    "d_vout": ("model.vision_out",),
    "d_prjh": ("model.fusion_hidden",),
    "dropout_prj": ("model.dropout",),
    "dropout_prob": ("model.dropout",),
    "alpha": ("model.contrast_weight",),
    "beta": ("model.bound_weight",),
    "lr_mmilb": ("model.mi_learning_rate",),
    "weight_decay_mmilb": ("model.mi_weight_decay",),
}


def meant(key: str, known: Mapping[str, Any]) -> str:
    """Which known key an unknown one probably stands for: by another name, in another block, or misspelt."""
    leaf = key.rpartition(".")[2].lower().replace("-", "_")
    elsewhere = sorted(
        (name for name in known if name.rpartition(".")[2].lower() == leaf), key=lambda n: n.count(".")
    )
    for name in (*SYNONYMS.get(leaf, ()), *elsewhere):
        if name in known:
            return f" Did you mean {name!r}?"
    return nearest(key, known)
