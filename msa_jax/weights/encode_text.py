"""Text features from transcripts: an encoder's hidden states, one for every token."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.configuration import require_choice
from msa_jax.data.dataset import Split
from msa_jax.data.tokenize import Tokenizer
from msa_jax.errors import ConfigError, DataError
from msa_jax.nn.bert import BertSettings
from msa_jax.nn.encoder import text_encoder
from msa_jax.weights.encoder_config import read_config
from msa_jax.weights.huggingface import read_weights

#: What the features are, by the layers that they are made of.
_FEATURES = {"last": "the last hidden states", "mean": "the mean of all layers' hidden states"}
#: Tokens, padding included, that are encoded together.
_TOKENS = 2048

#: Starts a stage of so many bytes; returns what to call with the bytes that are done.
Stage = Callable[[str, int], Callable[[int], None]]


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """An encoder with its tokenizer.

    Attributes:
      name: of its folder.
      settings: its sizes.
      params: its weights.
      tokenizer: its own.
    """

    name: str
    settings: BertSettings
    params: Any
    tokenizer: Tokenizer


def load(folder: pathlib.Path, layers: str = "last") -> TextEncoder:
    """Reads a folder in the layout of Hugging Face.

    Args:
      folder: the encoder's.
      layers: whose states are the features: the last, or the mean of all, the embeddings included; see
        :class:`~msa_jax.nn.layer_mix.LayerMix`.

    Raises:
      ConfigError: for other layers.
      DataError: if one of its files is missing or broken, or they do not go together.
    """
    if layers == "learned":
        raise ConfigError(
            "layers=learned has nothing to learn where features are stored; make them of the last layer or "
            "of the mean, or train the encoder along (model.text_encoder=finetune)."
        )
    require_choice("layers", layers, tuple(_FEATURES))
    settings = dataclasses.replace(read_config(folder), layers=layers)  # type: ignore[arg-type]
    tokenizer = Tokenizer(folder)
    if tokenizer.size > settings.vocab:
        raise DataError(
            f"{folder}: its vocabulary has {tokenizer.size} tokens, its encoder {settings.vocab}; take both "
            "from the same encoder."
        )
    params = flax.traverse_util.unflatten_dict(read_weights(folder, settings), sep="/")
    return TextEncoder(folder.resolve().name, settings, jax.device_put(params), tokenizer)


def encode(
    encoder: TextEncoder, splits: Mapping[str, Split], stage: Stage
) -> tuple[dict[str, Split], list[str]]:
    """Puts the encoder's states into the place of the text features, and tokens beside them.

    A file that has text features or tokens keeps its number of text steps, so that modalities which
    were aligned word by word keep theirs; otherwise it is that of the longest text. Texts are cut to it,
    and to the encoder's positions.

    Args:
      encoder: from :func:`load`.
      splits: with transcripts.
      stage: shows the progress.

    Returns:
      The splits with new text features (zeros at padding), lengths and tokens, and what there is to say.
    """
    steps = _stored_steps(splits["train"])
    most = min(steps or encoder.settings.positions, encoder.settings.positions)
    tokens, notes = {}, []
    for name, split in splits.items():
        assert split.raw_text is not None  # the reader saw to it
        uncut = encoder.tokenizer(split.raw_text.tolist(), most + 1)
        if cut := int((uncut[:, 1].sum(axis=1) > most).sum()):
            notes.append(f"{name} text: {cut} transcripts were cut to {most} tokens.")
        tokens[name] = encoder.tokenizer(split.raw_text.tolist(), most)
    steps = steps or max(array.shape[2] for array in tokens.values())
    notes.append(f"text: {_FEATURES[encoder.settings.layers]} of {encoder.name} for the transcripts.")
    clips = sum(len(split) for split in splits.values())
    progress = stage("encoding text", 4 * clips * steps * encoder.settings.width)
    return {n: _with_text(encoder, split, tokens[n], steps, progress) for n, split in splits.items()}, notes


def _stored_steps(split: Split) -> int | None:
    """Text steps of a file that has text features or tokens."""
    _, steps, width = split.values["text"].shape
    return steps if width or split.tokens is not None else None


def _with_text(
    encoder: TextEncoder, split: Split, tokens: np.ndarray, steps: int, progress: Callable[[int], None]
) -> Split:
    """A split with the states of its tokens [N, 3, T], and both padded to ``steps``."""
    lengths = tokens[:, 1].sum(axis=1)
    values = np.zeros((len(tokens), steps, encoder.settings.width), np.float32)
    padded = np.zeros((len(tokens), 3, steps), np.int32)
    padded[:, :, : tokens.shape[2]] = tokens
    for rows, size, longest in _batches(lengths, steps):
        batch = np.zeros((size, 3, longest), np.int32)
        batch[: len(rows)] = padded[rows, :, :longest]
        states = _states(encoder.params, batch, settings=encoder.settings)
        values[rows, :longest] = np.asarray(states)[: len(rows)]
        progress(len(rows) * values[:1].nbytes)
    return dataclasses.replace(
        split,
        values={**split.values, "text": values},
        lengths={**split.lengths, "text": lengths.astype(np.int32)},
        tokens=padded,
    )


@functools.partial(jax.jit, static_argnames="settings")
def _states(params: Any, tokens: jax.Array, settings: BertSettings) -> jax.Array:
    """tokens int [B, 3, T] to states [B, T, D], zeros at padding."""
    ids, mask, segments = jnp.moveaxis(tokens, 1, 0)
    with jax.default_matmul_precision("highest"):
        model = text_encoder(settings)
        states: Any = model.apply({"params": params}, ids, mask == 1, segments, train=False)
    return jnp.where((mask == 1)[..., None], states, 0)


def _batches(lengths: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Clips of like lengths: their rows, how many rows a batch has, and how many steps.

    There are few shapes, since each is compiled: steps grow by a third or a half.
    """
    shorter, longest = 0, 8
    while shorter < steps:
        longest = min(longest, steps)
        rows = np.flatnonzero((lengths > shorter) & (lengths <= longest))
        size = max(1, _TOKENS // longest)
        for first in range(0, len(rows), size):
            yield rows[first : first + size], size, longest
        shorter, longest = longest, longest * 3 // 2 if longest & (longest - 1) == 0 else longest * 4 // 3
