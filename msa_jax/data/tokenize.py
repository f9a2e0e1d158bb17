"""Transcripts to the token ids of an encoder, by the tokenizer's files in its folder (the [text] extra)."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from msa_jax.data import vocabulary
from msa_jax.data.context import with_context
from msa_jax.data.dataset import Dataset
from msa_jax.errors import DataError
from msa_jax.messages import LOGGER


class Tokenizer:
    """The tokenizer of one encoder; :mod:`msa_jax.data.vocabulary` says which files it is made from.

    Args:
      folder: the encoder's.

    Attributes:
      size: number of ids, up to the largest.
      padding: the id of padding.
      unknown: the id of the token that stands for lost words.
      first: the id of the token before every text.
      last: the id of the token behind every text.

    Raises:
      DataError: if the extra is not installed, or the folder has no vocabulary or a broken one.
    """

    def __init__(self, folder: str | pathlib.Path):
        folder = pathlib.Path(folder)
        self._backend = vocabulary.backend(folder)
        tokens = vocabulary.vocabulary(folder)
        self.size = max(tokens.values()) + 1
        self.padding = vocabulary.special_token(folder, tokens, "pad_token")
        self.unknown = vocabulary.special_token(folder, tokens, "unk_token", "mask_token")
        alone = self._backend.encode("").ids
        if len(alone) != 2:
            raise DataError(
                f"the tokenizer in {folder} puts {len(alone)} tokens around a text, not one at each "
                "end; give the folder of an encoder."
            )
        self.first, self.last = alone

    def __call__(self, texts: Sequence[str], most: int) -> np.ndarray:
        """Token ids of N texts as ``text_bert`` holds them.

        Args:
          texts: N strings.
          most: tokens that a text may have, the first and the last included; at least 2. What is beyond is
            cut.

        Returns:
          int32 [N, 3, T]: ids, mask and segment ids (zeros); T is the longest text's number of tokens.
        """
        encoded = self._backend.encode_batch([str(text) for text in texts], add_special_tokens=False)
        rows = [[self.first, *item.ids[: most - 2], self.last] for item in encoded]
        tokens = np.zeros((len(rows), 3, max(map(len, rows), default=0)), np.int32)
        tokens[:, 0] = self.padding
        for row, ids in zip(tokens, rows, strict=True):
            row[0, : len(ids)] = ids
            row[1, : len(ids)] = 1
        return tokens

    def spans(self, texts: Sequence[str], most: int) -> list[list[tuple[int, int]]]:
        """The characters of each text that its tokens stand for, from the first to before the last.

        Args:
          texts: N strings.
          most: as for calling it.

        Returns:
          Of each text a pair per token, without the blanks before it; (0, 0) for the first and the last.
        """
        texts = [str(text) for text in texts]
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        around = (0, 0)
        return [
            [around, *(_trimmed(text, *span) for span in item.offsets[: most - 2]), around]
            for text, item in zip(texts, encoded, strict=True)
        ]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters without blanks before them; of nothing but blanks the last."""
    word = text[start:end].lstrip()
    return end - max(len(word), 1), end


@dataclasses.dataclass(frozen=True)
class TokenSource:
    """What a model that trains its text encoder reads in place of text features.

    Attributes:
      folder: the encoder's, whose vocabulary makes tokens of transcripts; "" where there is none.
      vocab: entries of the encoder's vocabulary.
      positions: tokens that a text may have; transcripts are cut to them.
      kind: the encoder's. Token ids in public files are BERT's, so that other kinds look whose they are.
      context: utterances before a clip's own that its tokens also hold (:mod:`msa_jax.data.context`).
    """

    folder: str
    vocab: int
    positions: int
    kind: str = "bert"
    context: int = 0

    @property
    def looks(self) -> bool:
        """Whether stored tokens are held against the encoder's tokenizer."""
        return bool(self.folder) and self.kind != "bert"


@functools.lru_cache(maxsize=2)
def tokenizer_of(folder: str) -> Tokenizer:
    """The tokenizer of a folder, which a server needs for every clip.

    Raises:
      DataError: as :class:`Tokenizer`.
    """
    return Tokenizer(folder)


def with_tokens(dataset: Dataset, source: TokenSource) -> Dataset:
    """The data set as a model with an encoder reads it: with tokens, and without text features.

    Where the data has no tokens, its transcripts are made into tokens by the encoder's own vocabulary. So
    they are where an encoder that is no BERT finds tokens of another vocabulary, see :func:`_are_of`.

    Raises:
      DataError: if there are neither tokens nor transcripts, or the tokens are of another vocabulary.
    """
    if not dataset.spec.has_tokens:
        dataset = _tokenised(dataset, source)
    elif source.looks and not _are_of(tokenizer_of(source.folder), dataset):
        if any(split.raw_text is None for split in dataset.splits.values()):
            raise DataError(
                f"{dataset.spec.name} holds token ids (text_bert) that the encoder's tokenizer did not make, "
                "and no transcripts (raw_text) to make others of; take the encoder whose tokenizer made them."
            )
        LOGGER.info(
            "note: the token ids of %s are of another vocabulary; the transcripts are read.",
            dataset.spec.name,
        )
        dataset = _tokenised(dataset, source)
    most = max(int(np.max(np.asarray(s.tokens)[:, 0], initial=0)) for s in dataset.splits.values())
    if most >= source.vocab:
        raise DataError(
            f"{dataset.spec.name} holds token id {most}, but the encoder's vocabulary has "
            f"{source.vocab} entries; take the encoder whose tokenizer made the ids."
        )
    # RoBERTa's tokenizer puts two separators between sentences, the others one.
    between = int(source.kind == "roberta")
    dataset = with_context(dataset, source.context, source.positions, between)
    splits = {}
    for name, split in dataset.splits.items():
        empty = np.zeros((*split.values["text"].shape[:2], 0), np.float32)
        splits[name] = dataclasses.replace(split, values={**split.values, "text": empty})
    text = dataclasses.replace(dataset.spec.modalities["text"], width=0, groups={}, mean=(), std=())
    spec = dataclasses.replace(dataset.spec, modalities={**dataset.spec.modalities, "text": text})
    return dataclasses.replace(dataset, spec=spec, splits=splits)


#: Clips of a split whose stored tokens are held against their transcripts.
_LOOKED_AT = 64


def _are_of(tokenizer: Tokenizer, dataset: Dataset) -> bool:
    """Whether the stored token ids may have been made by this tokenizer, as far as that can be known.

    They are not if texts begin and end with two other tokens than it puts there, or if, where there are
    transcripts, it makes other tokens of most of them. (Some may differ: texts are cleaned in many ways
    before they are tokenised.) Texts that begin and end with the same token are by no tokenizer, so that
    nothing is known.
    """
    for split in dataset.splits.values():
        tokens = np.asarray(split.tokens)
        counts = tokens[:, 1].sum(axis=1)
        rows = np.flatnonzero(counts >= 2)
        ids = tokens[rows, 0]
        first, last = ids[:, 0], ids[np.arange(len(rows)), counts[rows] - 1]
        others = (first != tokenizer.first) | (last != tokenizer.last)
        if np.any(others & (first != last)):
            return False
        if split.raw_text is None or not len(rows):
            continue
        looked = rows[:_LOOKED_AT]
        made = tokenizer([str(split.raw_text[row]) for row in looked], int(counts[looked].max()))
        same = 0
        for ours, row in zip(made, looked, strict=True):
            inside = counts[row] - 1  # a stored text may be cut before its last token
            same += np.array_equal(ours[0, :inside], tokens[row, 0, :inside])
        if 2 * same < len(looked):
            return False
    return True


def _tokenised(dataset: Dataset, source: TokenSource) -> Dataset:
    if not source.folder or any(split.raw_text is None for split in dataset.splits.values()):
        raise DataError(
            f"{dataset.spec.name} has no token ids (text_bert), and transcripts (raw_text) with an encoder's "
            "folder (model.encoder.folder) are not there either; set model.text_encoder=frozen."
        )
    tokenizer = tokenizer_of(source.folder)
    made = {
        name: tokenizer(list(split.raw_text), source.positions)  # type: ignore[arg-type]
        for name, split in dataset.splits.items()
    }
    steps = max(tokens.shape[2] for tokens in made.values())
    splits = {}
    for name, split in dataset.splits.items():
        tokens = np.pad(made[name], ((0, 0), (0, 0), (0, steps - made[name].shape[2])))
        lengths = {**split.lengths, "text": tokens[:, 1].sum(axis=1, dtype=np.int32)}
        values = {**split.values, "text": np.zeros((len(split), steps, 0), np.float32)}
        splits[name] = dataclasses.replace(split, values=values, lengths=lengths, tokens=tokens)
    text = dataclasses.replace(dataset.spec.modalities["text"], length=steps)
    spec = dataclasses.replace(
        dataset.spec, modalities={**dataset.spec.modalities, "text": text}, has_tokens=True
    )
    return dataclasses.replace(dataset, spec=spec, splits=splits)
