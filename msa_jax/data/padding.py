"""Where the real steps of a clip lie in its table: padding may stand in front or behind."""

import numpy as np

_CLIPS = 64  # clips that are looked at together


def used_steps(values: np.ndarray, behind: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The real steps of clips whose lengths are not known: from the first to the last step that is not
    all zeros, so that it does not matter on which side the padding is.

    Args:
      values: [N, T, D].
      behind: whether the padding is known to be behind; zeros in front are real steps then.

    Returns:
      Where they begin and how many there are, int32 [N] each; 0 and 0 for a clip of zeros, 0 and 1 where
      there is one step.
    """
    count, steps = values.shape[:2]
    if steps == 1:
        return np.zeros(count, np.int32), np.ones(count, np.int32)
    blocks = (values[first : first + _CLIPS] for first in range(0, count, _CLIPS))
    used = np.concatenate([(block != 0).any(axis=2) for block in blocks])
    starts = np.where(used.any(1), used.argmax(1), 0) * (not behind)
    ends = np.where(used.any(1), steps - used[:, ::-1].argmax(1), 0)
    return starts.astype(np.int32), (ends - starts).astype(np.int32)


def front_padding(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, int]:
    """How many steps of padding stand in front of clips whose lengths are known.

    With L real steps of T, the padding is in front where the first T - L steps are all zeros and
    something stands after step L. It is behind where one of those first steps holds something. A clip
    that begins and ends with zeros can be neither; it is read as all other clips of the split are, and
    where they do not agree, or tell as little, the padding counts as behind.

    Args:
      values: [N, T, D].
      lengths: int [N], real steps.

    Returns:
      int32 [N], and the number of clips that nothing decided.
    """
    steps = values.shape[1]
    starts = np.zeros(len(values), np.int32)
    padded = (lengths > 0) & (lengths < steps)
    # Most clips begin with something, which a look at their first step tells.
    empty_first = ~(np.asarray(values[:, 0]) != 0).any(axis=1)
    some_behind, open_rows = bool((padded & ~empty_first).any()), []
    for row in np.flatnonzero(padded & empty_first):
        used = np.flatnonzero((values[row] != 0).any(axis=1))
        if used.size and used[0] < steps - lengths[row]:
            some_behind = True
        elif used.size and used[-1] >= lengths[row]:
            starts[row] = steps - lengths[row]
        elif used.size:
            open_rows.append(row)
    some_front = bool(starts.any())
    if some_front and not some_behind:
        starts[open_rows] = steps - lengths[open_rows]
    return starts, len(open_rows) if some_front == some_behind else 0


def moved(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``values`` [N, T, ...] with each clip's step ``starts`` [N] first, zeros behind."""
    if not starts.any():
        return values
    result = np.array(values)
    for row in np.flatnonzero(starts):
        kept = values.shape[1] - starts[row]
        result[row, :kept] = values[row, starts[row] :]
        result[row, kept:] = 0
    return result
