"""What a clip's score would be without one group of its columns."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES, DatasetSpec


@dataclasses.dataclass(frozen=True)
class Effect:
    """How much a group of columns moved a score.

    Attributes:
      modality: "text", "audio" or "vision".
      group: of its columns; "" for the whole modality, where its columns have no groups.
      effect: the score less what it is with the group hidden; above 0: the group raised the score. For
        classes, of the probability of the class that is predicted.
    """

    modality: str
    group: str
    effect: float


def group_effects(
    clip: Split, spec: DatasetSpec, score: Callable[[Split], Mapping[str, np.ndarray]]
) -> list[Effect]:
    """Hides one group of columns after the other, at its mean over the training split.

    Text is hidden as a whole: text features by their means, the text of a model that encodes it itself by an
    empty transcript. A modality without steps in the clip has no effect and is left out.

    Args:
      clip: one clip, as it is stored.
      spec: of the training data, with statistics.
      score: gives the predictions of a split; called once.

    Returns:
      The effects, the largest first.
    """
    hidden = list(_hidden(clip, spec))
    answer = np.asarray(score(_joined([clip, *(variant for _, _, variant in hidden)]))["M"], np.float64)
    if answer.ndim == 2:
        powers = np.exp(answer - answer.max(axis=1, keepdims=True))
        answer = (powers / powers.sum(axis=1, keepdims=True))[:, answer[0].argmax()]
    effects = [
        Effect(modality, group, float(answer[0] - y))
        for (modality, group, _), y in zip(hidden, answer[1:], strict=True)
    ]
    return sorted(effects, key=lambda effect: -abs(effect.effect))


def _hidden(clip: Split, spec: DatasetSpec) -> Iterator[tuple[str, str, Split]]:
    """Modality and group, and the clip without it."""
    for m in MODALITIES:
        modality = spec.modalities[m]
        if not clip.lengths[m][0]:
            continue
        if m == "text" and clip.raw_text is not None and not clip.values[m].shape[2]:
            yield m, "", dataclasses.replace(clip, raw_text=np.array([""]), tokens=None)
            continue
        groups = dict(modality.groups) if m != "text" else {}
        for group, columns in (groups or {"": tuple(range(modality.width))}).items():
            values = np.array(clip.values[m], np.float32)
            values[:, :, list(columns)] = np.asarray(modality.mean, np.float32)[list(columns)]
            yield m, group, dataclasses.replace(clip, values={**clip.values, m: values})


def _joined(clips: list[Split]) -> Split:
    """Single clips of one shape as one split."""

    def stacked(arrays: list[Any]) -> np.ndarray | None:
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    return Split(
        np.arange(len(clips)).astype(str),
        {m: np.concatenate([clip.values[m] for clip in clips]) for m in MODALITIES},
        {m: np.concatenate([clip.lengths[m] for clip in clips]) for m in MODALITIES},
        {},
        tokens=stacked([clip.tokens for clip in clips]),
        raw_text=stacked([clip.raw_text for clip in clips]),
    )
