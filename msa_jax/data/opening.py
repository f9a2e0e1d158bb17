"""Finds and opens the data set that a configuration names: generated, a feature pickle, or a store."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from msa_jax.configuration import Config, require_choice
from msa_jax.data import classes, clean, columns, mmsa, store, synthetic, unlabelled
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.division import Division, divide, division_of
from msa_jax.data.preprocess import REDUCTIONS, reduced_spec
from msa_jax.data.spec import (
    MODALITIES,
    SPLITS,
    DatasetSpec,
    ModalitySpec,
    edges_of,
    parse_columns,
)
from msa_jax.errors import DataError, nearest


@dataclasses.dataclass(frozen=True)
class Hints:
    """What a configuration knows of a data set and a file cannot say.

    Attributes:
      name: a short name, for tables.
      metrics: the metric set, "mosi", "sims" or "plain".
      label_range: lowest and highest possible score.
      groups: modality -> name of a column group -> its columns, like ``"0-7,12"``.
      class_names: of the class labels, by number; empty: what the file says.
    """

    name: str
    metrics: str
    label_range: tuple[float, float]
    groups: Mapping[str, Mapping[str, str]]
    class_names: tuple[str, ...] = ()


def open_dataset(
    path: str | pathlib.Path, hints: Hints | None = None, division: Division | None = None
) -> Dataset:
    """Opens a feature pickle in the public MMSA layout (:mod:`msa_jax.data.mmsa`) or a store.

    A pickle is read once from end to end for its statistics; a store opens at once,
    unless its clips are divided anew: their statistics are those of the new training split.

    Args:
      path: a pickle or a store's folder.
      hints: what the configuration says; it goes before what a store says of itself. Without hints
        a store's own description holds, and a pickle's is inferred (:func:`infer`).
      division: how all clips are divided into train, valid and test; None for the splits that are stored.

    Raises:
      DataError: if nothing is there, the file or folder is broken, a label lies outside the label
        range, a column group does not fit the columns, or the clips cannot be divided.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        dataset = _with_hints(path, _with_classes(path, store.read(path)), hints)
        return dataset if division is None else _divided(path, dataset, division)
    if division is None:
        splits, notes = mmsa.read(path)
    else:
        splits, notes = mmsa.read_any(path, division.column)
        splits, how = divide(str(path), splits, division)
        notes = _with_how(notes, how)
    if hints is None:
        hints, more = infer(path, splits)
        notes = [*notes, *more]
    return describe(path, splits, notes, hints)


def _with_how(notes: Sequence[str], how: str) -> list[str]:
    """The notes on clips that are then divided: they name the splits of the file."""
    return [*(f"before the division: {note}" for note in notes), how]


def _divided(path: pathlib.Path, dataset: Dataset, division: Division) -> Dataset:
    """A store's clips in other splits, with the statistics of the new training split."""
    splits, how = divide(str(path), dataset.splits, division)
    modalities, train = {}, splits["train"]
    for m, modality in dataset.spec.modalities.items():
        mean, std = clean.statistics(train.values[m], train.lengths[m])
        absent = int((np.asarray(train.lengths[m]) == 0).sum())
        modalities[m] = dataclasses.replace(modality, mean=mean, std=std, absent=absent)
    counts = {name: len(split) for name, split in splits.items()}
    spec = dataclasses.replace(dataset.spec, modalities=modalities, counts=counts)
    return Dataset(spec, splits, tuple(_with_how(dataset.notes, how)))


def _with_classes(path: pathlib.Path, dataset: Dataset) -> Dataset:
    """A store that an earlier version made does not name its classes; they are found as in a file."""
    if dataset.spec.class_names or not any("M" in split.classes for split in dataset.splits.values()):
        return dataset
    splits, names, notes = classes.resolve(str(path), dataset.splits)
    spec = dataclasses.replace(dataset.spec, class_names=names)
    return dataclasses.replace(dataset, spec=spec, splits=splits, notes=(*dataset.notes, *notes))


def _with_hints(path: pathlib.Path, dataset: Dataset, hints: Hints | None) -> Dataset:
    """A store as a configuration sees it."""
    if hints is None:
        return dataset
    spec, splits, groups = dataset.spec, dict(dataset.splits), _groups(hints)
    classes.check_names(hints.class_names)
    names = hints.class_names or spec.class_names
    if names != spec.class_names:
        for name, split in splits.items():
            numbers = {
                task: classes.renamed(str(path), y, spec.class_names, names)
                for task, y in split.classes.items()
            }
            splits[name] = dataclasses.replace(split, classes=numbers)
    # Groups of columns that an extraction named hold until a configuration names others.
    own = {name: modality.groups for name, modality in spec.modalities.items() if name in spec.recipe}
    modalities = {
        name: dataclasses.replace(modality, groups=groups[name] or own.get(name, {}))
        for name, modality in spec.modalities.items()
    }
    spec = dataclasses.replace(
        spec,
        name=hints.name,
        metrics=hints.metrics,
        label_range=hints.label_range,
        class_edges=edges_of(hints.metrics, hints.label_range),
        class_names=names,
        modalities=modalities,
    )
    _check_labels(path, splits, spec.label_range)
    return dataclasses.replace(dataset, spec=spec, splits=splits)


def infer(path: pathlib.Path, splits: Mapping[str, Split]) -> tuple[Hints, list[str]]:
    """Guesses what no configuration says.

    The public data sets are known by their audio and vision widths (33/709 CH-SIMS, 74/35 MOSEI, 5/20
    MOSI), where the labels fit. Any other is named after its file, has no column groups, and its range is
    the first that holds all labels: -1 to 1 (with the metrics of CH-SIMS), -3 to 3, or their own (both with
    MOSI's). Labels of which none is negative have the metric set "plain" and their own range.

    Returns:
      The guesses, and a note where widths are those of a public data set and labels are not.
    """
    train, notes = splits["train"], []
    widths = train.values["audio"].shape[2], train.values["vision"].shape[2]
    labels = np.concatenate([label for split in splits.values() for label in split.labels.values()])
    low, high = float(labels.min()), float(labels.max())
    if name := columns.KNOWN_WIDTHS.get(widths):
        known = columns.LABEL_RANGES[name]
        if known[0] <= low and high <= known[1]:
            metrics = "sims" if name == "sims" else "mosi"
            return Hints(name, metrics, known, columns.KNOWN_GROUPS[name]), notes
        notes.append(
            f"audio and vision have the widths of {name} ({widths[0]} and {widths[1]}), but labels of "
            f"{low:g} to {high:g} are not its own, so nothing is taken from it."
        )
    metrics, label_range = scale_of(low, high)
    return Hints(path.stem, metrics, label_range, {}), notes


def scale_of(low: float, high: float) -> tuple[str, tuple[float, float]]:
    """The metric set and the label range of labels that lie from ``low`` to ``high``; see :func:`infer`."""
    if 0 <= low < high:
        return "plain", (0.0, 1.0) if high <= 1 else (low, high)
    if max(-low, high) <= 1:
        return "sims", (-1.0, 1.0)
    if max(-low, high) <= 3:
        return "mosi", (-3.0, 3.0)
    return "mosi", (low, high)


def describe(
    path: pathlib.Path,
    splits: Mapping[str, Split],
    notes: list[str],
    hints: Hints,
    progress: Callable[[int], None] = lambda _: None,
) -> Dataset:
    """Fits the statistics of freshly read splits, names their classes, and counts their broken values.

    Args:
      path: where they come from, for messages.
      splits: the three splits.
      notes: what their reader had to say.
      hints: name, metrics, label range, column groups and names of classes.
      progress: called with the bytes of every block that was read.

    Raises:
      DataError: as :func:`open_dataset`.
    """
    _check_labels(path, splits, hints.label_range)
    splits, class_names, found = classes.resolve(str(path), splits, hints.class_names)
    train, notes, groups = splits["train"], [*notes, *found], _groups(hints)
    shapes = {m: train.values[m].shape for m in MODALITIES}
    # Made without statistics first, so that groups that do not fit are refused before the long pass.
    modalities = {m: ModalitySpec(shape[2], shape[1], groups[m]) for m, shape in shapes.items()}
    for m in MODALITIES:
        for name, split in splits.items():
            summary = clean.summarise(split.values[m], split.lengths[m], progress)
            if name == "train":
                mean, std = tuple(summary.mean.tolist()), tuple(summary.std.tolist())
                absent = int((np.asarray(split.lengths[m]) == 0).sum())
                modalities[m] = dataclasses.replace(modalities[m], mean=mean, std=std, absent=absent)
            nan, infinite = int(summary.nan.sum()), int(summary.infinite.sum())
            if nan or infinite:
                notes.append(
                    f"{name} {m}: {nan} NaN and {infinite} infinite values in "
                    f"{int(((summary.nan + summary.infinite) > 0).sum())} columns; they count as 0."
                )
    spec = DatasetSpec(
        name=hints.name,
        modalities=modalities,
        label_range=hints.label_range,
        metrics=hints.metrics,
        tasks=tuple(train.labels),
        counts={name: len(split) for name, split in splits.items()},
        has_tokens=train.tokens is not None,
        class_edges=edges_of(hints.metrics, hints.label_range),
        class_names=class_names,
    )
    return Dataset(spec=spec, splits=splits, notes=tuple(notes))


def _groups(hints: Hints) -> dict[str, dict[str, tuple[int, ...]]]:
    """The columns of every modality's groups."""
    for name in hints.groups:
        if name not in MODALITIES:
            raise DataError(
                f"there are column groups for {name!r}, but the modalities are {', '.join(MODALITIES)}."
                f"{nearest(name, MODALITIES)}"
            )
    return {
        m: {name: parse_columns(text) for name, text in hints.groups.get(m, {}).items()} for m in MODALITIES
    }


def _check_labels(path: pathlib.Path, splits: Mapping[str, Split], label_range: tuple[float, float]) -> None:
    low, high = np.float32(label_range[0]), np.float32(label_range[1])
    for name, split in splits.items():
        for task, label in split.labels.items():
            for row in np.flatnonzero((label < low) | (label > high))[:1]:
                raise DataError(
                    f"{path}, split {name!r}: clip {str(split.ids[row])!r} has the {task} score "
                    f"{label[row]:g}, outside the label range {low:g} to {high:g}; give the data's own range."
                )


def load_dataset(data: Config) -> Dataset:
    """Generates, or finds and opens, the data set that a configuration names.

    Raises:
      DataError: if the file is missing (with where it is published and how to convert it) or is
        not usable.
    """
    require_choice("data.source", data.source, ("file", "synthetic"))
    if data.source == "synthetic":
        counts: dict[str, int] = dict(zip(SPLITS, data.synthetic.counts, strict=True))
        lengths: dict[str, int] = dict(zip(MODALITIES, data.synthetic.lengths, strict=True))
        return synthetic.generate(data.synthetic.seed, counts, lengths=lengths)
    groups = {m: dict(g) for m, g in data.groups.items()}
    names = tuple(map(str, data.get("class_names", ())))  # older configurations have none
    hints = Hints(data.name, data.metrics, tuple(data.label_range), groups, names)
    path = _locate(data)
    dataset = open_dataset(path, hints, division_of(data))
    _check_trainable(path, dataset)
    return dataset


def _check_trainable(path: pathlib.Path, dataset: Dataset) -> None:
    """Refuses extracted clips that are good to be scored alone."""
    if not dataset.spec.tasks:
        raise DataError(
            f"{path} has clips without labels; give their manifest the column 'label' and extract them again."
        )
    if empty := [name for name in SPLITS if not len(dataset.splits[name])]:
        raise DataError(
            f"{path} has no clips in {' and '.join(empty)}; divide all clips with data.split=by_group, or "
            "give their manifest the column 'split'."
        )


def open_split(data: Config, name: str, needs_text: bool = True) -> Split:
    """One split of the data set that a configuration names, as stored; no statistics are fitted.

    Args:
      data: the configuration's block.
      name: "train", "valid" or "test".
      needs_text: whether text features are required.

    Raises:
      DataError: as :func:`load_dataset`, and if the split is not there.
    """
    if data.source == "synthetic":
        return load_dataset(data).splits[name]
    path, division = _locate(data), division_of(data)
    if division is None:
        splits, _ = unlabelled.read(path, name, needs_text)
    else:
        every = (
            store.read(path).splits if path.is_dir() else mmsa.read_any(path, division.column, needs_text)[0]
        )
        splits, _ = divide(str(path), every, division)
    return splits[name]


def _locate(data: Config) -> pathlib.Path:
    path = pathlib.Path(data.path or pathlib.Path(data.root) / data.file).expanduser()
    if data.path or data.root:
        if path.exists():
            return path
        missing = f"there is no {path}"
    else:
        missing = f"no data given for {data.name}"
    raise DataError(
        f"{missing}: download {data.file} from {data.published}, then pass --config.data.path=FILE, "
        "or first convert it with 'msa-jax convert FILE.pkl DIR' and pass --config.data.path=DIR."
    )


def expected_spec(config: Config) -> DatasetSpec:
    """The data set as published and as a model reads it (``data.reduce``), for work that needs shapes
    but no clips (summaries, tests).

    Training reads its DatasetSpec from the data; these shapes are never used there.
    """
    data = config.data
    modalities = {}
    for name in MODALITIES:
        length, width = data.expected[name]
        groups = {k: parse_columns(v) for k, v in data.groups[name].items()}
        modalities[name] = ModalitySpec(width=width, length=length, groups=groups)
    require_choice("data.reduce", data.reduce, REDUCTIONS)
    spec = DatasetSpec(
        name=data.name,
        modalities=modalities,
        label_range=tuple(data.label_range),
        metrics=data.metrics,
        tasks=tuple(data.expected.tasks),
        counts=dict(zip(("train", "valid", "test"), data.expected.counts, strict=True)),
        has_tokens=True,
        class_edges=edges_of(data.metrics, tuple(data.label_range)),
    )
    return reduced_spec(spec, data.reduce)
