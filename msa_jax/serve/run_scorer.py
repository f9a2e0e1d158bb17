"""A run's folder behind the server."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from msa_jax import models
from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError
from msa_jax.inference import Trained
from msa_jax.messages import LOGGER
from msa_jax.serve.batcher import ROWS
from msa_jax.serve.clips import blank, joined
from msa_jax.serve.limits import Limits
from msa_jax.serve.media import MediaReader
from msa_jax.serve.scorer import described
from msa_jax.training import pretrained
from msa_jax.training.run_folder import TOKENIZER


class RunScorer:
    """Scores with the best model of a run.

    Args:
      workdir: the run's folder.
      limits: of a request; how long a media file may play.

    Attributes:
      score_media: see :class:`msa_jax.serve.scorer.MediaScorer`; only where the run's features were made from
        clips, and what made them is here.
      warm_media: the same.

    Raises:
      RunError: if the folder holds no trained run.
    """

    score_media: Callable[[pathlib.Path, float, float], dict[str, Any]]
    warm_media: Callable[[Split], None]

    def __init__(self, workdir: str | pathlib.Path, limits: Limits | None = None):
        self.trained = Trained(workdir)
        self._tuned = pretrained.is_tuned(self.trained.config.model)
        limits = limits or Limits()
        try:
            self._media = MediaReader(self.trained, self.score, ROWS, limits.media_seconds, limits.seconds)
        except DataError as error:
            LOGGER.info("note: media files are not taken: %s", error)
            return
        self.score_media = lambda path, window, stride: self._media(path, window, stride, self._spec)
        self.warm_media = self._media.warm_up

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        trained = self.trained
        model, stored = trained.config.model, trained.spec.modalities
        longest: dict[str, int] = dict(zip(MODALITIES, trained.shapes[-1], strict=True))
        if trained.model_spec.context:  # what is sent are clips by themselves
            longest["text"] = trained.model_spec.modalities["text"].length
        shapes, steps = trained.shapes, dict(longest)
        shapes = [(min(text, longest["text"]), sound, face) for text, sound, face in shapes]
        if trained.config.data.reduce != "none":  # sound and face are reduced before they are padded
            sound, face = stored["audio"].length, stored["vision"].length
            steps |= {"audio": sound, "vision": face}
            shapes = [(text, sound, face) for text, _, _ in shapes]
        elif models.steps_read(model) is not None:  # later steps are cut off, as in training
            steps = {m: max(n, stored[m].length) for m, n in longest.items()}
        reads = ["text"]
        if self._tuned:
            has_vocabulary = (trained.workdir / TOKENIZER).is_dir()
            reads = ["text_bert", "raw_text"] if has_vocabulary else ["text_bert"]
        data = dataclasses.replace(trained.model_spec, modalities=stored)
        made = described(model.name, model.task, ("M",), data, shapes, steps, reads)
        predicted = trained.predict(joined([blank(made, shapes[0])]))
        return described(
            model.name, model.task, tuple(predicted), data, shapes, steps, reads, trained.may_lack
        )

    def close(self) -> None:
        """Ends the processes that extract media."""
        if hasattr(self, "score_media"):
            self._media.close()

    def spec(self) -> dict[str, Any]:
        """The run's model, see :func:`msa_jax.serve.scorer.described`."""
        return self._spec

    def score(self, split: Split) -> dict[str, np.ndarray]:
        """Predictions by task of N clips; see :class:`msa_jax.serve.scorer.Scorer`.

        Raises:
          DataError: if a clip has other tokens than the encoder's, or more than the padded shapes.
        """
        if self._tuned and split.tokens is None:
            split = self.trained.checked(split)  # where transcripts become tokens
            most = self._spec["modalities"]["text"]["steps"]
            if int(split.lengths["text"].max()) > most:
                raise DataError(f"raw_text has more tokens than the {most} that the model is served for.")
        return self.trained.predict_any(split)  # what may be absent, the reader knows
