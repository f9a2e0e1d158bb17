"""What a run predicts for clips to which something has happened."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Chunk, Shape, batch_of, own_steps
from msa_jax.data.rows import Rows
from msa_jax.data.spec import MODALITIES
from msa_jax.data.tokenize import unknown_token
from msa_jax.inference import Trained, in_order
from msa_jax.robust.corruptions import Change, add_noise, drop, hide_columns
from msa_jax.robust.protocols import Clips
from msa_jax.training import pretrained
from msa_jax.training.run_folder import TOKENIZER
from msa_jax.training.step import infer


class Beside(NamedTuple):
    """What is changed of a batch of B clips.

    Attributes:
      kept: per modality the steps that stay, bool [B, T].
      columns: per modality the columns that stay, bool [D].
      noise: per modality the power of the signal over that of the noise, in decibels.
      keys: of the clips, uint32 [B].
    """

    kept: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    noise: Mapping[str, Any]
    keys: np.ndarray


class Program:
    """A run's prediction for changed clips, compiled once per padded shape and number of rows.

    One that is kept serves any number of splits, so that a server compiles nothing for a clip.

    Args:
      trained: the run.
      seed: of added noise.

    Attributes:
      trained: the run.
      traces: how often the prediction was traced, for tests and benchmarks: once per padded shape and number
        of rows, and once more for noise.
    """

    def __init__(self, trained: Trained, seed: int = 1111):
        self.trained, self._seed = trained, seed
        tokens = pretrained.is_tuned(trained.config.model)
        self._unknown = unknown_token(trained.workdir / TOKENIZER) if tokens else 0  # features have no tokens
        self.traces = 0
        self._compiled = jax.jit(self._predict, static_argnames="shape")

    def __call__(self, item: Any, beside: Beside, filler: Mapping[str, np.ndarray], shape: Shape) -> Any:
        """Per task the predictions for a batch after a change, [B] or [B, C].

        Args:
          item: the batch, as :meth:`msa_jax.inference.Trained.items` gives it.
          beside: what is changed of it.
          filler: per modality [D], what is lost becomes.
          shape: its padded steps.
        """
        weights = self.trained.params, self.trained.batch_stats
        return self._compiled(*weights, item, beside, filler, shape=shape)

    def _predict(
        self, params: Any, batch_stats: Any, item: Any, beside: Beside, filler: Any, shape: Shape
    ) -> Any:
        self.traces += 1
        batch: Batch = batch_of(None, jax.tree.map(lambda x: x[0], item), shape)
        if beside.noise:
            batch = add_noise(batch, jnp.asarray(beside.keys), beside.noise, self._seed)
        batch = drop(hide_columns(batch, beside.columns, filler), beside.kept, self._unknown, filler)
        return infer(self.trained.learner, params, batch_stats, batch).predictions


class Changed:
    """A split as a run reads it, prepared once, and what the run predicts for changed copies of it.

    Args:
      program: of the run, kept where there are more splits to come.
      split: N clips as they are stored.
      mean: what is lost becomes the training split's mean; else it becomes zero as the model reads it.

    Attributes:
      program: of the run.
      prepared: the split as the run reads it.
      clips: what protocols must know of the clips.

    Raises:
      DataError: if the clips do not have what the model was trained on.
    """

    def __init__(self, program: Program, split: Split, mean: bool = False):
        self.program, self._trained = program, program.trained
        self.prepared = self._trained.prepare(split)
        steps = {m: self.prepared.values[m].shape[1] for m in MODALITIES}
        tokens = pretrained.is_tuned(self._trained.config.model)
        self.clips = Clips.of(self.prepared.ids.tolist(), self.prepared.lengths, steps, tokens)
        self._widths = {m: self.prepared.values[m].shape[2] for m in MODALITIES}
        self._filler = {m: self._filling(m, mean) for m in MODALITIES}

    def _filling(self, modality: str, mean: bool) -> np.ndarray:
        """What stands in for a lost step, as the model reads it, [D]."""
        width = self._widths[modality]
        if not mean or not width:
            return np.zeros(width, np.float32)
        stored = np.asarray(self._trained.spec.modalities[modality].mean, np.float32)
        return self._trained.preprocess(modality, stored[None, None], np.array([1]))[0, 0]

    def predict(self, change: Change) -> dict[str, np.ndarray]:
        """Per task float32 [N], or logits [N, C], of the clips after a change."""
        split = _taken(self.prepared, change.rows)

        def outs() -> Any:
            for chunk, item in self._trained.items(split):
                beside = self.beside(chunk)
                for m, kept in change.kept.items():
                    found = kept[chunk.index[0], : beside.kept[m].shape[1]]
                    beside.kept[m][:, : found.shape[1]] = found
                noise = {m: np.float32(decibels) for m, decibels in change.noise.items()}
                yield chunk, self.ask(chunk, item, beside._replace(noise=noise))

        return in_order(len(split), outs())

    def items(self) -> Iterator[tuple[Chunk, Any]]:
        """The batches of the clips, for :meth:`ask`."""
        return self._trained.items(self.prepared)

    def beside(self, chunk: Chunk) -> Beside:
        """No change of a chunk's batch: all of it stays."""
        rows, steps = chunk.index[0], self.steps(chunk)
        kept = {m: np.ones((len(rows), steps[m]), bool) for m in MODALITIES}
        columns = {m: np.ones(self._widths[m], bool) for m in MODALITIES}
        return Beside(kept, columns, {}, self.clips.keys[rows])

    def steps(self, chunk: Chunk) -> dict[str, int]:
        """The padded steps per modality of a chunk's batch."""
        context = self._trained.model_spec.context > 0
        return own_steps(chunk.shape, self.prepared.values["text"].shape[1], context)

    def ask(self, chunk: Chunk, item: Any, beside: Beside) -> dict[str, jax.Array]:
        """Per task the predictions for a batch after a change, [B] or [B, C]."""
        return self.program(item, beside, self._filler, chunk.shape)


def _taken(split: Split, rows: Mapping[str, np.ndarray]) -> Split:
    """The clips with some modalities taken from other clips, tokens with the text; nothing is copied."""
    values, lengths, tokens = dict(split.values), dict(split.lengths), split.tokens
    for m, chosen in rows.items():
        values[m] = Rows.of([split.values[m]]).take(chosen)
        lengths[m] = np.asarray(split.lengths[m])[chosen]
        if m == "text" and tokens is not None:
            tokens = np.asarray(tokens)[chosen]
    return dataclasses.replace(split, values=values, lengths=lengths, tokens=tokens)
