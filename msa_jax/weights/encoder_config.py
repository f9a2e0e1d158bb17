"""What the config.json of an encoder's folder says of it: its kind, and its sizes and rates."""

import pathlib
from collections.abc import Mapping
from typing import Any

from msa_jax.errors import ConfigError, DataError
from msa_jax.files import read_json
from msa_jax.nn.bert import BertSettings

CONFIG = "config.json"
#: What the file calls its architecture -> our kind of encoder.
_KINDS = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "modernbert": "modernbert"}
_SIZES = {
    "width": "hidden_size",
    "n_layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
}
#: What may differ between relatives of an encoder, and what can be read, which a key that is not there means.
_FIXED = {
    "bert": {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    "modernbert": {"hidden_activation": "gelu", "rope_scaling": None},
}
_FIXED["roberta"] = _FIXED["bert"]
#: Our rates -> keys and what a file without them has; the layer norm's epsilon too.
_RATES = {
    "bert": {
        "dropout": ("hidden_dropout_prob", 0.1),
        "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    },
    "modernbert": {"dropout": ("mlp_dropout", 0.0), "attention_dropout": ("attention_dropout", 0.0)},
}
_RATES["roberta"] = _RATES["bert"]
_EPSILON = {
    "bert": ("layer_norm_eps", 1e-12),
    "roberta": ("layer_norm_eps", 1e-12),
    "modernbert": ("norm_eps", 1e-5),
}
#: The token of padding that a file without one means.
_PAD = {"bert": 0, "roberta": 1, "modernbert": 50283}
_BIASES = ("attention_bias", "mlp_bias", "norm_bias")
_FULL, _LOCAL = "full_attention", "sliding_attention"
#: The base of ModernBERT's angles, by the kind of layer: the older key, and what a file without it has.
_THETAS = {_FULL: ("global_rope_theta", 160000.0), _LOCAL: ("local_rope_theta", 10000.0)}
#: Where ten millions are far too many: a file that says so is damaged, or wants to keep us busy.
_MOST = {"num_hidden_layers": 1000}


def read_config(folder: str | pathlib.Path) -> BertSettings:
    """The kind and the sizes in a folder's config.json.

    Raises:
      DataError: if it is missing or damaged, lacks a size, or describes anything but a BERT, a RoBERTa or a
        ModernBERT as they were published.
    """
    path = pathlib.Path(folder) / CONFIG
    config = read_json(path, "give the folder of an encoder in the layout of Hugging Face")
    named = config.get("model_type", "bert")
    if named not in tuple(_KINDS):
        raise DataError(
            f"{path} has model_type {named!r:.100}, and only encoders of {', '.join(_KINDS)} can be read; "
            "take another encoder."
        )
    kind = _KINDS[named]
    for key, value in _FIXED[kind].items():
        if config.get(key, value) != value:
            raise DataError(
                f"{path} has {key} {config[key]!r:.100}, and only {named} encoders with {value!r} can be "
                "read; take another encoder."
            )
    sizes: dict[str, Any] = {name: _whole(path, config, key) for name, key in _SIZES.items()}
    sizes["pad"] = _whole(path, config, "pad_token_id", _PAD[kind], least=0)
    for name, (key, default) in _RATES[kind].items():
        sizes[name] = config.get(key, default)
        if type(sizes[name]) not in (int, float) or not 0 <= sizes[name] < 1:
            raise DataError(f"{path} has {key} {sizes[name]!r:.100}, not a rate below 1; correct it.")
    key, default = _EPSILON[kind]
    epsilon = config.get(key, default)
    if type(epsilon) is not float or not 0 < epsilon < 1:
        raise DataError(f"{path} has {key} {epsilon!r:.100}, not a small number; correct it.")
    sizes |= (
        _modern(path, config, sizes["n_layers"])
        if kind == "modernbert"
        else _older(path, config, kind, sizes)
    )
    try:
        return BertSettings(**sizes, kind=kind, layer_norm_eps=epsilon)  # type: ignore[arg-type]
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def _whole(
    path: pathlib.Path, config: Mapping[str, Any], key: str, default: Any = None, least: int = 1
) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < least:
        raise DataError(
            f"{path} has {key} {value!r:.100}, not a whole number {'above 0' if least else 'of at least 0'}; "
            "correct it."
        )
    most = _MOST.get(key, 10_000_000)
    if value > most:
        raise DataError(f"{path} has {key} {value!r:.100}, more than {most}; correct it.")
    return value


def _older(
    path: pathlib.Path, config: Mapping[str, Any], kind: str, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """What BERT and RoBERTa have beside the sizes of all; RoBERTa counts from behind the token of padding."""
    found = {"types": _whole(path, config, "type_vocab_size")}
    if kind == "bert":
        if sizes["pad"] != _PAD[kind]:
            raise DataError(
                f"{path} has pad_token_id {sizes['pad']}, and only bert encoders with {_PAD[kind]} can be "
                "read; take another encoder."
            )
        return found
    positions = sizes["positions"] - sizes["pad"] - 1
    if positions < 1:
        raise DataError(
            f"{path} has max_position_embeddings {sizes['positions']}, which leaves none behind that of "
            f"padding (pad_token_id {sizes['pad']}); correct it."
        )
    return found | {"positions": positions}


def _modern(path: pathlib.Path, config: Mapping[str, Any], n_layers: int) -> dict[str, Any]:
    """What ModernBERT has beside the sizes of all, as older and newer files say it."""
    biases = tuple(config.get(key, False) for key in _BIASES)
    for key, value in zip(_BIASES, biases, strict=True):
        if type(value) is not bool:
            raise DataError(f"{path} has {key} {value!r:.100}, neither true nor false; correct it.")
    return {
        "types": 1,
        "biases": biases,
        "window": _whole(path, config, "local_attention", 128),
        "global_every": _global_every(path, config, n_layers),
        "thetas": tuple(_theta(path, config, layer) for layer in _THETAS),
    }


def _global_every(path: pathlib.Path, config: Mapping[str, Any], n_layers: int) -> int:
    """How many layers apart those are that read the whole text; newer files list the layers' types."""
    listed = config.get("layer_types")
    if listed is None:
        return _whole(path, config, "global_attn_every_n_layers", 3)
    full = [i for i, layer in enumerate(listed if isinstance(listed, list) else ()) if layer == _FULL]
    every = full[1] if len(full) > 1 else max(n_layers, 2)
    if listed != [_LOCAL if i % every else _FULL for i in range(n_layers)]:
        raise DataError(
            f"{path} has layer_types that are not {_FULL} from the first on at equal distances and "
            f"{_LOCAL} between; take another encoder."
        )
    return every


def _theta(path: pathlib.Path, config: Mapping[str, Any], layer: str) -> float:
    """The base of the angles of one kind of layers."""
    key, default = _THETAS[layer]
    every = config.get("rope_parameters")
    own = every.get(layer) if isinstance(every, dict) else None
    own = own if isinstance(own, dict) else {}
    if own.get("rope_type", "default") != "default":
        raise DataError(
            f"{path} has rope_type {own['rope_type']!r:.100}, and only modernbert encoders with 'default' "
            "can be read; take another encoder."
        )
    theta = own.get("rope_theta", config.get(key, default))
    if type(theta) not in (int, float) or not 0 < theta < 1e12:
        raise DataError(f"{path} has {key} {theta!r:.100}, not a number above 0; correct it.")
    return float(theta)
