"""Audio and vision averaged down to the steps of the text, for models that read all three in step.

For NumPy's arrays and JAX's, as in :mod:`msa_jax.data.clean`.
"""

from typing import Any

import numpy as np

from msa_jax.data.clean import sums_in


def align(values: Any, lengths: Any, targets: Any, steps: Any) -> Any:
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
    xp = values.__array_namespace__()
    word, frame = xp.arange(steps)[None, :, None], xp.arange(values.shape[1])[None, None, :]
    frames, words = lengths[:, None, None], targets[:, None, None]
    # floor(j L / W) <= t < ceil((j + 1) L / W), without the divisions, which ONNX rounds otherwise.
    mine = ((frame + 1) * words > word * frames) & (frame * words < (word + 1) * frames)
    mine = mine & (frame < frames) & (word < words)  # [n, steps, T]
    kind = sums_in(values)
    share = mine / xp.maximum(mine.sum(axis=2, keepdims=True), 1).astype(kind)
    real = xp.where((frame < frames)[:, 0, :, None], values, 0)
    # An accelerator would otherwise multiply in fewer digits.
    exact = {} if xp is np else {"precision": "highest"}
    return xp.matmul(share.astype(kind), real, **exact).astype(values.dtype)


def align_as_mmsa(values: Any, steps: int, in_order: bool = False) -> Any:
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
    xp = values.__array_namespace__()
    n, frames, width = values.shape
    if frames == steps:
        return values
    per_step = -(-frames // steps)
    filler = xp.repeat(values[:, -1:], per_step * steps - frames, axis=1)
    filled = xp.concatenate([values, filler], axis=1)
    shape, axis = ((steps, per_step), 2) if in_order else ((per_step, steps), 1)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs have NaN as mean
        return filled.reshape(n, *shape, width).mean(axis=axis, dtype=values.dtype)
