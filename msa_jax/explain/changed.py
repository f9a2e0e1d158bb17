"""What a run predicts for clips to which something has happened."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Shape, batch_of
from msa_jax.data.rows import Rows
from msa_jax.data.spec import MODALITIES
from msa_jax.data.tokenize import unknown_token
from msa_jax.inference import Trained, in_order
from msa_jax.messages import LOGGER
from msa_jax.robust.corruptions import Change, add_noise, drop
from msa_jax.robust.protocols import Clips
from msa_jax.training import pretrained
from msa_jax.training.run_folder import TOKENIZER
from msa_jax.training.step import infer

#: BERT's [UNK], where a run does not know its encoder's.
UNKNOWN = 100


class Changed:
    """A split as a run reads it, prepared once, and what the run predicts for changed copies of it.

    Args:
      trained: the run.
      split: N clips as they are stored.
      seed: of added noise.

    Attributes:
      clips: what protocols must know of the clips.
      traces: how often the prediction was traced, for tests and benchmarks: once per padded shape, and once
        more for noise.

    Raises:
      DataError: if the clips do not have what the model was trained on.
    """

    def __init__(self, trained: Trained, split: Split, seed: int = 1111):
        self._trained, self._seed, self._unknown = trained, seed, _unknown_of(trained)
        self._split = trained.prepare(split)
        steps = {m: self._split.values[m].shape[1] for m in MODALITIES}
        tokens = self._split.tokens is not None
        self.clips = Clips.of(self._split.ids.tolist(), self._split.lengths, steps, tokens)
        self.traces = 0
        self._program = jax.jit(self._predict, static_argnames="shape")

    def predict(self, change: Change) -> dict[str, np.ndarray]:
        """Per task float32 [N], or logits [N, C], of the clips after a change."""
        split = _taken(self._split, change.rows)
        trained = self._trained

        def outs() -> Any:
            for chunk, item in trained.items(split):
                rows = chunk.index[0]
                steps = dict(zip(MODALITIES, chunk.shape, strict=True))
                kept = {m: self._kept(change, m, rows, steps[m]) for m in MODALITIES}
                noise = {m: jnp.float32(decibels) for m, decibels in change.noise.items()}
                beside, weights = (kept, noise, self.clips.keys[rows]), (trained.params, trained.batch_stats)
                yield chunk, self._program(*weights, item, beside, shape=chunk.shape)

        return in_order(len(split), outs())

    def _kept(self, change: Change, modality: str, rows: np.ndarray, steps: int) -> np.ndarray:
        """What the rows of a batch keep, bool [B, T]; a modality that loses nothing keeps all."""
        kept = np.ones((len(rows), steps), bool)
        if modality in change.kept:
            found = change.kept[modality][rows, :steps]
            kept[:, : found.shape[1]] = found
        return kept

    def _predict(self, params: Any, batch_stats: Any, item: Any, beside: Any, shape: Shape) -> Any:
        self.traces += 1
        kept, noise, keys = beside
        batch: Batch = batch_of(None, jax.tree.map(lambda x: x[0], item), shape)
        if noise:
            batch = add_noise(batch, keys, noise, self._seed)
        batch = drop(batch, kept, self._unknown)
        return infer(self._trained.learner, params, batch_stats, batch).predictions


def _unknown_of(trained: Trained) -> int:
    """The token that a lost word becomes."""
    folder = trained.workdir / TOKENIZER
    if folder.is_dir():
        return unknown_token(folder)
    if pretrained.is_tuned(trained.config.model):
        LOGGER.info(
            "note: %s has no vocabulary; lost words become token %d, BERT's.", trained.workdir, UNKNOWN
        )
    return UNKNOWN


def _taken(split: Split, rows: Mapping[str, np.ndarray]) -> Split:
    """The clips with some modalities taken from other clips, tokens with the text; nothing is copied."""
    values, lengths, tokens = dict(split.values), dict(split.lengths), split.tokens
    for m, chosen in rows.items():
        values[m] = Rows.of([split.values[m]]).take(chosen)
        lengths[m] = np.asarray(split.lengths[m])[chosen]
        if m == "text" and tokens is not None:
            tokens = np.asarray(tokens)[chosen]
    return dataclasses.replace(split, values=values, lengths=lengths, tokens=tokens)
