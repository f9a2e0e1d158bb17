"""From a data set as it is stored to the one that a model asks for.

Some models read audio and vision as one vector per clip, or in step with the text. That is done
once, for the whole data set, before training; so no step ever touches the frames again.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from msa_jax.data import clean
from msa_jax.data.align import align, align_as_mmsa
from msa_jax.data.classes import classes_of_scores, contradiction
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import THREE_CLASSES, TWO_CLASSES, DatasetSpec, edges_of
from msa_jax.errors import ConfigError, DataError

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


def as_classes(dataset: Dataset, count: int = 0) -> Dataset:
    """The data set with class numbers in place of scores.

    Class labels of the file are taken where it has so many classes; two or three classes follow from the
    scores otherwise (see :func:`~msa_jax.data.classes.classes_of_scores`).

    Args:
      dataset: as stored.
      count: how many classes; 0: those of the class labels, or three.

    Returns:
      The data set, whose ``spec.class_names`` are those that it is trained on, and whose tasks those
      that have classes.

    Raises:
      ConfigError: if the data has another number of classes.
      DataError: if there are none, they contradict the scores, or the training split has one only.
    """
    spec = dataset.spec
    stored = _has(dataset, "M")
    if stored and not spec.class_names:
        spec = dataclasses.replace(spec, class_names=THREE_CLASSES)
    told = edges_of(spec.metrics, spec.label_range) is not None
    if stored and count in (0, len(spec.class_names)):
        names = spec.class_names
        if odd := contradiction(dataset.splits, names):
            raise DataError(f"{spec.name}: {odd}")
    else:
        names = _names_from_scores(spec, count, stored, told)
    # What a file's own classes have no scores for is no task.
    derives = told and names in (TWO_CLASSES, THREE_CLASSES)
    use = {t: stored and names == spec.class_names and _has(dataset, t) for t in spec.tasks}
    tasks = tuple(task for task in spec.tasks if use[task] or derives)

    def classes_of(split: Split) -> Split:
        labels = {
            t: split.classes[t] if use[t] else classes_of_scores(split.labels[t], spec, len(names))
            for t in tasks
        }
        return dataclasses.replace(split, labels={t: np.asarray(y, np.float32) for t, y in labels.items()})

    splits = {name: classes_of(split) for name, split in dataset.splits.items()}
    if len(np.unique(splits["train"].labels["M"])) < 2:
        raise DataError(
            f"the training split of {dataset.spec.name} holds clips of one class only, so there is nothing "
            "to classify; check its labels, or train with model.task=regression."
        )
    spec = dataclasses.replace(spec, tasks=tasks, class_names=names)
    return dataclasses.replace(dataset, spec=spec, splits=splits, best_reachable={})


def _has(dataset: Dataset, task: str) -> bool:
    return all(task in split.classes for split in dataset.splits.values())


def _names_from_scores(spec: DatasetSpec, count: int, stored: bool, told: bool) -> tuple[str, ...]:
    """The names of ``count`` classes that follow from scores."""
    names = {0: THREE_CLASSES, 2: TWO_CLASSES, 3: THREE_CLASSES}.get(count)
    if stored and (names is None or not told):
        raise ConfigError(
            f"model.classes={count}, but {spec.name} has {len(spec.class_names)} classes "
            f"({', '.join(spec.class_names):.200}); set model.classes={len(spec.class_names)}, or 0 for as "
            "many as the data has."
        )
    if spec.class_names not in ((), TWO_CLASSES, THREE_CLASSES) and count in (0, len(spec.class_names)):
        raise DataError(
            f"{spec.name} has no class labels for the classes {', '.join(spec.class_names):.200}; add "
            "classification_labels, or leave data.class_names out."
        )
    if names is None:
        raise ConfigError(
            f"model.classes={count}, but {spec.name} has no class labels, and scores give 2 or 3 classes; "
            "add classification_labels."
        )
    if not told:
        low, high = spec.label_range
        raise DataError(
            f"{spec.name} has no class labels, and its scores ({low:g} to {high:g}, metrics {spec.metrics}) "
            "do not say what is negative; add classification_labels, or train with model.task=regression."
        )
    return names
