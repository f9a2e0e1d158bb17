"""New clips for a trained model: features as its own recipe makes them, whole or window by window."""

import dataclasses
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.recipe import NONE, Recipe, differences
from msa_jax.errors import DataError
from msa_jax.media import clips as sources
from msa_jax.media import collect, faces, words
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import ENCODER, Features, Plan, plan_of
from msa_jax.media.folder import Folder
from msa_jax.media.pool import Pool
from msa_jax.messages import LOGGER

#: Roles of models whose places may be named anew.
PLACES = (faces.MODEL, ENCODER, words.ASR)
#: Seconds that one clip may take.
SECONDS = 3600.0


@dataclasses.dataclass(frozen=True)
class Fresh:
    """Extracted clips.

    Attributes:
      clips: those that could be extracted.
      features: theirs, by id.
      failed: why others could not, by id.
      plan: what was made.
      recipe: of the plan.
    """

    clips: tuple[Clip, ...]
    features: Mapping[str, Features]
    failed: Mapping[str, str]
    plan: Plan
    recipe: Recipe


def plan_like(
    trained: Recipe,
    where: str,
    places: Mapping[str, pathlib.Path | None],
    tokenizer: pathlib.Path | None = None,
) -> tuple[Plan, Recipe]:
    """The plan by which clips get the features that a model was trained on.

    Args:
      trained: the recipe of its training data.
      where: the run, for messages.
      places: role -> file or folder, where it is not where it was in training.
      tokenizer: the run's own, where its model encodes text itself; text features are not made then.

    Raises:
      DataError: if nobody knows how the features were made, or they would be others here.
    """
    if not trained:
        raise DataError(
            f"the model in {where} was trained on features whose making is not recorded, so clips cannot be "
            "extracted like them; train on what 'msa-jax extract' makes."
        )
    compared = {m: part for m, part in trained.items() if tokenizer is None or m != "text"}
    plan = plan_of(trained, places)
    if plan.asr is not None and not places.get(words.ASR) and not plan.asr.is_dir():
        LOGGER.info("note: %s is not there any more, so clips need transcripts, or --asr.", plan.asr)
        plan = dataclasses.replace(plan, asr=None)
    plan = plan if tokenizer is None else dataclasses.replace(plan, encoder=tokenizer)
    without_text = dataclasses.replace(plan, encoder=None, asr=None, align="")
    recipe = plan.recipe() if tokenizer is None else without_text.recipe()
    check_same(compared, recipe, where)
    return plan, {**trained, **{m: recipe[m] for m in compared}}


def check_same(trained: Recipe, found: Recipe, where: str) -> None:
    """Refuses features of another recipe than a model's, and says what is a little different.

    Raises:
      DataError: for such features.
    """
    grave, slight = differences(trained, found)
    if grave:
        made = ", ".join(f"{m} by {part.title()}" for m, part in trained.items() if part.extractor != NONE)
        raise DataError(
            f"the model in {where} was trained with {made:.300}; this differs: {'; '.join(grave):.300}. Take "
            "the same, or train anew."
        )
    for line in slight:
        LOGGER.info("note: %s.", line)


def extract(source: pathlib.Path, plan: Plan, recipe: Recipe, pool: Pool | None = None) -> Fresh:
    """Extracts clips into memory, by way of a temporary folder.

    Args:
      source: a clip, a folder of clips, or a manifest.
      plan: see :func:`plan_like`.
      recipe: of the plan.
      pool: where; None: as many processes as there are cores, for this call alone.

    Raises:
      DataError: if there are no clips, or none could be extracted.
    """
    found = sources.find(source)
    if pool is None:
        with Pool(min(os.cpu_count() or 1, len(found)), SECONDS) as own:
            return extract(source, plan, recipe, own)
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="msa_jax-") as name:
        folder = Folder(pathlib.Path(name), source)
        with folder.held(recipe):
            jobs = [(clip, folder.target(clip)) for clip in found]
            for clip, reason in pool.all(jobs, plan, recipe, folder.scratch):
                if reason:
                    failed[clip.id] = reason
            good = tuple(clip for clip in found if clip.id not in failed)
            features = {clip.id: folder.features(clip) for clip in good}
    if not good:
        raise DataError(next(iter(failed.values())))
    return Fresh(good, features, failed, plan, recipe)


def split_of(fresh: Fresh, encode: bool = True) -> Split:
    """Extracted clips as a split.

    Args:
      fresh: at least one clip.
      encode: whether text features are made; otherwise there are transcripts alone.
    """
    clips = [dataclasses.replace(clip, split="", labels={}, columns={}) for clip in fresh.clips]

    def read(clip: Clip) -> Features:
        return fresh.features[clip.id]

    with tempfile.TemporaryDirectory(prefix="msa_jax-") as name:
        making = pathlib.Path(name)
        splits, _ = collect.gathered(clips, read, fresh.plan, fresh.recipe, making, _silent, encode)
        split = splits["train"]
        values = {m: np.array(x) for m, x in split.values.items()}  # the files vanish
    return dataclasses.replace(split, values=values)


def _silent(title: str, total: int) -> Callable[[int], None]:
    """A stage that shows nothing."""
    del title, total
    return _count


def _count(count: int) -> None:
    del count


def windows(fresh: Fresh, length: float, stride: float) -> tuple[Fresh, list[tuple[str, float, float]]]:
    """Slides a window over every clip.

    Words are in a window that they overlap; without times the whole transcript is in each. A window in which
    nothing is seen, heard or said is left out.

    Args:
      fresh: the clips.
      length: of a window, in seconds.
      stride: from one to the next.

    Returns:
      The windows as clips, and of each its clip's id, start and end in seconds.
    """
    clips: list[Clip] = []
    features: dict[str, Features] = {}
    places: list[tuple[str, float, float]] = []
    for clip in fresh.clips:
        for start, end, part in _slide(fresh.features[clip.id], length, stride):
            name = f"{len(clips)}"
            clips.append(dataclasses.replace(clip, id=name))
            features[name] = part
            places.append((clip.id, start, end))
    return dataclasses.replace(fresh, clips=tuple(clips), features=features), places


def _slide(whole: Features, length: float, stride: float) -> Iterator[tuple[float, float, Features]]:
    """The windows of one clip that hold something."""
    last = max(duration(whole), 0.0)
    for number in range(max(1, math.ceil((last - length) / stride - 1e-9) + 1)):
        start = number * stride
        end = start + length
        values, times = {}, {}
        for m, at in whole.times.items():
            inside = (at >= start - 1e-9) & (at < end - 1e-9)
            values[m], times[m] = whole.values[m][inside], at[inside]
        timed = tuple(word for word in whole.timed if word.start < end and word.end > start)
        said = " ".join(word.text for word in timed) if whole.timed else whole.transcript
        if said or any(len(x) for x in values.values()):
            part = dataclasses.replace(whole, values=values, times=times, timed=timed, transcript=said)
            yield start, min(end, last), part


def duration(features: Features) -> float:
    """Seconds until the last step or word."""
    ends = [float(at[-1]) for at in features.times.values() if len(at)]
    return max([*ends, *(word.end for word in features.timed)], default=0.0)
