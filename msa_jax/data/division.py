"""Divides the clips of a data set into train, valid and test so that no group crosses a border.

A group is what makes clips alike beyond what a model is to learn: clips of one video, of one speaker. Where
some of a group's clips are trained on and others tested, the score says how well the group is known.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from msa_jax.configuration import Config
from msa_jax.data.dataset import Split
from msa_jax.data.rows import Rows
from msa_jax.data.spec import MODALITIES, SPLITS
from msa_jax.errors import ConfigError, DataError

#: The values of ``data.split``.
SPLIT_KINDS = STORED, BY_GROUP = ("stored", "by_group")
#: The group that an id names, in front of what parts it from the clip's number in MMSA's files.
VIDEO, _PARTED = "video", "$_$"
#: What a column may be called: it names a file of a store too.
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Division:
    """How clips are divided.

    Attributes:
      group: "video", "id" (every clip for itself), or the column that names each clip's group.
      shares: of the clips, for train, valid and test.
      seed: groups are drawn by it.
      folds: K, into how many folds the groups are put; 0 for a single division by the shares.
      fold: the fold that is tested; train and valid share the rest.
    """

    group: str = VIDEO
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0
    folds: int = 0
    fold: int = 0

    @property
    def column(self) -> str:
        """The column that must be read for it; "" where ids are enough."""
        return "" if self.group in (VIDEO, "id") else self.group

    def assigned(self, groups: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of each split, int64 [n] in their order, of clips whose groups are ``groups``, str [N].

        What they depend on beside the division are the groups' names and sizes alone, so clips may come in
        any order.

        Raises:
          DataError: if there are too few groups.
        """
        _, of_clip, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        place = self._of_folds(sizes) if self.folds else self._of_shares(sizes)
        return {name: np.flatnonzero(place[of_clip] == k) for k, name in enumerate(SPLITS)}

    def _of_shares(self, sizes: np.ndarray) -> np.ndarray:
        """The number of each group's split, int [G]."""
        if len(sizes) < len(SPLITS):
            raise DataError(
                f"{_counted(sizes, self.group)}, too few for train, valid and test; name smaller groups with "
                "data.group, or split the data yourself."
            )
        return assign(sizes, self.shares, np.random.default_rng(self.seed))

    def _of_folds(self, sizes: np.ndarray) -> np.ndarray:
        """The same where the groups of one fold are the test split."""
        least = max(self.folds, 3)
        fold = np.zeros(len(sizes), np.int64)
        if len(sizes) >= least:
            fold = assign(sizes, [1 / self.folds] * self.folds, np.random.default_rng(self.seed))
        # Asked of every fold, so that the last one does not fail where the first has been trained.
        if len(sizes) < least or len(sizes) - np.bincount(fold).max() < 2:
            raise DataError(
                f"{_counted(sizes, self.group)}, too few for {self.folds} folds with training and validation "
                "beside each; take fewer data.folds, or name smaller groups with data.group."
            )
        place = np.full(len(sizes), SPLITS.index("test"))
        rest = np.flatnonzero(fold != self.fold)
        shares = np.array(self.shares[:2]) / sum(self.shares[:2])
        place[rest] = assign(sizes[rest], shares, np.random.default_rng([self.seed, self.fold]))
        return place


def _counted(sizes: np.ndarray, group: str) -> str:
    return f"the data has {len(sizes)} group{'s' * (len(sizes) != 1)} (data.group={group})"


def assign(sizes: np.ndarray, shares: Sequence[float] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts groups into parts so that these have their shares of the clips as nearly as whole groups allow.

    In a drawn order each group goes where most clips are wanted. Then single groups are moved, or two of
    different parts exchanged, as long as that lowers the sum of the squared differences between the parts'
    clips and those wanted.

    Args:
      sizes: int [G], clips per group, at least as many groups as parts.
      shares: [P], which add up to 1.
      rng: draws the order.

    Returns:
      int64 [G], the part of each group; no part is without one.
    """
    order = rng.permutation(len(sizes))
    drawn = sizes[order]
    over = -np.asarray(shares) * sizes.sum()  # clips that a part has beyond those wanted
    part = np.empty(len(sizes), np.int64)
    for group, size in enumerate(drawn):
        part[group] = np.argmin(over)
        over[part[group]] += size
    while found := _exchange(drawn, part, over):
        source, target, given, taken = found
        moved = [(np.flatnonzero((part == source) & (drawn == given))[0], target)]
        if taken:
            moved.append((np.flatnonzero((part == target) & (drawn == taken))[0], source))
        for group, place in moved:
            part[group] = place
        over[target] += given - taken
        over[source] -= given - taken
    result = np.empty_like(part)
    result[order] = part
    return result


def _exchange(sizes: np.ndarray, part: np.ndarray, over: np.ndarray) -> tuple[int, int, int, int] | None:
    """What brings the shares nearest: from, to, size of the group given, of that taken back or 0; or None.

    A part without a group gets one first, whatever that does to the shares.
    """
    counts = np.bincount(part, minlength=len(over))
    held = [np.unique(sizes[part == k]) for k in range(len(over))]
    best, found = (np.inf if not counts.all() else -1e-6), None
    for source, target in itertools.permutations(range(len(over)), 2):
        if not counts.all() and counts[target]:
            continue
        given = held[source]
        taken = np.append(0, held[target]) if counts[source] > 1 else held[target]
        if not len(given) or not len(taken):
            continue
        net = given[:, None] - taken[None, :]
        change = 2.0 * net * (net + over[target] - over[source])
        row, column = np.unravel_index(np.argmin(change), change.shape)
        if change[row, column] < best:
            best, found = change[row, column], (source, target, int(given[row]), int(taken[column]))
    return found


def videos_of(ids: np.ndarray) -> np.ndarray:
    """The VIDEO of ids [N] like VIDEO$_$CLIP, str [N]; "" where an id names none."""
    return np.array([clip.rpartition(_PARTED)[0] for clip in ids.tolist()], np.str_)


def groups_of(where: str, split: Split, group: str) -> np.ndarray:
    """The name of each clip's group, str [N].

    Args:
      where: the data, for messages.
      split: the clips.
      group: see :class:`Division`.

    Raises:
      DataError: if an id does not name a video, the column is not there, or a clip's group has no name.
    """
    if group == VIDEO:
        videos = videos_of(split.ids)
        for row in np.flatnonzero(videos == "")[:1]:
            raise DataError(
                f"{where}: the id {str(split.ids[row])!r:.80} does not name its video as VIDEO{_PARTED}CLIP "
                "does; give data.group=COLUMN with the key of a column that names each clip's group, or "
                "data.group=id to take every clip for itself."
            )
        return videos
    names = split.ids if group == "id" else split.clip_columns.get(group)
    if names is None:
        raise DataError(
            f"{where} has no column {group!r} beside its clips, which data.group asks for; add it, or keep "
            f"it in a store with 'msa-jax convert --group={group}'."
        )
    for row in np.flatnonzero(np.char.strip(names) == "")[:1]:
        what = "an empty id" if group == "id" else f"an empty {group!r}"
        raise DataError(f"{where}: clip {int(row)} ({str(split.ids[row])!r:.80}) has {what}; name its group.")
    return names


def pooled(splits: Mapping[str, Split]) -> Split:
    """All clips as one split, N of all of them; features stay where they are (:class:`Rows`)."""
    parts = list(splits.values())

    def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)

    def tables(field: str) -> dict[str, np.ndarray]:
        names = [name for name in getattr(parts[0], field) if all(name in getattr(p, field) for p in parts)]
        return {name: joined([getattr(part, field)[name] for part in parts]) for name in names}

    return Split(
        ids=joined([part.ids for part in parts]),
        values={m: Rows.of([part.values[m] for part in parts]) for m in MODALITIES},
        lengths=tables("lengths"),
        labels=tables("labels"),
        classes=tables("classes"),
        tokens=_optional([part.tokens for part in parts]),
        raw_text=_optional([part.raw_text for part in parts]),
        clip_columns=tables("clip_columns"),
        media=_optional([part.media for part in parts]),
    )


def _optional(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if len(there) == len(arrays) else None


def _taken(split: Split, rows: np.ndarray) -> Split:
    """The clips of some rows."""
    return Split(
        ids=split.ids[rows],
        values={m: values.take(rows) for m, values in split.values.items()},
        lengths={m: lengths[rows] for m, lengths in split.lengths.items()},
        labels={task: label[rows] for task, label in split.labels.items()},
        classes={task: label[rows] for task, label in split.classes.items()},
        tokens=None if split.tokens is None else split.tokens[rows],
        raw_text=None if split.raw_text is None else split.raw_text[rows],
        clip_columns={name: column[rows] for name, column in split.clip_columns.items()},
        media=None if split.media is None else split.media[rows],
    )


def divide(where: str, splits: Mapping[str, Split], division: Division) -> tuple[dict[str, Split], str]:
    """The clips of all splits in train, valid and test, and a sentence on how.

    Args:
      where: the data, for messages.
      splits: one or more, which have the same steps and columns.
      division: says how.

    Raises:
      DataError: as :func:`groups_of` and :meth:`Division.assigned`.
    """
    whole = pooled(splits)
    groups = groups_of(where, whole, division.group)
    try:
        rows = division.assigned(groups)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    held = f"{', '.join(splits)} pooled" if len(splits) > 1 else "one block"
    counts = ", ".join(f"{n} {len(at)} of {len(np.unique(groups[at]))}" for n, at in rows.items())
    fold = f" as fold {division.fold} of {division.folds}" if division.folds else ""
    note = (
        f"{held}, and divided{fold} by {division.group} (data.split=by_group): {len(whole)} clips of "
        f"{len(np.unique(groups))} groups; {counts}."
    )
    return {name: _taken(whole, at) for name, at in rows.items()}, note


def division_of(data: Config) -> Division | None:
    """What a configuration's block of data asks for; None for the splits that the data has."""
    if data.get("split", STORED) == STORED:  # older configurations have none
        return None
    shares = tuple(map(float, data.split_shares))
    return Division(data.group, shares, data.split_seed, data.folds, data.fold)  # type: ignore[arg-type]


def check_setting(data: Config) -> None:
    """Checks what a configuration says of the division, before data is read.

    Raises:
      ConfigError: for settings that do not go together.
    """
    if data.folds == 1:
        raise ConfigError("data.folds=1 must be 0, for none, or at least 2.")
    if data.folds and data.split != BY_GROUP:
        raise ConfigError(f"data.folds={data.folds} needs data.split=by_group.")
    if data.fold and data.fold >= data.folds:
        most = f"a fold from 0 to {data.folds - 1}" if data.folds else "0, since data.folds=0"
        raise ConfigError(f"data.fold={data.fold} must be {most}.")
    if data.split == BY_GROUP and data.source == "synthetic":
        raise ConfigError("data.split=by_group is for data of a file; generated clips have splits.")
