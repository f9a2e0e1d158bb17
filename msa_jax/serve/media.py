"""Media files behind the server: extracted in processes of their own, scored whole, over time, explained."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.inference import Trained
from msa_jax.media import fresh
from msa_jax.media.pool import Pool
from msa_jax.serve.answers import answers
from msa_jax.serve.reasons import Explainer

#: Clips that are extracted at once; a server's cores are shared with the model.
_PROCESSES = 1


class MediaReader:
    """Makes of a media file what a client reads.

    Args:
      trained: the run.
      score: gives the predictions of a split, compiled at the start.
      rows: how many clips it takes at once.
      longest: seconds that a file may play.
      seconds: that its extraction may take.

    Raises:
      DataError: if the run's features were not made from clips, or what made them is not here.
    """

    def __init__(
        self,
        trained: Trained,
        score: Callable[[Split], Mapping[str, np.ndarray]],
        rows: int,
        longest: float,
        seconds: float,
    ):
        plan, self._recipe = trained.plan({})
        self._plan = dataclasses.replace(plan, longest=longest)
        self._trained, self._score_once, self._rows = trained, score, rows
        self._explain = Explainer(trained, plan.encoder)
        self._pool = Pool(_PROCESSES, seconds)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.__exit__(None, None, None)

    def warm_up(self, clip: Split) -> None:
        """Compiles what the reasons of a clip of this padded shape need."""
        self._explain.warm_up(clip)

    def __call__(
        self, path: pathlib.Path, window: float, stride: float, model: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What one file says; see :meth:`msa_jax.serve.scorer.MediaScorer.score_media`.

        Args:
          path: the file.
          window: seconds of a point of the curve.
          stride: seconds from one to the next.
          model: as ``/spec`` describes it.
        """
        made = fresh.extract(path, self._plan, self._recipe, self._pool)
        [features] = made.features.values()
        whole = self._trained.split_of(made)
        self._trained.require_modalities(whole)  # a window may hold less
        answer = answers(self._score(whole), model)[0]
        answer["duration"] = round(fresh.duration(features), 3)
        if features.transcript:
            answer["transcript"] = features.transcript
        parts, places = fresh.windows(made, window, stride)
        found = answers(self._score(self._trained.split_of(parts)), model)
        answer["curve"] = [
            {"start": start, "end": end, **row, "words": parts.features[clip.id].transcript}
            for (_, start, end), clip, row in zip(places, parts.clips, found, strict=True)
        ]
        answer |= self._explain(whole)
        answer["notes"] = [f"{modality}: {_without(path, note)}." for modality, note in features.notes]
        return answer

    def _score(self, split: Split) -> dict[str, np.ndarray]:
        """Predictions of any number of clips, in calls of as many as were compiled for."""
        found = [self._score_once(_rows(split, k, k + self._rows)) for k in range(0, len(split), self._rows)]
        return {task: np.concatenate([part[task] for part in found]) for task in found[0]}


def _rows(split: Split, start: int, stop: int) -> Split:
    """Some clips of a split."""
    rows = slice(start, stop)
    return Split(
        split.ids[rows],
        {m: x[rows] for m, x in split.values.items()},
        {m: n[rows] for m, n in split.lengths.items()},
        {},
        tokens=None if split.tokens is None else split.tokens[rows],
        raw_text=None if split.raw_text is None else split.raw_text[rows],
    )


def _without(path: pathlib.Path, note: str) -> str:
    """A note without the place where the server keeps the file."""
    return note.replace(str(path), "the file")
