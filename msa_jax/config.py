"""Configurations: ``PATH.py[:ARGUMENT]`` plus ``--config.KEY=VALUE`` overrides, strictly checked.

A configuration file is plain Python with ``get_config(argument) -> ConfigDict``. The dictionary
lists every knob; nothing in the package falls back on a hidden default.
"""

import argparse
import ast
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import ml_collections

from msa_jax.errors import ConfigError, MsaJaxError, nearest

#: Settings that later versions added, with the value by which a run that lacks them behaves as then, or a
#: function of its {key: value} that gives it. A run's ``config.json`` is completed by them when it is read.
ADDED: dict[str, Any] = {"preset": "", "model.classes": 0, "data.class_names": ()}

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
    "alpha": ("model.contrast_weight",),
    "beta": ("model.bound_weight",),
    "lr_mmilb": ("model.mi_learning_rate",),
    "weight_decay_mmilb": ("model.mi_weight_decay",),
}

#: A ConfigDict. Declared Any, because the library's own annotations say that a value may be
#: text or None wherever a number is read.
Config = Any


def block(values: Mapping[str, Any] | None = None) -> Config:
    """A new ConfigDict, empty or with ``values``."""
    return ml_collections.ConfigDict(values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` to a command; its overrides are what the parser does not know."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="PATH.py[:ARGUMENT]",
        help="configuration file, for example configs/sims.py:ufen_mtfn,fg=both; "
        "any value in it is changed with --config.KEY=VALUE, for example --config.train.seed=3",
    )


def parse_command(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, Config]:
    """Parses a command line that has ``--config`` and overrides.

    Returns:
      The command's own arguments, and the loaded, locked ConfigDict.

    Raises:
      ConfigError: for an unknown flag, key, or value.
    """
    arguments, rest = parser.parse_known_args(argv)
    overrides = []
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--config."):
            known = [o for action in parser._actions for o in action.option_strings]
            raise ConfigError(f"unknown argument {flag!r}.{nearest(flag, known)}")
        if "=" not in flag:
            if not rest:
                raise ConfigError(f"{flag} has no value; write {flag}=VALUE.")
            flag = f"{flag}={rest.pop(0)}"
        overrides.append(flag.removeprefix("--config."))
    return arguments, load(arguments.config, overrides)


def load(path: str, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Loads ``PATH.py[:ARGUMENT]`` and applies overrides of the form ``"train.seed=3"``.

    Raises:
      ConfigError: if the file is missing or no configuration, or an override names an unknown
        key (the nearest right one is given) or holds a value of another type.
    """
    match = re.fullmatch(r"(.*?\.py)(?::(.*))?", path)
    if not match:
        raise ConfigError(f"--config={path} is no configuration file; give one such as configs/mosi.py.")
    config = _get_config(pathlib.Path(match[1]), match[2] or "")
    for override in overrides:
        key, _, text = override.partition("=")
        _set(config, key, text)
    return config.lock()


def _get_config(file: pathlib.Path, argument: str) -> Config:
    if not file.is_file():
        raise ConfigError(f"there is no configuration file {file}; run from the folder that holds configs/.")
    root = str(file.resolve().parent.parent)
    if root not in sys.path:
        sys.path.append(root)  # so that configs/x.py finds configs/common.py from any folder
    module_spec = importlib.util.spec_from_file_location(f"msa_jax_config_{file.stem}", file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return module.get_config(argument)
    except MsaJaxError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{file} is not a usable configuration: {type(error).__name__}: {error}; "
            "it must define get_config(argument) returning a ConfigDict."
        ) from error


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested configuration to ``{"train.seed": 1111, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ml_collections.ConfigDict)):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


#: Keys from which others follow, and what stands before their value after the colon.
_AFTER_THE_COLON = {"preset": "preset=", "model.name": ""}


def _set(config: Config, key: str, text: str) -> None:
    flat = flatten(config)
    if key not in flat:
        inside = [k for k in flat if k.startswith(key + ".")]
        if inside:
            raise ConfigError(f"--config.{key} is a block; set one of its keys: {', '.join(inside[:8])}.")
        raise ConfigError(f"--config.{key}: there is no such key.{_meant(key, flat)}")
    if key in _AFTER_THE_COLON:
        raise ConfigError(
            f"--config.{key}={text} comes too late, since other values follow from it; give it after the "
            f"configuration's colon, as in --config=configs/mosi.py:{_AFTER_THE_COLON[key]}{text}."
        )
    *blocks, last = key.split(".")
    inner = config
    for name in blocks:
        inner = inner[name]
    with inner.ignore_type():
        inner[last] = _parse(key, text, flat[key])


def _meant(key: str, known: Mapping[str, Any]) -> str:
    """Which known key an unknown one probably stands for: by another name, in another block, or misspelt."""
    leaf = key.rpartition(".")[2].lower().replace("-", "_")
    elsewhere = sorted(
        (name for name in known if name.rpartition(".")[2].lower() == leaf), key=lambda n: n.count(".")
    )
    for name in (*SYNONYMS.get(leaf, ()), *elsewhere):
        if name in known:
            return f" Did you mean {name!r}?"
    return nearest(key, known)


def _parse(key: str, text: str, old: Any) -> Any:
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if kind is str:
            return text
        value = ast.literal_eval(text)
        if isinstance(value, (tuple, list)):
            return tuple(value)
    except (KeyError, ValueError, SyntaxError):
        pass
    raise ConfigError(f"--config.{key}={text} is not {_KIND_NAMES[kind]} (it is {old!r} now).")


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list such as (1,2)"}


def to_json(config: Config) -> str:
    """The configuration as indented JSON, keys sorted."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True)


def from_json(text: str) -> Config:
    """Reads what :func:`to_json` wrote, here or in an earlier version; lists come back as tuples."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    config = ml_collections.ConfigDict(tuples(json.loads(text)))
    flat = flatten(config)
    for key, value in ADDED.items():
        *blocks, last = key.split(".")
        inner: Any = config
        for name in blocks:
            inner = inner.get(name, {})
        if key not in flat and (inner or not blocks):
            inner[last] = value(flat) if callable(value) else value
    return config.lock()


def difference(old: Config, new: Config) -> list[str]:
    """What changed between two configurations, one ``key: old -> new`` line each."""
    before, after = flatten(old), flatten(new)
    missing = "(absent)"
    return [
        f"{key}: {before.get(key, missing)!r} -> {after.get(key, missing)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, missing) != after.get(key, missing)
    ]


def require_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError unless ``value`` is one of ``known``."""
    if value not in known:
        raise ConfigError(f"{key}={value!r} is not one of {', '.join(known)}.{nearest(str(value), known)}")
