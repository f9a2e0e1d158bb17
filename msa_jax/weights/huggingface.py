"""The weights of encoders from local folders in the layout of Hugging Face (model.safetensors).

Nothing is downloaded and nothing in the files is executed.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from msa_jax.errors import DataError
from msa_jax.nn.bert import Bert, BertSettings
from msa_jax.nn.encoder import text_encoder
from msa_jax.nn.modernbert import ModernBert
from msa_jax.weights.encoder_config import CONFIG
from msa_jax.weights.layers import Entry
from msa_jax.weights.peers.encoder import encoder

WEIGHTS = "model.safetensors"
#: By kind: what stands before the names in whole checkpoints, and what these hold beside the encoder, the
#: heads of pre-training and a buffer.
_PREFIXES = {"bert": "bert.", "roberta": "roberta.", "modernbert": "model."}
_IGNORED = {
    "bert": ("cls.", "embeddings.position_ids"),
    "roberta": ("lm_head.", "embeddings.position_ids"),
    "modernbert": ("head.", "decoder."),
}
_POOLER = "pooler."
#: Older files call the parts of a LayerNorm as TensorFlow does.
_OLD_ENDINGS = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
_TYPES = ("F32", "F16", "BF16")


def read_weights(
    folder: str | pathlib.Path, settings: BertSettings, pooler: bool = False
) -> dict[str, np.ndarray]:
    """A folder's weights under our names.

    The file is model.safetensors, or the only model.<variant>.safetensors; float32, float16 or bfloat16.
    Names may have "bert." ("roberta.", "model.") in front. The heads of pre-training are left out.

    Args:
      folder: where the file is.
      settings: from :func:`msa_jax.weights.encoder_config.read_config`.
      pooler: whether the pooler is read, too.

    Returns:
      Path of a parameter of the encoder ("layer_0/attention/query/kernel") -> float32; of those that are in
      public encoders, so without the weights of ``layers="learned"``.

    Raises:
      DataError: if the file is missing or damaged, or its names and shapes are not the encoder's; all
        that are wrong are listed.
    """
    path = _weights_file(pathlib.Path(folder))
    entries = {e.peer: e for e in encoder(settings, pooler)}
    shapes = _shapes(text_encoder(settings, pooler), entries)
    ignored = (*_IGNORED[settings.kind], *(() if pooler else (_POOLER,)))
    found = {}
    try:
        with safe_open(path, "numpy") as file:
            names = _plain_names(file.keys(), _PREFIXES[settings.kind], ignored)
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
        f"{folder} has no {WEIGHTS}; give the folder of an encoder, saved as one safetensors file."
    )


def _plain_names(names: Any, prefix: str, ignored: tuple[str, ...]) -> dict[str, str]:
    """Names without prefix and with today's endings -> names in the file; what is ignored is left out."""
    plain = {}
    for name in names:
        short = name.removeprefix(prefix)
        for old, new in _OLD_ENDINGS.items():
            short = short.removesuffix(old) + new if short.endswith(old) else short
        if not short.startswith(ignored):
            plain[short] = name
    return plain


def _shapes(model: Bert | ModernBert, entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
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
