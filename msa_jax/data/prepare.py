"""From a data set as it is stored to the one that a model asks for.

Some models read audio and vision as one vector per clip, or in step with the text. That is done
once, for the whole data set, before training; so no step ever touches the frames again.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from msa_jax.data import clean
from msa_jax.data.align import align, align_as_mmsa
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import DataError

REDUCTIONS = ("none", "mean", "align", "mean_align")
#: Clips that are reduced together.
_BLOCK = 64


def reduced_spec(spec: DatasetSpec, reduce: str) -> DatasetSpec:
    """The description of the data set after :func:`reduce_dataset`."""
    if reduce == "none":
        return spec
    length = 1 if reduce == "mean" else spec.modalities["text"].length
    modalities = {
        name: modality if name == "text" else dataclasses.replace(modality, length=length)
        for name, modality in spec.modalities.items()
    }
    return dataclasses.replace(spec, modalities=modalities)


def reduce_dataset(dataset: Dataset, reduce: str, compat: bool) -> Dataset:
    """Reduces audio and vision of every split.

    Args:
      dataset: as stored.
      reduce: "none"; "mean", over a clip's real steps; "align", down to the text's steps (see
        :func:`~msa_jax.data.align.align`); "mean_align", the same as "align".
      compat: do as the MMSA toolkit: over all stored steps, padding included, in scrambled order
        (:func:`~msa_jax.data.align.align_as_mmsa`), and for "mean_align" repeat the mean, which is
        what it feeds MFN.

    Returns:
      The data set; a clip without audio or vision has zeros there.
    """
    if reduce == "none":
        return dataset
    splits = {name: _reduce_split(split, reduce, compat) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, spec=reduced_spec(dataset.spec, reduce), splits=splits)


def _reduce_split(split: Split, reduce: str, compat: bool) -> Split:
    words, steps = np.asarray(split.lengths["text"]), split.values["text"].shape[1]

    def averaged(name: str, raw: np.ndarray, rows: slice) -> np.ndarray:
        block = clean.as_mmsa(raw, name) if compat else clean.finite(raw)
        return clean.time_mean(block, split.lengths[name][rows], compat)

    def aligned(name: str, raw: np.ndarray, rows: slice) -> np.ndarray:
        if not compat:
            return align(clean.finite(raw), split.lengths[name][rows], words[rows], steps)
        block = averaged(name, raw, rows) if reduce == "mean_align" else clean.as_mmsa(raw, name)
        return align_as_mmsa(block, steps)

    values, lengths = dict(split.values), dict(split.lengths)
    for name in ("audio", "vision"):
        if reduce == "mean":
            values[name] = _blockwise(split.values[name], 1, name, averaged)
            lengths[name] = np.ones(len(split), np.int32)
        else:
            values[name] = _blockwise(split.values[name], steps, name, aligned)
            lengths[name] = words
    return dataclasses.replace(split, values=values, lengths=lengths)


def _blockwise(
    values: np.ndarray, steps: int, name: str, reduce: Callable[[str, np.ndarray, slice], np.ndarray]
) -> np.ndarray:
    """[N, T, D], possibly on disk, to [N, steps, D] in memory, a few clips at a time."""
    result = np.empty((len(values), steps, values.shape[2]), np.float32)
    for start in range(0, len(values), _BLOCK):
        rows = slice(start, start + _BLOCK)
        result[rows] = reduce(name, np.asarray(values[rows], np.float32), rows)
    return result


def as_classes(dataset: Dataset) -> Dataset:
    """The data set with class numbers (0 negative, 1 neutral, 2 positive) in place of scores.

    Class labels of the file are taken where it has them; other classes follow from the score and
    ``spec.class_edges``.

    Raises:
      DataError: if the training split has clips of one class only.
    """
    low, high = dataset.spec.class_edges

    def classes_of(split: Split) -> Split:
        labels = {}
        for task, score in split.labels.items():
            derived = (score >= low).astype(np.float32) + (score > high)
            labels[task] = np.asarray(split.classes.get(task, derived), np.float32)
        return dataclasses.replace(split, labels=labels)

    splits = {name: classes_of(split) for name, split in dataset.splits.items()}
    if len(np.unique(splits["train"].labels["M"])) < 2:
        raise DataError(
            f"the training split of {dataset.spec.name} holds clips of one class only, so there is nothing "
            "to classify; check its labels, or train with model.task=regression."
        )
    return dataclasses.replace(dataset, splits=splits, best_reachable={})
