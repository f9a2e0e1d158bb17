"""BERT encoders from local folders in the layout of Hugging Face: config.json and model.safetensors.

Nothing is downloaded and nothing in the files is executed.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from msa_jax.errors import ConfigError, DataError
from msa_jax.files import read_json
from msa_jax.nn.bert import PAD, Bert, BertSettings
from msa_jax.weights.layers import Entry
from msa_jax.weights.peers.encoder import bert

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_SIZES = {
    "width": "hidden_size",
    "n_layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
}
_RATES = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
#: What may differ between relatives of BERT, and BERT's own value, which a key that is not there has.
_FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "pad_token_id": PAD,
    "is_decoder": False,
    "add_cross_attention": False,
}
#: What whole checkpoints hold beside the encoder: the heads of pre-training, a buffer.
_IGNORED = ("cls.", "embeddings.position_ids")
_POOLER = "pooler."
#: Older files call the parts of a LayerNorm as TensorFlow does.
_OLD_ENDINGS = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
_TYPES = ("F32", "F16", "BF16")


def read_config(folder: str | pathlib.Path) -> BertSettings:
    """The sizes in a folder's config.json.

    Raises:
      DataError: if it is missing or damaged, lacks a size, or describes anything but a BERT encoder
        with exact GELU and absolute positions.
    """
    path = pathlib.Path(folder) / CONFIG
    config = read_json(path, "give the folder of a BERT encoder in the layout of Hugging Face")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise DataError(
                f"{path} has {key} {config[key]!r:.100}, and only BERT encoders with {value!r} can be read; "
                "take another encoder."
            )
    sizes: dict[str, Any] = {}
    for name, key in _SIZES.items():
        sizes[name] = config.get(key)
        if type(sizes[name]) is not int or sizes[name] < 1:
            raise DataError(f"{path} has {key} {sizes[name]!r:.100}, not a whole number above 0; correct it.")
    for name, key in _RATES.items():
        sizes[name] = config.get(key, 0.1)
        if type(sizes[name]) not in (int, float) or not 0 <= sizes[name] < 1:
            raise DataError(f"{path} has {key} {sizes[name]!r:.100}, not a rate below 1; correct it.")
    epsilon = config.get("layer_norm_eps", 1e-12)
    if type(epsilon) is not float or not 0 < epsilon < 1:
        raise DataError(f"{path} has layer_norm_eps {epsilon!r:.100}, not a small number; correct it.")
    try:
        return BertSettings(**sizes, layer_norm_eps=epsilon)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def read_weights(
    folder: str | pathlib.Path, settings: BertSettings, pooler: bool = False
) -> dict[str, np.ndarray]:
    """A folder's weights under our names.

    The file is model.safetensors, or the only model.<variant>.safetensors; float32, float16 or bfloat16.
    Names may have "bert." in front. The heads of pre-training are left out.

    Args:
      folder: where the file is.
      settings: from :func:`read_config`.
      pooler: whether the pooler is read, too.

    Returns:
      Path of a parameter of :class:`~msa_jax.nn.bert.Bert` ("layer_0/attention/query/kernel") -> float32.

    Raises:
      DataError: if the file is missing or damaged, or its names and shapes are not the encoder's; all
        that are wrong are listed.
    """
    path = _weights_file(pathlib.Path(folder))
    entries = {e.peer: e for e in bert("", "", settings.n_layers, pooler)}
    shapes = _shapes(Bert(settings, pooler), entries)
    ignored = _IGNORED if pooler else (*_IGNORED, _POOLER)
    found = {}
    try:
        with safe_open(path, "numpy") as file:
            names = _plain_names(file.keys(), ignored)
            _check(path, {name: file.get_slice(theirs) for name, theirs in names.items()}, shapes)
            for name, entry in entries.items():
                array = np.asarray(file.get_tensor(names[name]), np.float32)
                found[entry.ours.removeprefix("params/")] = np.ascontiguousarray(entry.convert(array))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error!s:.200}); copy the encoder again.") from error
    return found


def _weights_file(folder: pathlib.Path) -> pathlib.Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    variants = sorted(folder.glob("model.*.safetensors"))
    if len(variants) == 1:
        return variants[0]
    if variants:
        names = ", ".join(path.name for path in variants)
        raise DataError(f"{folder} has {names:.200}; rename one of them to {WEIGHTS}.")
    raise DataError(
        f"{folder} has no {WEIGHTS}; give the folder of a BERT encoder, saved as one safetensors file."
    )


def _plain_names(names: Any, ignored: tuple[str, ...]) -> dict[str, str]:
    """Names without prefix and with today's endings -> names in the file; what is ignored is left out."""
    plain = {}
    for name in names:
        short = name.removeprefix("bert.")
        for old, new in _OLD_ENDINGS.items():
            short = short.removesuffix(old) + new if short.endswith(old) else short
        if not short.startswith(ignored):
            plain[short] = name
    return plain


def _shapes(model: Bert, entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """The shape of every array, by its name in the file."""
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    mask = jax.ShapeDtypeStruct((1, 1), np.bool_)
    ours: Any = jax.eval_shape(
        lambda ids, mask: model.init(jax.random.key(0), ids, mask, ids, train=False), tokens, mask
    )
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(ours, sep="/")  # type: ignore[assignment]
    # Every change of layout here is its own reverse: none, or a transposition.
    return {name: e.convert(np.broadcast_to(0, flat[e.ours].shape)).shape for name, e in entries.items()}


def _check(path: pathlib.Path, slices: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compares names, types and shapes before anything is loaded."""
    problems = [f"{name} is missing" for name in shapes if name not in slices]
    problems += [f"{name} has no place in it" for name in sorted(slices) if name not in shapes]
    for name in [n for n in shapes if n in slices]:
        shape, dtype = tuple(slices[name].get_shape()), slices[name].get_dtype()
        if shape != shapes[name]:
            problems.append(f"{name} is {shape}, not {shapes[name]}")
        elif dtype not in _TYPES:
            problems.append(f"{name} is {dtype}, not one of {', '.join(_TYPES)}")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise DataError(
            f"{path} does not fit the encoder of its {CONFIG}: {', '.join(problems[:8])}{more}; take both "
            "files from the same encoder."
        )
