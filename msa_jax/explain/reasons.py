"""Why a clip got its score: what each modality, group of columns, word and stretch of time moved it by.

Everything is occlusion: the score less what it is without a part. What stands in for a part that is taken
away is the training split's mean, and for words of a model with a text encoder its unknown token; lengths
stay. For the three modalities all eight combinations are computed, so that their parts are exact Shapley
values: they add up to the score less that of a clip of which nothing is known.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.loader import Chunk
from msa_jax.data.spec import MODALITIES
from msa_jax.explain.changed import Beside, Changed, Program
from msa_jax.inference import Trained
from msa_jax.robust import corruptions

#: Into how many stretches the steps of sound and picture are cut.
STRETCHES = 8


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Some steps of a modality.

    Attributes:
      start: its first step, from 0.
      end: the step behind its last.
      label: the word, where one is known; else "".
    """

    start: int
    end: int
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Reasons:
    """Why a clip got its score.

    Attributes:
      score: of the whole clip; of classes the probability of the predicted one.
      nothing: the same with all three modalities taken away.
      modalities: per modality its Shapley value; they add up to score - nothing.
      groups: per modality, sub-feature group -> score less that without its columns.
      stretches: per modality its stretches, each with the score less that without it.
      predicted: of classes the number of the predicted one.
    """

    score: float
    nothing: float
    modalities: Mapping[str, float]
    groups: Mapping[str, Mapping[str, float]]
    stretches: Mapping[str, Sequence[tuple[Stretch, float]]]
    predicted: int | None = None


def shapley(values: Mapping[tuple[bool, ...], np.ndarray]) -> np.ndarray:
    """Exact Shapley values (Shapley 1953).

    Args:
      values: for each combination of P players that take part (True) or not, what they reach, [...].

    Returns:
      [P, ...]; they add up to what all reach less what none does.
    """
    players = len(next(iter(values)))
    shares = []
    for player in range(players):
        share: Any = 0.0
        for others in itertools.product((False, True), repeat=players - 1):
            size = sum(others)
            weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            gained = [values[(*others[:player], part, *others[player:])] for part in (True, False)]
            share = share + weight * (gained[0] - gained[1])
        shares.append(share)
    return np.stack(shares)


def cut(length: int, count: int = STRETCHES) -> list[Stretch]:
    """So many steps in stretches of like length, at most ``count``."""
    edges = np.linspace(0, length, min(length, count) + 1).round().astype(int).tolist()
    return [Stretch(start, end) for start, end in itertools.pairwise(edges)]


def explain(
    run: Trained | Program,
    split: Split,
    words: Sequence[Sequence[Stretch] | None] | None = None,
    over: Collection[str] = MODALITIES,
) -> list[Reasons]:
    """The reasons of N clips' scores.

    Args:
      run: the run, or its program, kept from call to call so that each padded shape is compiled once for all.
      split: the clips as they are stored.
      words: of each clip its words as steps of the text; None, or None for a clip: every step of text is a
        stretch, of token ids all but the first and the last.
      over: the modalities whose stretches are taken away by turns; the others have none.

    Raises:
      DataError: if the clips do not have what the model was trained on.
    """
    changed = Changed(run if isinstance(run, Program) else Program(run), split, mean=True)
    groups = {m: modality.groups for m, modality in changed.program.trained.spec.modalities.items()}
    stretches = _stretches(changed, words or [None] * len(split), over)
    found: list[Reasons | None] = [None] * len(split)
    for chunk, item in changed.items():
        batch = _Batch(changed, chunk, item, groups)
        real = chunk.weight[0] > 0
        rows = chunk.index[0][real]
        own = {m: [stretches[m][row] for row in rows] for m in MODALITIES}
        for row, reasons in zip(rows, batch.reasons(own), strict=True):
            found[row] = reasons
    return [reasons for reasons in found if reasons is not None]


def _stretches(
    changed: Changed, words: Sequence[Sequence[Stretch] | None], over: Collection[str]
) -> dict[str, list[list[Stretch]]]:
    """Per modality and clip the stretches that are taken away by turns."""
    lengths, inner = changed.clips.lengths, int(changed.clips.tokens)
    found = {m: [cut(int(n)) if n > 1 else [] for n in lengths[m]] for m in ("audio", "vision")}
    text = []
    for given, n in zip(words, lengths["text"].tolist(), strict=True):
        single = [Stretch(k, k + 1) for k in range(inner, n - inner)]
        text.append(list(given) if given is not None else single)
    found["text"] = text
    return {m: found[m] if m in over else [[] for _ in words] for m in MODALITIES}


class _Batch:
    """The clips of one batch, of which parts are taken away by turns."""

    def __init__(self, changed: Changed, chunk: Chunk, item: Any, groups: Mapping[str, Mapping[str, tuple]]):
        self._changed, self._chunk, self._item, self._groups = changed, chunk, item, groups
        self._real = chunk.weight[0] > 0
        self._whole = changed.beside(chunk)
        self._predicted: np.ndarray | None = None

    def _value(self, beside: Beside) -> np.ndarray:
        """The scores [B], or the probabilities of the classes that the whole clips are predicted to be of."""
        y = np.asarray(self._changed.ask(self._chunk, self._item, beside)["M"], np.float64)[self._real]
        if y.ndim == 1:
            return y
        powers = np.exp(y - y.max(axis=1, keepdims=True))
        if self._predicted is None:
            self._predicted = y.argmax(axis=1)
        return (powers / powers.sum(axis=1, keepdims=True))[np.arange(len(y)), self._predicted]

    def reasons(self, stretches: Mapping[str, Sequence[Sequence[Stretch]]]) -> list[Reasons]:
        """Of every real clip."""
        whole = self._value(self._whole)
        values = {tuple([True] * 3): whole}
        for present in itertools.product((False, True), repeat=3):
            if not all(present):
                values[present] = self._value(self._with(present))
        shares = shapley(values)
        groups = {m: self._without_groups(m, whole) for m in ("audio", "vision")}
        effects = {m: self._without_stretches(m, stretches[m], whole) for m in MODALITIES}
        return [
            Reasons(
                float(whole[row]),
                float(values[False, False, False][row]),
                {m: float(share[row]) for m, share in zip(MODALITIES, shares, strict=True)},
                {m: {g: float(e[row]) for g, e in found.items()} for m, found in groups.items() if found},
                {m: effects[m][row] for m in MODALITIES},
                None if self._predicted is None else int(self._predicted[row]),
            )
            for row in range(len(whole))
        ]

    def _with(self, present: Sequence[bool]) -> Beside:
        """Some modalities alone; of token ids the first and the last stay."""
        clips, rows = self._changed.clips, self._chunk.index[0]
        lengths = {m: jnp.asarray(clips.lengths[m][rows]) for m in MODALITIES}
        steps = self._changed.steps(self._chunk)
        kept = corruptions.whole(jnp.asarray(present), lengths, steps, clips.tokens)
        return self._whole._replace(kept={m: np.asarray(keep) for m, keep in kept.items()})

    def _without_groups(self, m: str, whole: np.ndarray) -> dict[str, np.ndarray]:
        """Group -> what its columns move the scores by, [B]."""
        found = {}
        for group, columns in self._groups[m].items():
            stay = self._whole.columns[m].copy()
            stay[list(columns)] = False
            beside = self._whole._replace(columns={**self._whole.columns, m: stay})
            found[group] = whole - self._value(beside)
        return found

    def _without_stretches(
        self, m: str, stretches: Sequence[Sequence[Stretch]], whole: np.ndarray
    ) -> list[list[tuple[Stretch, float]]]:
        """Of every real clip its stretches with what they move the score by."""
        found: list[list[tuple[Stretch, float]]] = [[] for _ in stretches]
        places = np.flatnonzero(self._real)
        for turn in range(max(map(len, stretches), default=0)):
            kept = self._whole.kept[m].copy()
            here = [row for row, own in enumerate(stretches) if turn < len(own)]
            for row in here:
                kept[places[row], stretches[row][turn].start : stretches[row][turn].end] = False
            value = self._value(self._whole._replace(kept={**self._whole.kept, m: kept}))
            for row in here:
                found[row].append((stretches[row][turn], float(whole[row] - value[row])))
        return found
