"""Audio and vision averaged down to the steps of the text, for models that read all three in step."""

import numpy as np


def align(values: np.ndarray, lengths: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
    """Spreads each clip's own frames evenly over its own words, in order.

    Of a clip with L frames and W words, word j gets the mean of the frames from floor(j L / W) to
    before ceil((j + 1) L / W): every frame counts, and where frames are fewer than words they repeat.

    Args:
      values: [n, T, D]; padding of any content.
      lengths: int [n], real frames L.
      targets: int [n], words W.
      steps: padded words of the result.

    Returns:
      [n, steps, D] in the dtype of ``values``; 0 past a clip's words, and where it has no frames.
    """
    n, _, width = values.shape
    real = np.arange(values.shape[1]) < lengths[:, None]
    sums = np.zeros((n, values.shape[1] + 1, width))
    np.cumsum(np.where(real[:, :, None], values, 0), axis=1, dtype=np.float64, out=sums[:, 1:])
    word = np.arange(steps)[None, :]
    frames, words = lengths[:, None].astype(np.int64), np.maximum(targets, 1)[:, None]
    first = np.minimum(word * frames // words, frames)
    last = np.minimum(-(-(word + 1) * frames // words), frames)
    clip = np.arange(n)[:, None]
    mean = (sums[clip, last] - sums[clip, first]) / np.maximum(last - first, 1)[:, :, None]
    within = (word < targets[:, None]) & (last > first)
    return np.where(within[:, :, None], mean, 0).astype(values.dtype)


def align_as_mmsa(values: np.ndarray, steps: int, in_order: bool = False) -> np.ndarray:
    """What the MMSA toolkit does instead, on all T frames of every clip, padding included.

    The last frame is repeated until the frames divide by ``steps``. Its released version then
    averages the frames j, j + steps, j + 2 steps, ... into step j, which loses their order.

    Args:
      values: [n, T, D].
      steps: steps of the result.
      in_order: average consecutive frames, as its later, unreleased version does.

    Returns:
      [n, steps, D] in the dtype of ``values``; ``values`` itself where T is ``steps`` already.
    """
    n, frames, width = values.shape
    if frames == steps:
        return values
    per_step = -(-frames // steps)
    filler = np.repeat(values[:, -1:], per_step * steps - frames, axis=1)
    filled = np.concatenate([values, filler], axis=1)
    if in_order:
        return filled.reshape(n, steps, per_step, width).mean(axis=2, dtype=values.dtype)
    return filled.reshape(n, per_step, steps, width).mean(axis=1, dtype=values.dtype)
