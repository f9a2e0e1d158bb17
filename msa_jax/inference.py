"""A finished run as a thing to use: its best model with the preprocessing that it was trained with."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.loader import (
    Plan,
    Preprocess,
    Source,
    batch_of,
    bucket_shapes,
    clip_lengths,
)
from msa_jax.data.prepare import reduce_dataset
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError
from msa_jax.train import build, pretrained
from msa_jax.train.best import load_best
from msa_jax.train.run_folder import TOKENIZER
from msa_jax.train.step import Learner, infer


class Trained:
    """The best model of a run, for new clips.

    Args:
      workdir: the run's folder, which is only read.
      warn: called with a sentence about what is odd and does no harm.

    Attributes:
      config: the run's configuration.
      spec: the data set that it was trained on, as stored, with the statistics of its training split.
      model_spec: the same as the model reads it.
      learner: holds the Linen module.
      shapes: the padded steps (text, audio, vision) of its training, shortest first; empty where they were
        not recorded.
      params: its parameters.
      batch_stats: its running statistics, empty for most models.

    Raises:
      RunError: if the folder holds no run, or none that has finished an epoch.
    """

    def __init__(self, workdir: str | pathlib.Path, warn: Callable[[str], None] = print):
        self.workdir = pathlib.Path(workdir)
        best = load_best(self.workdir, warn)
        self.config, self.spec, self.model_spec = best.config, best.spec, best.model_spec
        self.shapes = best.shapes
        self._mesh = build.build_mesh(1)
        self.learner: Learner = build.build_learner(self.config, self.model_spec, 1, self._mesh)
        best.check_fits(self.learner.model, self.model_spec)
        placed = jax.device_put((best.params, best.batch_stats), NamedSharding(self._mesh, P()))
        self.params, self.batch_stats = placed
        self._predictions = jax.jit(
            lambda params, statistics, batch: infer(self.learner, params, statistics, batch).predictions
        )

    def predict(self, clips: Split | Batch) -> dict[str, np.ndarray]:
        """Scores clips as they are stored; the run's own preprocessing is applied.

        Args:
          clips: N clips, as a split of a data set or as a batch of raw features (of which neither
            labels nor weights are read). Any number, any length.

        Returns:
          Per task float32 [N], or logits [N, C]: "M", the score, and those of the single modalities
          ("T", "A", "V") where the model has them.

        Raises:
          DataError: if the clips do not have what the model was trained on.
        """
        split = self.prepare(_as_split(clips) if isinstance(clips, Batch) else clips)
        lengths = clip_lengths(split, models.steps_read(self.config.model))
        batch_size = min(self.config.train.eval_batch_size, len(split))
        if self.config.model.compat:  # as in training, every clip is as long as the longest
            shapes: Any = [tuple(split.values[m].shape[1] for m in MODALITIES)]
        else:
            shapes = bucket_shapes(lengths, self.config.data.buckets, batch_size)
        plan = Plan(lengths, shapes, batch_size, 1)
        preprocess = Preprocess(self.model_spec, self.config.data.feature_norm, self.config.model.compat)
        source = Source(split, preprocess, self._mesh, resident=False)
        found: dict[str, np.ndarray] = {}
        for chunk, item in source.items(plan.once()):
            predictions = self._predictions(self.params, self.batch_stats, _batch(item, chunk.shape))
            rows, real = chunk.index[0], chunk.weight[0] > 0
            for task, y in predictions.items():
                y = np.asarray(y)
                array = found.setdefault(task, np.zeros((len(split), *y.shape[1:]), np.float32))
                array[rows[real]] = y[real]
        return found

    def prepare(self, split: Split) -> Split:
        """The clips as the model reads them, before cleaning and scaling (see :class:`Preprocess`).

        Raises:
          DataError: if they do not have what the model was trained on.
        """
        if not len(split):
            raise DataError("there are no clips to score.")
        tuned = pretrained.is_tuned(self.config.model)
        for m in MODALITIES:
            found, expected = split.values[m].shape[2], self.spec.modalities[m].width
            if found != expected and not (tuned and m == "text"):
                raise DataError(
                    f"{m} of these clips has {found} columns, but the model in {self.workdir} was trained on "
                    f"{expected}; extract the features as for its training data."
                )
        model = self.config.model
        if tuned:
            model = pretrained.with_folder(model, self.workdir / TOKENIZER)
            self._require_tokens(split)
        spec = dataclasses.replace(self.spec, name="the input", has_tokens=split.tokens is not None)
        split = pretrained.with_tokens(Dataset(spec, {"clips": split}), model).splits["clips"]
        if model.compat:  # whose models read padding, so there must be as much as in training
            steps = {m: spec.modalities[m].length for m in MODALITIES}
            split = _padded(split, steps | {"text": self.model_spec.modalities["text"].length})
        reduced = reduce_dataset(Dataset(spec, {"clips": split}), self.config.data.reduce, model.compat)
        return reduced.splits["clips"]

    def _require_tokens(self, split: Split) -> None:
        has_tokenizer = (self.workdir / TOKENIZER).is_dir()
        if split.tokens is None and not (has_tokenizer and split.raw_text is not None):
            transcripts = " or transcripts (raw_text)" if has_tokenizer else ""
            raise DataError(
                f"the model in {self.workdir} encodes text itself and these clips have no token ids "
                f"(text_bert){transcripts}; add them."
            )


def _batch(item: Any, shape: Any) -> Batch:
    (index, weight), clips = item
    first = jax.tree.map(lambda x: x[0], ((index, weight), clips))
    return batch_of(None, first, shape)


def _as_split(batch: Batch) -> Split:
    """A batch's clips as a split; real steps come first."""
    values = {m: np.asarray(batch.values[m]) for m in MODALITIES}
    lengths = {m: np.asarray(batch.mask[m]).sum(axis=1).astype(np.int32) for m in MODALITIES}
    tokens = None if batch.tokens is None else np.asarray(batch.tokens)
    return Split(np.arange(len(lengths["text"])).astype(str), values, lengths, {}, tokens=tokens)


def _padded(split: Split, steps: Mapping[str, int]) -> Split:
    """The clips with zeros behind, so that each modality has at least so many steps."""

    def padded(array: np.ndarray, axis: int, length: int) -> np.ndarray:
        more = max(0, length - array.shape[axis])
        return np.pad(array, [(0, more if i == axis else 0) for i in range(array.ndim)]) if more else array

    values = {m: padded(split.values[m], 1, steps[m]) for m in MODALITIES}
    tokens = None if split.tokens is None else padded(split.tokens, 2, steps["text"])
    return dataclasses.replace(split, values=values, tokens=tokens)
