"""Class numbers in place of scores, for runs that classify."""

import dataclasses

import numpy as np

from msa_jax.data.classes import class_numbers, classes_of_scores, contradiction
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import THREE_CLASSES, TWO_CLASSES, DatasetSpec, edges_of
from msa_jax.errors import ConfigError, DataError


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


def true_labels(split: Split, spec: DatasetSpec, classify: bool) -> np.ndarray:
    """The labels that a trained model's predictions are compared with.

    Args:
      split: N clips with labels, as read from a file.
      spec: the data set as the model reads it.
      classify: whether it predicts classes.

    Returns:
      float32 [N] scores, or int64 [N] numbers among ``spec.class_names``.

    Raises:
      DataError: if there are no labels, or none of the model's classes.
    """
    if not classify:
        if "M" not in split.labels:
            raise DataError("the clips have no scores (regression_labels) to compare with; add them.")
        return split.labels["M"]
    names = spec.class_names or THREE_CLASSES  # older runs have three classes and no names
    if "M" in split.classes:
        numbers = class_numbers(split.classes["M"], names)
        if numbers is None:
            raise DataError(
                f"classification_labels hold other classes than the model's ({', '.join(names):.200}); give "
                "labels of these, by name or by number."
            )
        return numbers.astype(np.int64)
    told = edges_of(spec.metrics, spec.label_range) is not None
    if "M" not in split.labels or names not in (TWO_CLASSES, THREE_CLASSES) or not told:
        raise DataError("the clips have no class labels (classification_labels); add them.")
    return classes_of_scores(split.labels["M"], spec, len(names)).astype(np.int64)


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
