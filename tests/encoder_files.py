"""A small BERT encoder with a vocabulary as a folder in the layout of Hugging Face, for tests."""

import functools
import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from msa_jax.nn.bert import Bert, BertSettings
from msa_jax.weights.peers.encoder import bert

SIZES: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 30,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
}
WORDS = [*("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "words", "of", "clip"), *"0123456789"]
SETTINGS = BertSettings(8, 2, 2, 12, 30, 10, 2, 0.1, 0.1)


@functools.cache
def ours() -> dict[str, np.ndarray]:
    """Some weights under our paths."""
    ids = jnp.zeros((1, 1), jnp.int32)
    model = Bert(SETTINGS)
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), ids, ids == 0, ids, train=False))
    rng = np.random.default_rng(0)
    flat = flax.traverse_util.flatten_dict(shapes["params"], sep="/")
    return {k: rng.normal(0, 0.1, x.shape).astype(np.float32) for k, x in flat.items()}


def theirs() -> dict[str, np.ndarray]:
    """The same under the public names; a transposition is its own reverse."""
    flat = ours()
    entries = bert("", "", SETTINGS.n_layers)
    return {e.peer: np.ascontiguousarray(e.convert(flat[e.ours.removeprefix("params/")])) for e in entries}


def folder(path: pathlib.Path, config: Any = None, weights: Any = None, name="model.safetensors"):
    """Writes the folder ``path`` and returns it."""
    path.mkdir(exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (path / "config.json").write_text(json.dumps(SIZES | (config or {})))
    save_file(theirs() if weights is None else weights, path / name)
    return path
