"""From features as they are stored to what a model reads: tokens, reduction, cleaning, scaling.

One object does it for training, inference and exported programs. Tokens and reduction are done once, for a
whole data set, before training (:meth:`Preprocess.prepare`), so that no step ever touches the frames again;
cleaning and scaling when a batch is read (:meth:`Preprocess.__call__`). An exported program does all of it
but the tokens, batch by batch, in JAX (:meth:`Preprocess.batch`).
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from msa_jax.configuration import Config, require_choice
from msa_jax.data import clean
from msa_jax.data.align import align, align_as_mmsa
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.data.tokenize import TokenSource, with_tokens

if TYPE_CHECKING:  # conversions of files read this module and need not wait for JAX
    from msa_jax.data.batch import Batch

REDUCTIONS = ("none", "mean", "align", "mean_align")
SCALINGS = ("none", "zscore_train", "zscore_group")
#: Clips that are reduced together.
_BLOCK = 64


def reduced_spec(spec: DatasetSpec, reduce: str) -> DatasetSpec:
    """The description of a data set whose audio and vision are reduced; see :class:`Preprocess`."""
    if reduce == "none":
        return spec
    length = 1 if reduce == "mean" else spec.modalities["text"].length
    modalities = {
        name: modality if name == "text" else dataclasses.replace(modality, length=length)
        for name, modality in spec.modalities.items()
    }
    return dataclasses.replace(spec, modalities=modalities)


class Preprocess:
    """What happens to raw features before a model sees them, in this order.

    1. Tokens: a model that trains a text encoder reads token ids instead of text features.
    2. Reduction of audio and vision: none; "mean", over a clip's real steps; "align", down to the text's
       steps (:func:`~msa_jax.data.align.align`); "mean_align", the same as "align". A clip without audio or
       vision has zeros there.
    3. Cleaning: non-finite values become 0, and so does padding.
    4. Scaling: each column is standardised with the training split's mean and deviation; padding stays 0.

    Args:
      spec: the data set as stored, with the statistics of its training split.
      feature_norm: none | zscore_train (per column) | zscore_group (one mean and deviation per
        named column group; columns of no group are left as they are).
      reduce: one of REDUCTIONS.
      compat: do as the MMSA toolkit: clean by :func:`~msa_jax.data.clean.as_mmsa`, reduce over all stored
        steps in its scrambled order (:func:`~msa_jax.data.align.align_as_mmsa`), repeat the mean for
        "mean_align", which is what it feeds MFN, and leave padding as it is stored, since its models read it.
      tokens: where tokens come from; None for a model that reads text features.
      absent: a clip without audio or vision has no step of it after the reduction either, for a model that
        was trained for that (:mod:`msa_jax.models.absent`).

    Attributes:
      scale: per modality that is scaled, mean and deviation, float32 [D] each.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        feature_norm: str = "none",
        reduce: str = "none",
        compat: bool = False,
        tokens: TokenSource | None = None,
        absent: bool = False,
    ):
        self.spec, self.feature_norm, self.reduce = spec, feature_norm, reduce
        self.compat, self.tokens, self.absent = compat, tokens, absent
        self.scale: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, modality in spec.modalities.items():
            mean, std = np.array(modality.mean, np.float32), np.array(modality.std, np.float32)
            if name == "text" and tokens is not None:
                continue
            if feature_norm == "zscore_train":
                self.scale[name] = mean, std
            elif feature_norm == "zscore_group" and modality.groups:
                self.scale[name] = clean.group_statistics(mean, std, modality.groups)

    def prepare(self, dataset: Dataset) -> Dataset:
        """Tokens and reduction of every split; the features stay raw otherwise.

        Raises:
          DataError: if the model needs tokens and the data has neither these nor transcripts.
        """
        return self.reduced(self.with_tokens(dataset))

    def with_tokens(self, dataset: Dataset) -> Dataset:
        """Tokens in place of text features, for a model that reads them.

        Raises:
          DataError: if the data has neither tokens nor transcripts.
        """
        return dataset if self.tokens is None else with_tokens(dataset, self.tokens)

    def reduced(self, dataset: Dataset) -> Dataset:
        """Audio and vision of every split reduced."""
        if self.reduce == "none":
            return dataset
        splits = {name: self._reduce_split(split) for name, split in dataset.splits.items()}
        spec = reduced_spec(dataset.spec, self.reduce)
        return dataclasses.replace(dataset, spec=spec, splits=splits)

    def __call__(self, name: str, values: Any, lengths: Any) -> Any:
        """Cleans and scales reduced features: [n, T, D] and lengths [n] to a new float32 array."""
        values = self._cleaned(name, values)
        if name in self.scale:
            values = clean.standardise(values, *self.scale[name])
        if self.compat:
            return values.astype(np.float32)
        xp = values.__array_namespace__()
        real = xp.arange(values.shape[1])[None, :] < lengths[:, None]
        return xp.where(real[:, :, None], values, 0).astype(np.float32)

    def batch(
        self,
        values: Mapping[str, Any],
        lengths: Mapping[str, Any],
        tokens: Any = None,
        text_steps: int | None = None,
    ) -> "Batch":
        """Raw clips to the batch that a model reads, inside a traced program.

        Args:
          values: per modality float32 [B, T, D], without "text" where there are tokens.
          lengths: per modality int32 [B], without "text" where there are tokens.
          tokens: int32 [B, 3, S].
          text_steps: of the clips' own text, where utterances before stand behind it; None: all S.
        """
        import jax.numpy as jnp

        from msa_jax.data.batch import Batch

        values, lengths = dict(values), dict(lengths)
        if tokens is not None:
            lengths["text"] = (tokens[:, 1] == 1).sum(axis=1)  # the clips' own, see msa_jax.data.context
            steps = tokens.shape[2] if text_steps is None else min(tokens.shape[2], text_steps)
            values["text"] = jnp.zeros((tokens.shape[0], steps, 0), jnp.float32)
        steps, words = values["text"].shape[1], lengths["text"]
        read, masks = {}, {}
        for m in MODALITIES:
            x, n = values[m], lengths[m]
            if m != "text":
                x, n = self._reduced(m, x, n, words, steps)
            read[m] = self(m, x, n)
            masks[m] = jnp.arange(x.shape[1])[None, :] < n[:, None]
        rows = words.shape[0]
        weight, index = jnp.ones((rows,), jnp.float32), jnp.zeros((rows,), jnp.int32)
        return Batch(read, masks, {}, index, weight, tokens)

    def _cleaned(self, name: str, values: Any) -> Any:
        return clean.as_mmsa(values, name) if self.compat else clean.finite(values)

    def _reduced(self, name: str, values: Any, lengths: Any, words: Any, steps: Any) -> tuple[Any, Any]:
        """Audio or vision [n, T, D] of clips with so many real ``words`` in ``steps``, and its lengths."""
        if self.reduce == "none":
            return values, lengths
        values = self._cleaned(name, values)
        there = (lengths > 0) if self.absent else 1
        if self.reduce == "mean" or (self.compat and self.reduce == "mean_align"):
            values = clean.time_mean(values, lengths, self.compat)
        if self.reduce == "mean":
            return values, (lengths * 0 + 1) * there
        if self.compat:
            return align_as_mmsa(values, steps), words
        return align(values, lengths, words, steps), words * there

    def _reduce_split(self, split: Split) -> Split:
        """A split, whose features may lie on disk, with reduced ones in memory; a few clips at a time."""
        steps = split.values["text"].shape[1]
        values, lengths = dict(split.values), dict(split.lengths)
        for name in ("audio", "vision"):
            raw = split.values[name]
            made = np.empty((len(raw), 1 if self.reduce == "mean" else steps, raw.shape[2]), np.float32)
            count = np.empty(len(raw), np.int32)
            for start in range(0, len(raw), _BLOCK):
                rows = slice(start, start + _BLOCK)
                block = np.asarray(raw[rows], np.float32)
                words = np.asarray(split.lengths["text"][rows])
                made[rows], count[rows] = self._reduced(name, block, split.lengths[name][rows], words, steps)
            values[name], lengths[name] = made, count
        return dataclasses.replace(split, values=values, lengths=lengths)


def preprocess_for(config: Config, spec: DatasetSpec, tokens: TokenSource | None) -> Preprocess:
    """What a configuration asks for.

    Args:
      config: the whole configuration.
      spec: the data set as stored.
      tokens: where its model's tokens come from; None for text features.

    Raises:
      ConfigError: for an unknown reduction or scaling.
    """
    data = config.data
    require_choice("data.reduce", data.reduce, REDUCTIONS)
    require_choice("data.feature_norm", data.feature_norm, SCALINGS)
    absent = config.train.corrupt == "modalities"
    return Preprocess(spec, data.feature_norm, data.reduce, bool(config.model.compat), tokens, absent)
