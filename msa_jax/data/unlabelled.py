"""Reads clips to score, which need no labels: from a feature pickle, a part of one, or a store.

A pickle may hold

* splits, as in the public MMSA layout (:mod:`msa_jax.data.mmsa`), any of the three;
* the content of one split: clips without a split's name around them;
* one clip, without an axis for clips: ``text`` [T, D], ``audio`` [T, D], ``vision`` [T, D] and, where there
  are any, ``text_bert`` [3, T], ``raw_text``, ``audio_lengths``, ``vision_lengths`` and ``id``. A modality
  of which it has no step ([0, D]) has length 0.

How many steps are real, and what else is expected, is the same as in a file to train on.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from msa_jax.data import clean, store
from msa_jax.data.dataset import Split
from msa_jax.data.pickle import machine
from msa_jax.data.pickle.arrays import StoredArray
from msa_jax.data.section import Section
from msa_jax.data.spec import MODALITIES, SPLITS
from msa_jax.errors import DataError, nearest

_MOST_COLUMNS = 1 << 20
#: What a single clip may have, with an axis too few.
_CLIP_KEYS = (*MODALITIES, "raw_text", "text_bert", "audio_lengths", "vision_lengths")


def read(
    path: pathlib.Path,
    wanted: str = "all",
    needs_text: bool = True,
    labelled: bool = False,
    absent: Mapping[str, int] | None = None,
) -> tuple[dict[str, Split], list[str]]:
    """Reads the clips of a file or store.

    Args:
      path: a pickle, or a store's folder.
      wanted: "train", "valid", "test", or "all" that is there.
      needs_text: whether text features are required; a model that encodes the text itself needs none.
      labelled: whether labels are read, where there are any.
      absent: columns of the modalities that a pickle may do without, as its reader was trained for that.

    Returns:
      The splits by name, without labels unless these are asked for, and what the reader changed, one
      sentence each. What a pickle holds outside of splits comes under the name "".

    Raises:
      DataError: if nothing is there, it is damaged or hostile, holds no clips, or not those wanted.
    """
    if path.is_dir():
        return _chosen(path, store.read(path).splits, wanted), []
    content = machine.load(path)
    if not isinstance(content, dict) or not {*SPLITS, *MODALITIES} & set(content):
        names = sorted(k for k in content if isinstance(k, str)) if isinstance(content, dict) else []
        found = ", ".join(map(repr, names)) if names else "nothing of the kind"
        raise DataError(
            f"{path} holds no clips: expected a dict of splits ({', '.join(SPLITS)}), or the features "
            f"{', '.join(MODALITIES)} of one split or of one clip, found {found:.300}; save it so."
        )
    if set(SPLITS) & set(content):
        sections = _chosen(path, {name: content[name] for name in SPLITS if name in content}, wanted)
        silent = ()
    elif _is_clip(content):
        silent = tuple(m for m in MODALITIES if _without_steps(content.get(m)))
        sections = _chosen(path, {"": _as_split(path, content, silent)}, wanted)
    else:
        sections, silent = _chosen(path, {"": content}, wanted), ()
    required = ("id", *(m for m in MODALITIES if needs_text or m != "text"))
    notes: list[str] = []
    if not labelled:
        sections = {name: _unlabelled(section) for name, section in sections.items()}
    splits = {
        name: Section(path, name, section, notes, required, silent, absent).split()
        for name, section in sections.items()
    }
    return splits, [note.lstrip() for note in notes]


def broken_values(splits: Mapping[str, Split], modalities: tuple[str, ...]) -> Iterator[str]:
    """Yields what there is to say of NaN and infinities in real steps."""
    for name, split in splits.items():
        for m in modalities:
            summary = clean.summarise(split.values[m], split.lengths[m])
            nan, infinite = summary.nan, summary.infinite
            if (nan + infinite).any():
                yield (
                    f"{name} {m}: {nan.sum()} NaN and {infinite.sum()} infinite values in "
                    f"{((nan + infinite) > 0).sum()} columns"
                ).lstrip()


def _chosen(path: pathlib.Path, splits: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """The splits that are wanted."""
    if wanted == "all":
        return dict(splits)
    if wanted not in splits:
        held = "clips without splits" if "" in splits else f"only {', '.join(splits)}"
        raise DataError(f"{path} has no split {wanted!r}, {held}; ask for --split=all or another.")
    return {wanted: splits[wanted]}


def _is_clip(content: Mapping[str, Any]) -> bool:
    """Whether a dict of features holds one clip: tables [T, D], and no list of ids."""
    tables = [content[m] for m in MODALITIES if isinstance(content.get(m), StoredArray)]
    identity = content.get("id")
    several = isinstance(identity, list | tuple) or (
        isinstance(identity, StoredArray) and identity.shape != ()
    )
    return any(len(table.shape) == 2 for table in tables) and not several


def _without_steps(table: Any) -> bool:
    """Whether a clip's table is [0, D]; a D beyond all features is a damaged or hostile file's."""
    found = isinstance(table, StoredArray) and len(table.shape) == 2
    return found and table.shape[0] == 0 and 0 < table.shape[1] <= _MOST_COLUMNS


def _as_split(path: pathlib.Path, clip: Mapping[str, Any], silent: tuple[str, ...]) -> dict[str, Any]:
    """A split's content with the one clip; modalities without steps have one of zeros."""
    clip = {**clip, **{m: StoredArray.zeros(path, (1, clip[m].shape[1])) for m in silent}}
    split: dict[str, Any] = {"id": [clip.get("id", path.stem)]}
    for key in _CLIP_KEYS:
        if key in clip:
            split[key] = [clip[key]]
    absent = [m for m in MODALITIES if m not in clip]
    others = [k for k in clip if isinstance(k, str) and k not in split]
    for m in absent:
        if guess := nearest(m, others):
            raise DataError(f"{path} holds one clip, but no {m!r} of it; add it.{guess}")
    return split


def _unlabelled(section: Any) -> Any:
    """A split's content without its labels, which may be anything."""
    if not isinstance(section, dict):
        return section
    return {k: v for k, v in section.items() if not (isinstance(k, str) and k.partition("_labels")[1])}
