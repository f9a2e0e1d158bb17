"""Which steps of a text are which words."""

import pathlib
from collections.abc import Sequence

import numpy as np

from msa_jax.data.context import own_tokens
from msa_jax.data.dataset import Split
from msa_jax.data.tokenize import Tokenizer, token_names
from msa_jax.explain.reasons import Stretch

#: What a piece of a word begins with that goes on with the one before.
_GOES_ON = "##"


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
    names, tokens = token_names(folder), split.tokens
    if tokens is None and split.raw_text is not None:
        tokens = Tokenizer(folder)(list(split.raw_text), max(split.values["text"].shape[1], 2))
    if tokens is None:
        return [None] * len(split)
    counts = own_tokens(np.asarray(tokens))
    found: list[list[Stretch] | None] = []
    for ids, count, steps in zip(np.asarray(tokens)[:, 0], counts, split.lengths["text"], strict=True):
        pieces = [names.get(int(number), "?") for number in ids[:count]]
        found.append(_joined(pieces) if count == steps else None)
    return found


def _joined(pieces: Sequence[str]) -> list[Stretch]:
    words: list[Stretch] = []
    for place, piece in enumerate(pieces[1:-1], start=1):
        if piece.startswith(_GOES_ON) and words:
            last = words.pop()
            words.append(Stretch(last.start, place + 1, last.label + piece.removeprefix(_GOES_ON)))
        else:
            words.append(Stretch(place, place + 1, piece))
    return words
