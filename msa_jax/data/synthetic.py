"""Generated clips in the layout of CH-SIMS: for a first run without a download, and for tests.

Nothing here was recorded. A clip is drawn as follows (all numbers below are choices, except where
a comment gives a source):

* A mood, and around it what each *part* of the clip expresses: the words, three parts of the voice
  (ZCR, MFCC, CQT) and six of the face (Gaze, EyeLmk, HeadPose, FaceLmk, PDM, AU). A modality's own
  score is a fixed mixture of its parts, so a model must read every column group to know it.
* In an ironic clip the words say the opposite of the mood. The clip's score M weighs the words most,
  but in an ironic clip it weighs them *against* their meaning. Gaze, ZCR and CQT show the irony: no
  modality alone can tell M, and the best weighted sum of the three misses what irony turns round.
* Five judges vote -1, 0 or 1 on the score that they are shown (T, A, V: one modality alone); the
  label is the mean vote, in steps of 0.2 as in CH-SIMS. The votes are the label noise.
* Everything is expressed at one moment of the clip, in all modalities together. An earlier and
  weaker moment expresses something unrelated: the last impression counts, and a mean over time
  confuses the two.
* The parts appear in their columns as patterns under noise, clip-constant looks and slow drifts, in
  units as unlike as the real ones (pixels, millimetres, radians, flags).
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from msa_jax.data import columns
from msa_jax.data.clean import statistics
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import (
    MODALITIES,
    SPLITS,
    THREE_CLASSES,
    UNIMODAL_TASKS,
    DatasetSpec,
    ModalitySpec,
    edges_of,
    parse_columns,
)
from msa_jax.errors import DataError

#: Clips, columns and steps of CH-SIMS.
COUNTS = {"train": 1368, "valid": 456, "test": 457}
WIDTHS = {"text": 768, "audio": 33, "vision": 709}
LENGTHS = {"text": 39, "audio": 400, "vision": 55}

# Log-normal fit of CH-SIMS: 1 to 10 seconds, 3.67 on average (its authors' count). The stored
# lengths 400 and 55 are mean + 3 standard deviations = 9.29 s at 43 and 6 frames a second, and 39
# the same of the transcripts: characters + 2, log-normal with mean 2.651 and deviation 0.492.
_LONGEST = 9.29
_LOG_SECONDS = (1.185, 0.480)
_LOG_CHARACTERS = (2.651, 0.492)
_LONG_CLIPS_TALK_MORE = 0.85  # correlation of the two logarithms (nobody published it)

#: What each part weighs in its modality's score.
_PARTS = {
    "text": {"": 1.0},
    "audio": {"ZCR": 0.25, "MFCC": 0.6, "CQT": 0.5},
    "vision": {"Gaze": 0.2, "EyeLmk": 0.2, "HeadPose": 0.4, "FaceLmk": 0.5, "PDM": 0.2, "AU": 0.6},
}
_SHOWS_IRONY = ("ZCR", "CQT", "Gaze")
#: What each modality weighs in M, in a plain and in an ironic clip.
_PLAIN = {"text": 0.85, "audio": 0.3, "vision": 0.35}
_IRONIC = {"text": -0.6, "audio": 0.5, "vision": 0.55}
_IRONY_RATE = 0.12
_MOOD_MEAN = -0.25  # CH-SIMS has more negative clips than positive ones
#: Correlation of a part with the mood.
_MOOD_SHARE = {"text": 0.75, "audio": 0.4, "vision": 0.35}

_JUDGES = 5
_VOTE_EDGE = 0.45  # a judge votes 1 above it and -1 below its negative, give or take
_VOTE_SPREAD = 0.35

#: Strength of what a part expresses in its columns (the columns' noise has deviation 1).
_SIGNAL = {"text": 0.5, "audio": 1.0, "vision": 0.6}
_EARLIER = 0.6  # strength of the earlier moment
_LOOKS, _DRIFTS = 3, 2  # patterns per part that are no signal: constant in a clip, slowly turning

#: Units of a group's columns in their order, with how many columns of CH-SIMS have them.
_UNITS = {
    "": {"embedding": 768},
    "ZCR": {"rate": 1},
    "MFCC": {"energy": 1, "cepstrum": 19},
    "CQT": {"share": 12},
    "Gaze": {"cosine": 6, "radian": 2},
    "EyeLmk": {"pixel": 112, "millimetre": 168},
    "HeadPose": {"millimetre": 3, "radian": 3},
    "FaceLmk": {"pixel": 136, "millimetre": 204},
    "PDM": {"zoom": 1, "radian": 3, "pixel": 2, "shape": 34},
    "AU": {"intensity": 17, "share": 18},
}
#: Centre, spread, lowest and highest value of each unit.
_SCALES = {
    "embedding": (0.0, 0.5, -np.inf, np.inf),
    "rate": (0.08, 0.04, 0.0, 1.0),
    "energy": (-320.0, 90.0, -np.inf, np.inf),
    "cepstrum": (5.0, 20.0, -np.inf, np.inf),
    "share": (0.4, 0.3, 0.0, 1.0),
    "cosine": (0.0, 0.3, -1.0, 1.0),
    "radian": (0.0, 0.2, -np.pi, np.pi),
    "pixel": (480.0, 70.0, 0.0, np.inf),
    "millimetre": (250.0, 60.0, -np.inf, np.inf),
    "zoom": (2.5, 0.5, 0.1, np.inf),
    "shape": (0.0, 8.0, -np.inf, np.inf),
    "intensity": (0.6, 0.7, 0.0, 5.0),
}


@dataclasses.dataclass(frozen=True)
class Latents:
    """What N clips express, before any noise.

    Attributes:
      seconds: float [N], duration.
      lengths: per modality int32 [N], real steps.
      parts: per modality float [N, P], what each part expresses at the moment that counts.
      earlier: per modality float [N, P], the same at the earlier moment.
      ironic: bool [N].
      moments: float [N, 2], when the earlier and the counting moment are, as shares of the clip.
      spread: float [N], how long a moment lasts (one deviation), as a share of the clip.
      scores: per task float [N], the noise-free score that the judges see.
    """

    seconds: np.ndarray
    lengths: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    earlier: Mapping[str, np.ndarray]
    ironic: np.ndarray
    moments: np.ndarray
    spread: np.ndarray
    scores: Mapping[str, np.ndarray]


def generate(
    seed: int,
    counts: Mapping[str, int] = COUNTS,
    widths: Mapping[str, int] = WIDTHS,
    lengths: Mapping[str, int] = LENGTHS,
) -> Dataset:
    """Draws a data set; the same arguments give the same clips.

    Every split has its own random stream, so a split does not depend on the size of the others.
    Labels, lengths and ids are equal on every machine; features are, up to the last bits of
    float32, which depend on the processor's mathematics library.

    ``best_reachable`` of the result are the MAE and the Pearson correlation, on the labels of the
    test split, of the predictor that knows the noise-free score of every clip and how judges vote:
    the conditional median of the label for the MAE, the conditional mean for the correlation. As
    the features show the clip's score but never its votes, no model can expect to do better (a
    few clips more or less apart, by chance); the noise of the features makes it hard to do as well.

    Args:
      seed: of everything random.
      counts: clips per split.
      widths: columns per modality; groups keep the shares that they have in CH-SIMS.
      lengths: steps of the longest clip per modality.

    Returns:
      A data set with tasks M, T, A, V and labels in [-1, 1] in steps of 0.2.

    Raises:
      DataError: if the seed is negative, a split empty, or a width smaller than the number of the
        modality's groups.
    """
    if seed < 0 or min(counts.values()) < 1:
        raise DataError("generated clips need a seed of 0 or more and at least one clip per split.")
    layout = {m: _Layout.draw(_stream(seed, 0, number), m, widths[m]) for number, m in enumerate(MODALITIES)}
    splits, best, first = {}, {}, 0
    for number, name in enumerate(SPLITS):
        latents = draw_latents(_stream(seed, 1, number), counts[name], lengths)
        labels = {
            task: draw_labels(_stream(seed, 2, number, row), score)
            for row, (task, score) in enumerate(latents.scores.items())
        }
        values = {
            m: layout[m].express(_stream(seed, 3, number, row), latents, m, lengths[m])
            for row, m in enumerate(MODALITIES)
        }
        splits[name] = _split(first, latents, labels, values)
        first += counts[name]
        if name == "test":
            best = best_scores(latents.scores["M"], labels["M"])
    return _dataset(splits, layout, lengths, best)


def draw_latents(rng: np.random.Generator, n: int, lengths: Mapping[str, int]) -> Latents:
    """Draws what ``n`` clips express, how long they are, and their noise-free scores."""
    talk = rng.standard_normal((2, n))
    seconds = np.clip(np.exp(_LOG_SECONDS[0] + _LOG_SECONDS[1] * talk[0]), 1.0, 10.0)
    talk[1] = _LONG_CLIPS_TALK_MORE * talk[0] + np.sqrt(1 - _LONG_CLIPS_TALK_MORE**2) * talk[1]
    tokens = np.exp(_LOG_CHARACTERS[0] + _LOG_CHARACTERS[1] * talk[1]) + 2
    filled = {"text": tokens / LENGTHS["text"], "audio": seconds / _LONGEST, "vision": seconds / _LONGEST}
    steps = {m: np.clip(np.rint(filled[m] * lengths[m]), 1, lengths[m]).astype(np.int32) for m in MODALITIES}

    mood = _MOOD_MEAN + rng.standard_normal(n)
    ironic = rng.random(n) < _IRONY_RATE
    parts, earlier, own = {}, {}, {}
    for modality, weights in _PARTS.items():
        said = np.where(ironic, -mood, mood) if modality == "text" else mood
        alone = rng.standard_normal((n, len(weights)))
        share = _MOOD_SHARE[modality]
        parts[modality] = share * said[:, None] + np.sqrt(1 - share**2) * alone
        earlier[modality] = rng.standard_normal((n, len(weights)))
        own[modality] = parts[modality] @ _unit_mixture(np.array(list(weights.values())), share)
    together = np.sum([np.where(ironic, _IRONIC[m], _PLAIN[m]) * own[m] for m in MODALITIES], axis=0)
    scores = {"M": together} | {UNIMODAL_TASKS[m]: own[m] for m in MODALITIES}

    counting = rng.uniform(0.35, 0.9, n)
    before = rng.uniform(0.05, counting - 0.2)
    moments, spread = np.stack([before, counting], axis=1), rng.uniform(0.05, 0.09, n)
    return Latents(seconds, steps, parts, earlier, ironic, moments, spread, scores)


def _unit_mixture(weights: np.ndarray, share: float) -> np.ndarray:
    """Scales weights so that the mixture of parts, which share the mood, has deviation 1."""
    variance = share**2 * weights.sum() ** 2 + (1 - share**2) * (weights**2).sum()
    return weights / np.sqrt(variance)


def vote_chances(score: np.ndarray) -> np.ndarray:
    """How likely one judge votes -1, 0 and 1 on noise-free scores [N]; float [N, 3]."""
    positive = 1 / (1 + np.exp((_VOTE_EDGE - score) / _VOTE_SPREAD))
    negative = 1 / (1 + np.exp((_VOTE_EDGE + score) / _VOTE_SPREAD))
    return np.stack([negative, 1 - negative - positive, positive], axis=1)


def label_chances(score: np.ndarray) -> np.ndarray:
    """The distribution of the label given noise-free scores [N].

    Returns:
      float [N, 11], the chances of the labels -1, -0.8, ..., 1: the mean of five votes.
    """
    vote = vote_chances(score)
    chances = vote
    for _ in range(_JUDGES - 1):  # the sum of independent votes: convolve
        wider = np.zeros((len(score), chances.shape[1] + 2))
        for shift in range(3):
            wider[:, shift : shift + chances.shape[1]] += vote[:, shift : shift + 1] * chances
        chances = wider
    return chances


def draw_labels(rng: np.random.Generator, score: np.ndarray) -> np.ndarray:
    """Labels float32 [N] on the grid -1, -0.8, ..., 1 for noise-free scores [N]."""
    ladder = np.cumsum(vote_chances(score), axis=1)
    draws = rng.random((len(score), _JUDGES))
    votes = (draws >= ladder[:, :1]).astype(int) + (draws >= ladder[:, 1:2]) - 1
    return np.round(votes.mean(axis=1), 1).astype(np.float32)


def best_scores(score: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """MAE and correlation of the ideal predictors of labels [N] from noise-free scores [N]."""
    grid = np.round(np.linspace(-1, 1, 2 * _JUDGES + 1), 1)
    chances = label_chances(score)
    median = grid[(np.cumsum(chances, axis=1) >= 0.5).argmax(axis=1)]
    mean = chances @ grid
    corr = np.corrcoef(mean, label)[0, 1] if np.ptp(label) else float("nan")
    return {"mae": float(np.abs(median - label).mean()), "corr": float(corr)}


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the columns of one modality (D of them) show its parts.

    Attributes:
      groups: columns by part.
      patterns: by part float32 [F, D of the part]: the loadings of the factors.
      scale: float32 [4, D]: centre, spread, lowest and highest value of each column.
    """

    groups: Mapping[str, tuple[int, ...]]
    patterns: Mapping[str, np.ndarray]
    scale: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, modality: str, width: int) -> "_Layout":
        groups = column_groups(modality, width)
        patterns, scale = {}, np.zeros((4, width), np.float32)
        for name, cols in groups.items():
            # Factors: what is expressed, emphasis at the moment that counts, irony, looks, drifts.
            strength = _SIGNAL[modality] * np.array([1.0, 0.5, 1.0 if name in _SHOWS_IRONY else 0.0])
            strength = np.concatenate([strength, np.full(_LOOKS, 0.6), np.full(_DRIFTS, 0.4)])
            units = list(_UNITS[name].items())
            ends = np.cumsum([size for _, size in units])
            # Fewer columns than in CH-SIMS show the same more strongly, against the columns' noise.
            strength *= np.sqrt(ends[-1] / len(cols))
            loadings = rng.standard_normal((len(strength), len(cols)))
            # A part with one column must show everything in it.
            loadings[:3] = np.copysign(np.maximum(np.abs(loadings[:3]), 0.5), loadings[:3])
            patterns[name] = (strength[:, None] * loadings).astype(np.float32)
            place = (np.arange(len(cols)) + 0.5) / len(cols) * ends[-1]
            table = np.array([_SCALES[unit] for unit, _ in units]).T
            scale[:, cols] = table[:, np.searchsorted(ends, place)]
            scale[1, cols] *= rng.uniform(0.7, 1.4, len(cols))
        return cls(groups, patterns, scale)

    def express(self, rng: np.random.Generator, latents: Latents, modality: str, steps: int) -> np.ndarray:
        """Features float32 [N, T, D] of one modality, zero past a clip's length."""
        counts = latents.lengths[modality]
        n, width = len(counts), self.scale.shape[1]
        values = np.zeros((n, steps, width), np.float32)
        looks = rng.standard_normal((n, len(self.groups), _LOOKS))
        phases = rng.uniform(0, 2 * np.pi, (n, len(self.groups), _DRIFTS))
        pace = 2 * np.pi * np.array([0.23, 0.61])  # turns per second of the slow drifts
        for start in range(0, n, 128):  # a bounded amount of working memory
            stop = min(start + 128, n)
            mask = np.arange(steps) < counts[start:stop, None]
            clip = np.repeat(np.arange(start, stop), counts[start:stop])  # [R], the clip of each real step
            when = ((np.arange(steps) + 0.5) / counts[start:stop, None])[mask]
            offset = (when[:, None] - latents.moments[clip]) / latents.spread[clip, None]
            before, counting = np.exp(-0.5 * offset**2).T
            rows = rng.standard_normal((len(clip), width), np.float32)
            for g, (name, cols) in enumerate(self.groups.items()):
                said = counting * latents.parts[modality][clip, g]
                said += _EARLIER * before * latents.earlier[modality][clip, g]
                drift = np.sin(pace * (when * latents.seconds[clip])[:, None] + phases[clip, g])
                factors = [said, counting, counting * latents.ironic[clip], *looks[clip, g].T, *drift.T]
                # A slice, not a list of columns: groups have no gaps, and this adds in place.
                rows[:, cols[0] : cols[-1] + 1] += (
                    np.stack(factors, axis=1).astype(np.float32) @ self.patterns[name]
                )
            rows *= self.scale[1]
            rows += self.scale[0]
            np.clip(rows, self.scale[2], self.scale[3], out=rows)
            values[start:stop][mask] = rows
        return values


def column_groups(modality: str, width: int) -> dict[str, tuple[int, ...]]:
    """The groups of CH-SIMS, or groups of like shares where a modality has another width.

    Raises:
      DataError: if there are fewer columns than groups.
    """
    if modality == "text":
        return {"": tuple(range(width))}
    known = {"audio": columns.SIMS_AUDIO, "vision": columns.SIMS_VISION}[modality]
    sizes = np.array([len(parse_columns(text)) for text in known.values()])
    number = np.arange(len(sizes))
    if width < len(sizes):
        raise DataError(
            f"{modality} needs {len(sizes)} columns or more, one for each group; {width} were asked."
        )
    ends = np.maximum(np.rint(np.cumsum(sizes) / sizes.sum() * width).astype(int) - number, 1)
    ends = np.minimum(np.maximum.accumulate(ends), width - len(sizes) + 1) + number
    starts = np.concatenate([[0], ends[:-1]])
    return {name: tuple(range(a, b)) for name, a, b in zip(known, starts, ends, strict=True)}


def _stream(seed: int, purpose: int, split: int, row: int = 0) -> np.random.Generator:
    """An independent stream of random numbers for each purpose."""
    return np.random.default_rng([seed, purpose, split, row])


def _split(
    first: int, latents: Latents, labels: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
) -> Split:
    numbers = first + np.arange(len(latents.seconds))
    # CH-SIMS cuts 60 videos into 2,281 clips: 38 each.
    ids = np.array([f"video_{n // 38 + 1:04d}$_${n % 38 + 1:04d}" for n in numbers])
    classes = {task: (np.sign(label) + 1).astype(np.int32) for task, label in labels.items()}
    return Split(ids=ids, values=values, lengths=latents.lengths, labels=labels, classes=classes)


def _dataset(
    splits: Mapping[str, Split],
    layout: Mapping[str, _Layout],
    lengths: Mapping[str, int],
    best: Mapping[str, float],
) -> Dataset:
    train, modalities = splits["train"], {}
    for m in MODALITIES:
        mean, std = statistics(train.values[m], train.lengths[m])
        modalities[m] = ModalitySpec(
            width=layout[m].scale.shape[1],
            length=lengths[m],
            groups=layout[m].groups if m != "text" else {},
            mean=mean,
            std=std,
            absent=0,
        )
    spec = DatasetSpec(
        name="synthetic",
        modalities=modalities,
        label_range=(-1.0, 1.0),
        metrics="sims",
        tasks=("M", *UNIMODAL_TASKS.values()),
        counts={name: len(split) for name, split in splits.items()},
        class_edges=edges_of("sims", (-1.0, 1.0)),
        class_names=THREE_CLASSES,
        synthetic=True,
    )
    note = "the clips are synthetic: a program made them, and scores on them say nothing about real people."
    return Dataset(spec=spec, splits=splits, notes=(note,), best_reachable=best)
