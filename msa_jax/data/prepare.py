"""Class numbers in place of scores, for runs that classify."""

import dataclasses

import numpy as np

from msa_jax.data.dataset import Dataset, Split
from msa_jax.errors import DataError


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
