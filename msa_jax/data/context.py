"""The utterances before a clip's own, for the text encoder to read beside it (``data.context``).

What somebody says often depends on what was said before: Zadeh et al. 2017 and Poria et al. 2017 read the
neighbouring utterances of a video. Here the k before stand behind the clip's own tokens, the nearest first,
as an encoder's tokenizer puts a second sentence behind the first: ``[CLS] own [SEP] nearest [SEP] one
before [SEP]``. The clip's own tokens thus keep their places, and they alone go on into a model
(:class:`msa_jax.models.text.TextStates`).

A row of tokens says by itself what is what: its mask is 1 at the clip's own tokens, :data:`CONTEXT` at those
of utterances before, and 0 at padding.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.division import videos_of

#: In a row's mask: the token is of an utterance before.
CONTEXT = 2
_DIGITS = re.compile(r"(\d+)")


def own_tokens(tokens: np.ndarray) -> np.ndarray:
    """How many tokens [N] are the clips' own.

    Args:
      tokens: int [N, 3, S]: ids, mask, segment ids.
    """
    return (tokens[:, 1] == 1).sum(axis=1, dtype=np.int32)


def tokens_behind(tokens: np.ndarray) -> np.ndarray:
    """How many tokens [N] are of utterances before; see :func:`own_tokens`."""
    return (tokens[:, 1] == CONTEXT).sum(axis=1, dtype=np.int32)


def utterances_before(ids: np.ndarray, videos: np.ndarray, most: int) -> list[list[int]]:
    """The clips of the same video that come right before each clip.

    Args:
      ids: str [N]. Inside a video they are ordered as people count: "V$_$2" is before "V$_$10".
      videos: str [N], the video of each clip; "" where nobody knows, which has nothing before it.
      most: k.

    Returns:
      Per clip at most k rows, the nearest first.
    """
    order = sorted(range(len(ids)), key=lambda row: (str(videos[row]), _counted(str(ids[row])), row))
    found: list[list[int]] = [[] for _ in ids]
    for place, row in enumerate(order):
        before = order[max(place - most, 0) : place]
        found[row] = [other for other in reversed(before) if videos[other] == videos[row] != ""]
    return found


def with_context(dataset: Dataset, most: int, positions: int, between: int = 0) -> Dataset:
    """The data set whose tokens also hold the utterances before.

    Each split looks into itself alone.

    Args:
      dataset: with tokens; a clip's own are at most ``positions``. Clips whose id names no video have nothing
        before them.
      most: k, how many utterances before; 0 changes nothing.
      positions: tokens that the encoder reads; the farthest words of the context are cut.
      between: further separators between a clip's own tokens and those before, which RoBERTa's tokenizer
        puts there.
    """
    if not most:
        return dataset
    splits = {name: _extended(split, most, positions, between) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, spec=dataclasses.replace(dataset.spec, context=most), splits=splits)


def _extended(split: Split, most: int, positions: int, between: int) -> Split:
    assert split.tokens is not None
    tokens = np.asarray(split.tokens)
    own = own_tokens(tokens)
    rows = [
        _joined(tokens, own, row, before, positions, between)
        for row, before in enumerate(utterances_before(split.ids, videos_of(split.ids), most))
    ]
    steps = max(tokens.shape[2], *(row.shape[1] for row in rows))
    made = np.zeros((len(rows), 3, steps), np.int32)
    for number, row in enumerate(rows):
        made[number, :, : row.shape[1]] = row
    return dataclasses.replace(split, tokens=made)


def _joined(
    tokens: np.ndarray, own: np.ndarray, row: int, before: Sequence[int], positions: int, between: int
) -> np.ndarray:
    """One clip's ids, mask and segment ids without padding, [3, at most ``positions``]."""
    ids = [tokens[row, 0, : own[row]]]
    if before and own[row]:  # a clip without words does not get those of others
        ids.append(np.repeat(ids[0][-1:], between))
        ids += [tokens[other, 0, 1 : own[other]] for other in before]  # without their first token, [CLS]
    behind = sum(map(len, ids[1:]))
    mask = np.repeat([1, CONTEXT], [own[row], behind])
    segments = np.concatenate([tokens[row, 2, : own[row]], np.ones(behind, np.int32)])
    return np.stack([np.concatenate(ids), mask, segments])[:, :positions].astype(np.int32)


def _counted(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that orders texts with their numbers as numbers."""
    parts = _DIGITS.split(name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part)
