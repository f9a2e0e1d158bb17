"""Which steps of a text are which words."""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from msa_jax.data.context import own_tokens
from msa_jax.data.dataset import Split
from msa_jax.data.tokenize import Tokenizer
from msa_jax.data.vocabulary import Words
from msa_jax.explain.reasons import Stretch


def words_of(split: Split, folder: pathlib.Path) -> list[list[Stretch] | None]:
    """The words of N clips as steps of their text, between the first and the last token.

    Args:
      split: with token ids, or with transcripts, which are made into tokens.
      folder: of the encoder whose vocabulary made the ids or the text features.

    Returns:
      Per clip its words; None where the clip has another number of tokens than steps of text, so that nobody
      can tell which step is which word.

    Raises:
      DataError: if the folder has no vocabulary or a broken one.
    """
    words, tokens = Words(folder), split.tokens
    if tokens is None and split.raw_text is not None:
        tokens = Tokenizer(folder)(list(split.raw_text), max(split.values["text"].shape[1], 2))
    if tokens is None:
        return [None] * len(split)
    counts = own_tokens(np.asarray(tokens))
    found: list[list[Stretch] | None] = []
    for ids, count, steps in zip(np.asarray(tokens)[:, 0], counts, split.lengths["text"], strict=True):
        found.append(_joined(ids[:count].tolist(), words) if count == steps else None)
    return found


def _joined(ids: Sequence[int], words: Words) -> list[Stretch]:
    starts = [place for place in range(1, len(ids) - 1) if place == 1 or not words.goes_on(ids[place])]
    bounds = [*starts, len(ids) - 1]  # of an empty text there are none, or the last token alone
    return [Stretch(i, j, words.text(ids[i:j])) for i, j in itertools.pairwise(bounds)]
