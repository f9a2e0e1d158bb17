"""Class labels: what their numbers or names mean, and classes that follow from scores.

The public files number them 0 negative, 1 neutral, 2 positive. Other data has two classes, or names, or
numbers of its own; the file says what it can, and ``data.class_names`` of a configuration the rest.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.spec import THREE_CLASSES, TWO_CLASSES, DatasetSpec
from msa_jax.errors import DataError, nearest

#: Different texts beyond which a key holds remarks, and no classes.
_MOST_CLASSES = 100
_KEY = "classification_labels"


def resolve(
    where: str, splits: Mapping[str, Split], given: Sequence[str] = ()
) -> tuple[dict[str, Split], tuple[str, ...], list[str]]:
    """Gives the classes of freshly read splits their numbers and names.

    * Texts: the names are ``given``, or those that occur, in the order of the alphabet (negative,
      neutral, positive in this one).
    * Numbers with ``given`` names: their places among the names.
    * Numbers up to 2: negative, neutral, positive. Where all are 0 or 1 and those of class 1 have positive
      scores rather than negative ones, the two classes negative and positive.
    * Larger numbers: 0 to K - 1, each of which the training split must have; their names are the numbers.

    Args:
      where: the file, for messages.
      splits: their ``classes`` are as the file has them, int32 or str [N] per task.
      given: names that the user gives.

    Returns:
      The splits with numbers, the names, and what was left out or is odd, one sentence each. The names
      are ``given`` where there are no class labels.

    Raises:
      DataError: if the given names do not fit.
    """
    notes: list[str] = []
    check_names(given)
    if not any("M" in split.classes for split in splits.values()):
        return _without(splits), tuple(given), notes
    texts = {split.classes["M"].dtype.kind == "U" for split in splits.values()}
    if len(texts) > 1:
        return _without(splits), tuple(given), [f"{_KEY} are texts in one split and numbers in another{_OUT}"]
    names, why = (_named if texts.pop() else _numbered)(where, splits, tuple(given))
    if why:
        return _without(splits), tuple(given), [f"{_KEY} {why}{_OUT}"]
    result = {}
    tasks = splits["train"].classes
    numbers = {task: {n: class_numbers(s.classes[task], names) for n, s in splits.items()} for task in tasks}
    fits = {task for task, found in numbers.items() if all(n is not None for n in found.values())}
    notes += [f"{_KEY}_{task} hold other classes than {_KEY}{_OUT}" for task in numbers if task not in fits]
    for name, split in splits.items():
        classes = {task: found[name] for task, found in numbers.items() if task in fits}
        result[name] = dataclasses.replace(split, classes=classes)
    if odd := contradiction(result, names):
        notes.append(odd)
    return result, names, notes


_OUT = ", and so ignored."


def check_names(given: Sequence[str]) -> None:
    """Raises DataError for names that the user gives and that are not all different."""
    if len(set(map(_folded, given))) < len(given):
        raise DataError(f"data.class_names ({', '.join(given):.200}) has a name twice; name each class once.")


def _without(splits: Mapping[str, Split]) -> dict[str, Split]:
    return {name: dataclasses.replace(split, classes={}) for name, split in splits.items()}


def _named(where: str, splits: Mapping[str, Split], given: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names of classes that are texts, or why they are none."""
    found = sorted({text for split in splits.values() for text in np.unique(split.classes["M"]).tolist()})
    if given:
        known = set(map(_folded, given))
        for text in found:
            if _folded(text) not in known:
                raise DataError(
                    f"{where}: the class {text!r:.80} in '{_KEY}' is not one of data.class_names "
                    f"({', '.join(given)}); name all classes.{nearest(text, given)}"
                )
        return given, ""
    folded = set(map(_folded, found))
    for sentiments in (TWO_CLASSES, THREE_CLASSES):
        if folded == set(sentiments):
            return sentiments, ""
    if folded <= set(THREE_CLASSES):
        return THREE_CLASSES, ""
    if len(folded) > _MOST_CLASSES:
        return (), f"are {len(folded)} different texts, too many for classes"
    return tuple(sorted({_folded(text): text.strip() for text in reversed(found)}.values())), ""


def _numbered(where: str, splits: Mapping[str, Split], given: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names of classes that are numbers, or why they are none."""
    largest = max(int(split.classes["M"].max()) for split in splits.values())
    if given:
        if largest >= len(given):
            raise DataError(
                f"{where}: '{_KEY}' goes up to {largest}, but data.class_names has {len(given)} names "
                f"({', '.join(given):.200}) for the classes from 0; name all of them."
            )
        return given, ""
    if largest <= 2:
        return (TWO_CLASSES if largest <= 1 and _has_two(splits) else THREE_CLASSES), ""
    trained = np.unique(splits["train"].classes["M"])
    if len(trained) != largest + 1 or largest >= _MOST_CLASSES:
        return (), (
            f"go up to {largest} and are not 0 to K - 1 with each in the training split; if they are "
            "classes, name them with data.class_names (convert: --class-names)"
        )
    return tuple(map(str, range(largest + 1))), ""


def _has_two(splits: Mapping[str, Split]) -> bool:
    """Whether class 1 of 0 and 1 means positive: by the signs of the scores."""
    scores = [split.labels["M"][split.classes["M"] == 1] for split in splits.values()]
    signs = np.sign(np.concatenate(scores))
    return (signs > 0).sum() > (signs < 0).sum()


def class_numbers(classes: np.ndarray, names: tuple[str, ...]) -> np.ndarray | None:
    """int32 [N] class numbers of numbers or texts [N]; None where some are not among ``names``."""
    if classes.dtype.kind == "U":
        places = {_folded(name): number for number, name in enumerate(names)}
        unique, at = np.unique(classes, return_inverse=True)
        numbers = np.array([places.get(_folded(text), -1) for text in unique.tolist()], np.int32)[at]
    else:
        numbers = np.asarray(classes, np.int32)
    return numbers if ((numbers >= 0) & (numbers < len(names))).all() else None


def _folded(name: str) -> str:
    return name.strip().casefold()


def renamed(where: str, classes: np.ndarray, old: tuple[str, ...], new: tuple[str, ...]) -> np.ndarray:
    """Class numbers [N] of the names ``old`` as numbers of the names ``new``.

    Where the old names are numbers or those of sentiment, which the file did not say, new ones take
    their places; names that the file has keep their classes, in whatever order they are given.

    Raises:
      DataError: if the names do not fit.
    """
    said = old not in (TWO_CLASSES, THREE_CLASSES, tuple(map(str, range(len(old)))))
    if not said and len(new) >= len(old):
        return classes
    places = {_folded(name): number for number, name in enumerate(new)}
    absent = [name for name in old if _folded(name) not in places]
    if not said or absent:
        raise DataError(
            f"{where} has the classes {', '.join(old):.200}, which data.class_names ({', '.join(new):.200}) "
            "does not name; name all of them."
        )
    return np.array([places[_folded(name)] for name in old], np.int32)[classes]


def contradiction(splits: Mapping[str, Split], names: tuple[str, ...]) -> str:
    """One sentence where negative or positive classes have scores of the other sign, else ""."""
    if names not in (TWO_CLASSES, THREE_CLASSES):
        return ""
    wrong = [(split, row) for split in splits.values() for row in _wrong_rows(split, names)]
    if not wrong:
        return ""
    split, row = wrong[0]
    clips = sum(map(len, splits.values()))
    return (
        f"{_KEY} contradict the signs of the scores in {len(wrong)} of {clips} clips (first: "
        f"{str(split.ids[row])!r:.80} is {names[int(split.classes['M'][row])]}, its score "
        f"{split.labels['M'][row]:g}); correct them, leave the key out, or give the classes names of their "
        "own with data.class_names."
    )


def _wrong_rows(split: Split, names: tuple[str, ...]) -> Iterator[int]:
    if "M" not in split.classes:
        return
    classes, scores = split.classes["M"], split.labels["M"]
    wrong = ((classes == 0) & (scores > 0)) | ((classes == len(names) - 1) & (scores < 0))
    yield from np.flatnonzero(wrong).tolist()


def classes_of_scores(scores: np.ndarray, spec: DatasetSpec, count: int) -> np.ndarray:
    """The classes of true scores [N], int32.

    Two: negative, and 0 or more, as Acc-2 (Has0) counts. Three: on CH-SIMS cut at -0.1 and 0.1, as its
    Acc-3 does, else only 0 itself is neutral.

    Args:
      scores: float32 [N].
      spec: of their data set, whose scores have a sign.
      count: 2 or 3.
    """
    if count == 2:
        return (scores >= 0).astype(np.int32)
    if spec.metrics == "sims":
        return np.searchsorted(np.array([-0.1, 0.1], np.float32), scores, side="left").astype(np.int32)
    return (np.sign(scores) + 1).astype(np.int32)
