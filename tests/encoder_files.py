"""Small encoders of every kind with a tokenizer as folders in the layout of Hugging Face, for tests."""

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
from msa_jax.nn.encoder import text_encoder
from msa_jax.weights.peers.encoder import bert, encoder

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


#: What the bytes of the small vocabulary are merged to, from the left; a blank before a word is part of it.
MERGED = (" good", " film", "words", " of", " clip", " caf")
ROBERTA_MARKS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def byte_pairs(
    marks: tuple[str, ...] = ROBERTA_MARKS, at_the_end: bool = False
) -> tuple[dict[str, int], list[str]]:
    """A small vocabulary of bytes, and its merges as lines of merges.txt.

    Args:
      marks: special tokens.
      at_the_end: whether their ids follow those of the others.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in letters)}
    pieces, merges = [letters[byte] for byte in range(256)], []
    for text in MERGED:
        word = [letters[byte] for byte in text.encode()]
        for i in range(1, len(word)):
            left = "".join(word[:i])
            if left + word[i] not in pieces:
                pieces.append(left + word[i])
                merges.append(f"{left} {word[i]}")
    tokens = [*pieces, *marks] if at_the_end else [*marks, *pieces]
    return {token: number for number, token in enumerate(tokens)}, merges


def roberta_tokenizer(path: pathlib.Path, **config: Any) -> pathlib.Path:
    """Writes RoBERTa's two older files."""
    path.mkdir(exist_ok=True)
    tokens, merges = byte_pairs()
    (path / "vocab.json").write_text(json.dumps(tokens))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    if config:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def modernbert_tokenizer(path: pathlib.Path) -> pathlib.Path:
    """Writes a tokenizer.json as ModernBERT has it: bytes, marks in brackets behind them."""
    path.mkdir(exist_ok=True)
    tokens, merges = byte_pairs(BERT_MARKS, at_the_end=True)
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    around = {"[CLS]": tokens["[CLS]"], "[SEP]": tokens["[SEP]"]}

    def mark(name: str) -> Any:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def text(name: str, segment: int) -> Any:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [mark("[CLS]"), text("A", 0), mark("[SEP]")]
    stored = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": tokens[m], "content": m, "lstrip": m == "[MASK]", **flags} for m in BERT_MARKS
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, text("B", 1), mark("[SEP]")],
            "special_tokens": {m: {"id": m, "ids": [n], "tokens": [m]} for m, n in around.items()},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": tokens,
            "merges": merges,
        },
    }
    (path / "tokenizer.json").write_text(json.dumps(stored))
    return path


ROBERTA_SETTINGS = BertSettings(
    8, 2, 2, 12, len(byte_pairs()[0]), 32, 1, 0.1, 0.1, layer_norm_eps=1e-5, kind="roberta", pad=1
)
MODERNBERT_SETTINGS = BertSettings(
    *(8, 3, 2, 12, len(byte_pairs(BERT_MARKS)[0]), 32, 1, 0.0, 0.0),
    layer_norm_eps=1e-5,
    kind="modernbert",
    pad=byte_pairs(BERT_MARKS, at_the_end=True)[0]["[PAD]"],
    global_every=2,
    window=4,
)
OTHERS = {"roberta": ROBERTA_SETTINGS, "modernbert": MODERNBERT_SETTINGS}


@functools.cache
def public_weights(settings: BertSettings, pooler: bool = False) -> dict[str, np.ndarray]:
    """Some weights of an encoder under the public names."""
    model, ids = text_encoder(settings, pooler), jnp.zeros((1, 1), jnp.int32)
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), ids, ids == 0, ids, train=False))
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(shapes["params"], sep="/")  # type: ignore[assignment]
    rng = np.random.default_rng(1)
    drawn = {k: rng.normal(float(k.endswith("scale")), 0.3, x.shape) for k, x in flat.items()}
    made = {e.peer: e.convert(drawn[e.ours.removeprefix("params/")]) for e in encoder(settings, pooler)}
    return {name: np.ascontiguousarray(x, np.float32) for name, x in made.items()}


def public_config(kind: str) -> dict[str, Any]:
    """What the config.json of such an encoder says."""
    settings = OTHERS[kind]
    config: dict[str, Any] = {
        "model_type": kind,
        "hidden_size": settings.width,
        "num_hidden_layers": settings.n_layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": settings.intermediate,
        "vocab_size": settings.vocab,
        "pad_token_id": settings.pad,
    }
    if kind == "roberta":
        more = {
            "max_position_embeddings": settings.positions + 2,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        }
        return config | more
    return config | {
        "max_position_embeddings": settings.positions,
        "global_attn_every_n_layers": settings.global_every,
        "local_attention": settings.window,
    }


def other_folder(path: pathlib.Path, kind: str, config: Any = None, weights: Any = None) -> pathlib.Path:
    """Writes the folder of a small RoBERTa or ModernBERT, and returns it."""
    made = roberta_tokenizer(path) if kind == "roberta" else modernbert_tokenizer(path)
    (made / "config.json").write_text(json.dumps(public_config(kind) | (config or {})))
    save_file(public_weights(OTHERS[kind]) if weights is None else weights, made / "model.safetensors")
    return made
