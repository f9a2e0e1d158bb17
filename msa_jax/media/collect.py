"""The features of many clips as a data set."""

import dataclasses
import functools
import pathlib
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from msa_jax.data import store
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.opening import Hints, describe, scale_of
from msa_jax.data.recipe import NONE, Recipe
from msa_jax.data.spec import SPLITS
from msa_jax.data.tokenize import Tokenizer
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import Features, Plan
from msa_jax.weights import encode_text
from msa_jax.weights.encode_text import Stage

_DENSE = ("audio", "vision")
#: BERT's positions.
_MOST_TOKENS = 512


def write(
    clips: Sequence[Clip],
    read: Callable[[Clip], Features],
    plan: Plan,
    recipe: Recipe,
    folder: pathlib.Path,
    given: Mapping[str, object],
    stage: Stage,
    as_pickle: bool,
) -> Dataset:
    """Writes the clips' features as a store into a folder, in place of one that is there.

    Args:
      clips: those that were extracted, at least one.
      read: gives a clip's features.
      plan: by which they were made.
      recipe: of the plan.
      folder: of the extraction.
      given: name, metrics and label range that are not to be taken from the data.
      stage: shows the progress.
      as_pickle: whether the public MMSA layout is written too, as ``features.pkl``.

    Returns:
      What was written.
    """
    groups = {m: dict(part.groups) for m, part in recipe.items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
        splits, notes = gathered(clips, read, plan, recipe, pathlib.Path(making), stage)
        splits = {name: _placed(split, clips) for name, split in splits.items()}
        labels = [score for clip in clips for score in clip.labels.values()]
        metrics, label_range = scale_of(min(labels), max(labels)) if labels else ("plain", (0.0, 1.0))
        hints = Hints(folder.resolve().name, metrics, label_range, groups)
        dataset = describe(folder, splits, notes, dataclasses.replace(hints, **given))
        spec = dataclasses.replace(dataset.spec, recipe=recipe)
        dataset = dataclasses.replace(dataset, spec=spec)
        store.write_into(dataset, folder, stage("writing", store.size(dataset)))
        if as_pickle:
            write_pickle(dataset, folder / "features.pkl", bool(plan.align))
    return dataset


def _placed(split: Split, clips: Sequence[Clip]) -> Split:
    """With where the clips' files lie, so that pages about them can play them."""
    files = {clip.id: str(clip.path.resolve()) for clip in clips}
    return dataclasses.replace(split, media=np.array([files[name] for name in split.ids.tolist()], np.str_))


def gathered(
    clips: Sequence[Clip],
    read: Callable[[Clip], Features],
    plan: Plan,
    recipe: Recipe,
    making: pathlib.Path,
    stage: Stage,
    encode: bool = True,
) -> tuple[dict[str, Split], list[str]]:
    """The clips as the three splits; those without a split stand in the training split.

    Args:
      clips: as :func:`write`, like the next three.
      read: gives a clip's features.
      plan: by which they were made.
      recipe: of the plan.
      making: a folder for arrays, which may be larger than memory.
      stage: shows the progress.
      encode: whether text features are made where there is text; otherwise transcripts are enough.

    Returns:
      The splits, and what there is to say.
    """
    steps: dict[str, int] = dict.fromkeys(_DENSE, 1)
    for clip in clips:
        made = read(clip)
        steps = {m: max(steps[m], len(made.values[m])) for m in _DENSE}
    splits, timed, notes = {}, {}, []
    for name in SPLITS:
        chosen = [clip for clip in clips if (clip.split or "train") == name]
        splits[name], timed[name] = _gather(name, chosen, read, recipe, steps, making)
    if not any(clip.split for clip in clips):
        notes.append(
            "the clips have no splits and stand in train; to train on them, divide them with "
            "data.split=by_group."
        )
    if plan.encoder is None:
        return splits, notes
    splits = {name: _without_text(split) for name, split in splits.items()}
    if encode:
        encoder = _encoder(plan.encoder)
        tokenizer = encoder.tokenizer
        splits, more = encode_text.encode(encoder, splits, stage)
        notes += more
    elif plan.align:
        tokenizer = Tokenizer(plan.encoder)
        splits = {name: _with_tokens(split, tokenizer) for name, split in splits.items()}
    if plan.align:
        splits = {name: aligned(split, timed[name], tokenizer) for name, split in splits.items()}
    return splits, notes


@functools.lru_cache(maxsize=1)
def _encoder(folder: pathlib.Path) -> encode_text.TextEncoder:
    """The encoder, which a server needs for every clip."""
    return encode_text.load(folder)


def _without_text(split: Split) -> Split:
    """With transcripts alone."""
    return dataclasses.replace(split, values={**split.values, "text": split.values["text"][:, :, :0]})


def _with_tokens(split: Split, tokenizer: Tokenizer) -> Split:
    assert split.raw_text is not None
    tokens = tokenizer(split.raw_text.tolist(), _MOST_TOKENS)
    text = np.zeros((len(split), max(1, tokens.shape[2]), 0), np.float32)
    lengths = {**split.lengths, "text": tokens[:, 1].sum(axis=1, dtype=np.int32)}
    return dataclasses.replace(split, values={**split.values, "text": text}, lengths=lengths, tokens=tokens)


#: Of each clip: its features, for their times and words.
Timed = list[Features]


def _gather(
    name: str,
    clips: Sequence[Clip],
    read: Callable[[Clip], Features],
    recipe: Recipe,
    steps: Mapping[str, int],
    making: pathlib.Path,
) -> tuple[Split, Timed]:
    """One split, with sound and faces in files."""
    values, lengths = {}, {}
    for m in _DENSE:
        shape = (len(clips), steps[m], len(recipe[m].columns) or 1)
        values[m] = np.lib.format.open_memmap(making / f"{name}.{m}.npy", "w+", np.float32, shape)
        lengths[m] = np.zeros(len(clips), np.int32)
    kept: Timed = []
    for row, clip in enumerate(clips):
        made = read(clip)
        for m in _DENSE:
            lengths[m][row] = len(made.values[m])
            values[m][row, : len(made.values[m])] = made.values[m]
        kept.append(dataclasses.replace(made, values={}))
    texts = [made.transcript for made in kept]
    values["text"] = np.zeros((len(clips), 1, 1), np.float32)
    lengths["text"] = np.zeros(len(clips), np.int32)
    labels = {
        task: np.array([clip.labels[task] for clip in clips], np.float32)
        for task in (clips[0].labels if clips else ())
    }
    columns = {
        column: np.array([clip.columns[column] for clip in clips])
        for column in (clips[0].columns if clips else ())
    }
    split = Split(
        np.array([clip.id for clip in clips], np.str_),
        values,
        lengths,
        labels,
        raw_text=np.array(texts, np.str_) if recipe["text"].extractor != NONE else None,
        clip_columns=columns,
    )
    return split, kept


def aligned(split: Split, made: Timed, tokenizer: Tokenizer) -> Split:
    """Sound and faces with a step for every token: the mean over the time of its word.

    [CLS] and [SEP] take the mean over the whole clip, a word in which no step lies the step that is nearest.
    A clip without steps of a modality has none here either.

    Args:
      split: with tokens.
      made: of each clip, with the times of steps and words.
      tokenizer: made the tokens.
    """
    assert split.tokens is not None
    steps = split.tokens.shape[2]
    values, lengths = dict(split.values), dict(split.lengths)
    texts = [clip.transcript for clip in made]
    spans = tokenizer.spans(texts, steps)
    for m in _DENSE:
        raw = split.values[m]
        values[m] = np.zeros((len(split), steps, raw.shape[2]), np.float32)
        lengths[m] = np.where(np.asarray(split.lengths[m]) > 0, split.lengths["text"], 0).astype(np.int32)
        for row, clip in enumerate(made):
            count = int(split.lengths[m][row])
            if count:
                words = [_word_of(clip, span) for span in spans[row]]
                of_token = per_word(np.asarray(raw[row, :count]), clip.times[m], clip, words)
                values[m][row, : len(of_token)] = of_token
    return dataclasses.replace(split, values=values, lengths=lengths)


def _word_of(clip: Features, span: tuple[int, int]) -> int | None:
    """The number of the word that characters of the transcript belong to; None for [CLS] and [SEP]."""
    if span[1] <= span[0]:
        return None
    end = 0
    for number, word in enumerate(clip.timed):
        end += len(word.text) + 1  # words are joined by blanks
        if span[0] < end:
            return number
    return None


def per_word(
    values: np.ndarray, times: np.ndarray, clip: Features, words: Sequence[int | None]
) -> np.ndarray:
    """Steps [T, D] at ``times`` [T] averaged over words, by number: [len(words), D]."""
    rows = []
    for number in words:
        if number is None:
            rows.append(values.mean(axis=0))
            continue
        word = clip.timed[number]
        inside = (times >= word.start) & (times < word.end)
        if not inside.any():
            inside = np.arange(len(times)) == np.abs(times - (word.start + word.end) / 2).argmin()
        rows.append(values[inside].mean(axis=0))
    return np.array(rows, np.float32)


def write_pickle(dataset: Dataset, path: pathlib.Path, is_aligned: bool) -> None:
    """Writes a feature pickle in the public MMSA layout (:mod:`msa_jax.data.mmsa`)."""
    content = {}
    for name, split in dataset.splits.items():
        part = {"id": split.ids.tolist(), **{m: np.asarray(x) for m, x in split.values.items()}}
        if split.raw_text is not None:
            part["raw_text"] = split.raw_text.tolist()
        if split.tokens is not None:
            part["text_bert"] = split.tokens.astype(np.float32)
        if not is_aligned:
            part |= {f"{m}_lengths": split.lengths[m].tolist() for m in _DENSE}
        for task, scores in split.labels.items():
            part["regression_labels" if task == "M" else f"regression_labels_{task}"] = scores
        part |= {column: texts.tolist() for column, texts in split.clip_columns.items()}
        content[name] = part
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    temporary.replace(path)
