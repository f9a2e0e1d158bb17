"""A finished run as a thing to use: its best model with the preprocessing that it was trained with."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax import metrics, models
from msa_jax.data import store, unlabelled
from msa_jax.data.arrays import split_of
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.class_labels import true_labels
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.loader import (
    Chunk,
    Plan,
    Shape,
    Source,
    batch_of,
    clip_lengths,
    filled,
    stored_shape,
)
from msa_jax.data.spec import MODALITIES, THREE_CLASSES
from msa_jax.errors import DataError, MsaJaxError
from msa_jax.media import fresh, is_media
from msa_jax.messages import LOGGER
from msa_jax.training import build, pretrained
from msa_jax.training.best import load_best
from msa_jax.training.corrupt import absent_of
from msa_jax.training.run_folder import TOKENIZER
from msa_jax.training.step import Learner, infer


class Trained:
    """The best model of a run, for new clips.

    Args:
      workdir: the run's folder, which is only read.

    Attributes:
      config: the run's configuration.
      spec: the data set that it was trained on, as stored, with the statistics of its training split.
      model_spec: the same as the model reads it.
      learner: holds the Linen module.
      params: its parameters.
      batch_stats: its running statistics, empty for most models.
      preprocess: what happens to clips before the model sees them.
      shapes: the padded steps of text, audio and vision that clips are filled to, shortest first.
      traces: how often the prediction was traced, for tests and benchmarks: once per padded shape and
        number of rows.

    Raises:
      RunError: if the folder holds no run, or none that has finished an epoch.
    """

    def __init__(self, workdir: str | pathlib.Path):
        self.workdir = pathlib.Path(workdir)
        best = load_best(self.workdir)
        self.config, self.spec, self.model_spec = best.config, best.spec, best.model_spec
        self.shapes = best.shapes or [stored_shape(self.model_spec)]
        self._mesh = build.build_mesh(1)
        self.learner: Learner = build.build_learner(self.config, self.model_spec, 1, self._mesh)
        best.check_fits(self.learner.model, self.model_spec)
        placed = jax.device_put((best.params, best.batch_stats), NamedSharding(self._mesh, P()))
        self.params, self.batch_stats = placed
        model = pretrained.with_folder(self.config.model, self.workdir / TOKENIZER)
        self.preprocess = build.preprocess_of(self.config, self.spec, model)
        self._steps_read = models.steps_read(self.config.model)
        self.traces = 0
        self._predictions = _program(self._predict_batch)

    def predict(
        self,
        clips: str | pathlib.Path | Split | Batch | None = None,
        *,
        text: Any = None,
        audio: Any = None,
        vision: Any = None,
        text_bert: Any = None,
        raw_text: Sequence[str] | str | None = None,
        places: Mapping[str, str | pathlib.Path] | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores clips as they are stored; the run's own preprocessing is applied.

        Clips are padded to the lengths that the run trained with, doubled as often as longer clips need, and
        batches filled to powers of two, so that a program is compiled for few shapes once and not for
        every clip.

        Args:
          clips: a feature file or store, whose splits are joined; a media file, a folder of such or a
            manifest, from which features are made as those that the run was trained on; or N clips as a
            split of a data set, or as a batch of raw features (of which neither labels nor weights are
            read). Any number, any length.
          text: in place of ``clips``, like ``audio`` and ``vision``: [T, D] for one clip, [N, T, D], or a
            list of arrays [T, D] of any lengths. A run that was trained for it (:attr:`may_lack`) takes clips
            without a modality: leave it out, or put None or an array [0, D] into the list.
          audio: the same.
          vision: the same.
          text_bert: token ids, mask and segment ids [3, T] of every clip, for a model that encodes the
            text itself.
          raw_text: transcripts, for such a model with a tokenizer.
          places: for media, where models lie that were elsewhere in training: "face-model", "encoder", "asr".

        Returns:
          Per task float32 [N], or logits [N, C]: "M", the score, and those of the single modalities
          ("T", "A", "V") where the model has them. For a file also "id", str [N].

        Raises:
          DataError: if the clips do not have what the model was trained on.
        """
        features = {"text": text, "audio": audio, "vision": vision}
        given = [name for name, x in features.items() if x is not None]
        if (clips is None) == (not given):
            raise DataError("give clips (a file, say), or arrays as text=, audio= and vision=, not both.")
        if isinstance(clips, str | pathlib.Path):
            path = pathlib.Path(clips)
            if is_media(path):
                return self._predict_media(path, places or {})
            return self._predict_file(path)
        if clips is None:
            clips = split_of(features, text_bert, raw_text, absent=self._absent)
        split = _as_split(clips) if isinstance(clips, Batch) else clips
        self.require_modalities(split)
        return self.predict_any(split)

    def _predict_media(self, path: pathlib.Path, places: Mapping[str, str | pathlib.Path]) -> dict:
        made = fresh.extract(path, *self.plan(places))
        for reason in made.failed.values():
            LOGGER.warning("%s", reason)
        return {"id": np.array([clip.id for clip in made.clips]), **self.predict(self.split_of(made))}

    def plan(self, places: Mapping[str, str | pathlib.Path]) -> tuple[fresh.Plan, fresh.Recipe]:
        """How clips are extracted as those that the run was trained on; see :func:`fresh.plan_like`."""
        named = {role: pathlib.Path(place) for role, place in places.items() if place}
        tokenizer = self.workdir / TOKENIZER if pretrained.is_tuned(self.config.model) else None
        return fresh.plan_like(self.spec.recipe, str(self.workdir), named, tokenizer)

    def split_of(self, made: fresh.Fresh) -> Split:
        """Extracted clips as this model reads them."""
        return fresh.split_of(made, encode=not pretrained.is_tuned(self.config.model))

    def _predict_file(self, path: pathlib.Path) -> dict[str, np.ndarray]:
        splits, notes = self.read(path)
        for note in notes:
            LOGGER.info("note: %s", note)
        found = [{"id": split.ids, **self.predict(split)} for split in splits.values()]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    @property
    def may_lack(self) -> tuple[str, ...]:
        """The modalities that a clip may have no step of: training clips lost them, or had none."""
        lost, trained = absent_of(self.config), self.spec.modalities
        needs_words = self.config.data.reduce in ("align", "mean_align")  # whose steps the others are put to
        return tuple(
            m for m in MODALITIES if (m in lost or trained[m].absent) and not (m == "text" and needs_words)
        )

    @property
    def _absent(self) -> dict[str, int]:
        tuned = pretrained.is_tuned(self.config.model)
        return {m: self.spec.modalities[m].width for m in self.may_lack if not (tuned and m == "text")}

    def require_modalities(self, split: Split) -> None:
        """Refuses clips without a modality, unless the run was trained for them.

        Raises:
          DataError: for the first of them.
        """
        tuned = pretrained.is_tuned(self.config.model)  # an empty text has tokens, too
        for m in MODALITIES[1 if tuned else 0 :]:
            if m in self.may_lack or self.spec.modalities[m].absent is None:  # earlier runs did not count
                continue
            if len(rows := np.flatnonzero(np.asarray(split.lengths[m]) == 0)):
                first = str(split.ids[rows[0]])
                raise DataError(
                    f"{len(rows)} of {len(split)} clips have no {m} (the first is {first!r}), and the model "
                    f"in {self.workdir} was not trained for that; leave them out, or train with "
                    "--config.train.corrupt=modalities."
                )

    def read(
        self, path: pathlib.Path, wanted: str = "all", labelled: bool = False
    ) -> tuple[dict[str, Split], list[str]]:
        """The clips of a feature file or store; see :func:`msa_jax.data.unlabelled.read`."""
        needs_text = not pretrained.is_tuned(self.config.model)
        if path.is_dir() and (found := store.read(path).spec.recipe):
            trained = {m: part for m, part in self.spec.recipe.items() if needs_text or m != "text"}
            fresh.check_same(trained, found, str(self.workdir))
        return unlabelled.read(path, wanted, needs_text, labelled, self._absent)

    def evaluate(self, path: str | pathlib.Path, split: str = "all") -> dict[str, dict[str, float]]:
        """All metrics of the run on another labelled feature file or store.

        Args:
          path: the file; its clips need scores, or class labels for a model that classifies.
          split: "train", "valid", "test", or "all" that is there.

        Returns:
          Per split ("" for clips without splits) the metrics of the run's data set, as
          :func:`msa_jax.metrics.regression_metrics` or ``classification_metrics`` gives them.

        Raises:
          DataError: if the clips do not have what the model was trained on, or no labels.
        """
        splits, notes = self.read(pathlib.Path(path), split, labelled=True)
        for note in notes:
            LOGGER.info("note: %s", note)
        return {name: self.scores(clips, self.predict_any(clips)["M"]) for name, clips in splits.items()}

    def scores(self, clips: Split, prediction: np.ndarray) -> dict[str, float]:
        """The metrics of predictions for N labelled clips, scores [N] or logits [N, C].

        Raises:
          DataError: if the clips have no labels of the kind that the run predicts.
        """
        spec, classify = self.model_spec, self.config.model.task == "classification"
        label = true_labels(clips, spec, classify)
        if classify:
            names = spec.class_names or THREE_CLASSES
            return metrics.classification_metrics(prediction, label, compat=True, names=names)
        return metrics.regression_metrics(spec.metrics, prediction, label, spec.label_range)

    def features(self, split: Split) -> dict[str, np.ndarray]:
        """What the model makes of clips on the way to its answer.

        Args:
          split: N clips as they are stored.

        Returns:
          Name -> float32 [N, F]: those of the model's features that are one vector a clip, "fusion" and, for
          most models, "text", "audio" and "vision".

        Raises:
          DataError: if the clips do not have what the model was trained on.
        """

        def vectors(params: Any, batch_stats: Any, batch: Batch) -> Any:
            features = infer(self.learner, params, batch_stats, batch).features
            return {name: x for name, x in features.items() if x.ndim == 2}

        return self._computed(split, _program(vectors))

    def predict_any(self, split: Split) -> dict[str, np.ndarray]:
        """As :meth:`predict`, also of clips that lack a modality which no training clip lacked.

        A window of a long clip may hold no face, and a labelled split is scored whole.

        Args:
          split: N clips as they are stored.

        Returns:
          Per task float32 [N], or logits [N, C].

        Raises:
          DataError: if the clips do not have what the model was trained on.
        """
        return self._computed(split, self._predictions)

    def _computed(self, split: Split, program: Callable[..., Any]) -> dict[str, np.ndarray]:
        """What a program of parameters, running statistics and a batch gives for every clip, by name."""
        split = self.prepare(split)
        outs = (
            (chunk, program(self.params, self.batch_stats, item, shape=chunk.shape))
            for chunk, item in self.items(split)
        )
        return in_order(len(split), outs)

    def items(self, split: Split) -> Iterator[tuple[Chunk, Any]]:
        """Batches of one step of prepared clips (see :meth:`prepare`) for :func:`batch_of`.

        They are padded to the shapes that the run trained with, or longer ones, and filled to powers of two.
        """
        lengths = clip_lengths(split, self._steps_read)
        if self.config.model.compat:  # as in training, every clip is as long as the longest
            shapes: Any = [tuple(split.values[m].shape[1] for m in MODALITIES)]
        else:
            shapes = self._shapes_for(lengths)
        most = self.config.train.eval_batch_size
        plan = Plan(lengths, shapes, min(most, 1 << (len(split) - 1).bit_length()), 1)
        return Source(split, self.preprocess, self._mesh, resident=False).items(plan.once())

    def _predict_batch(self, params: Any, batch_stats: Any, batch: Batch) -> Any:
        self.traces += 1
        return infer(self.learner, params, batch_stats, batch).predictions

    def _shapes_for(self, lengths: np.ndarray) -> list[Shape]:
        """The run's padded shapes, and longer ones where clips of these lengths [N, 3] need them."""
        shapes, needed = list(self.shapes), lengths.max(axis=0)
        while (needed > shapes[-1]).any():
            grown = [2 * n if more > n else n for n, more in zip(shapes[-1], needed, strict=True)]
            if pretrained.is_tuned(self.config.model):
                grown[0] = max(min(grown[0], self.config.model.encoder.positions), int(needed[0]))
            shapes.append((grown[0], grown[1], grown[2]))
        if len(shapes) > len(self.shapes):
            try:
                self._check_shape(shapes[-1])
            except MsaJaxError:  # more steps than the model has positions for
                exact = np.maximum(needed, self.shapes[-1]).tolist()
                shapes = [*self.shapes, (exact[0], exact[1], exact[2])]
                self._check_shape(shapes[-1])
        return shapes

    def _check_shape(self, shape: Shape) -> None:
        """Raises what the model says of clips of so many steps, if it cannot read them."""
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        batch = jax.eval_shape(lambda: example_batch(self.model_spec, 1, shape))
        jax.eval_shape(lambda v, b: self.learner.model.apply(v, b, train=False), variables, batch)

    def prepare(self, split: Split) -> Split:
        """The clips as the model reads them, before cleaning and scaling (see :class:`Preprocess`).

        Raises:
          DataError: if they do not have what the model was trained on.
        """
        return self.preprocess.reduced(self._as_dataset(self.checked(split))).splits["clips"]

    def checked(self, split: Split) -> Split:
        """The clips as they are stored, with the tokens and the padding that the model reads.

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
        if tuned:
            self._require_tokens(split)
        split = self.preprocess.with_tokens(self._as_dataset(split)).splits["clips"]
        if self.config.model.compat:  # whose models read padding, so there must be as much as in training
            steps = {m: self.spec.modalities[m].length for m in MODALITIES}
            split = _padded(split, steps | {"text": self.model_spec.modalities["text"].length})
        elif (
            self.model_spec.context
        ):  # a clip's own text has as many steps as in training, so that shapes recur
            text = filled(split.values["text"], self.model_spec.modalities["text"].length, axis=1)
            split = dataclasses.replace(split, values={**split.values, "text": text})
        return split

    def _as_dataset(self, split: Split) -> Dataset:
        spec = dataclasses.replace(self.spec, name="the input", has_tokens=split.tokens is not None)
        return Dataset(spec, {"clips": split})

    def _require_tokens(self, split: Split) -> None:
        has_tokenizer = (self.workdir / TOKENIZER).is_dir()
        if split.tokens is None and not (has_tokenizer and split.raw_text is not None):
            transcripts = " or transcripts (raw_text)" if has_tokenizer else ""
            raise DataError(
                f"the model in {self.workdir} encodes text itself and these clips have no token ids "
                f"(text_bert){transcripts}; add them."
            )


def in_order(clips: int, outs: Iterable[tuple[Chunk, Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """What was computed for chunks of one batch, by name, float32 in the order of the N clips."""
    found: dict[str, np.ndarray] = {}
    for chunk, arrays in outs:
        rows, real = chunk.index[0], chunk.weight[0] > 0
        for name, y in arrays.items():
            y = np.asarray(y)
            array = found.setdefault(name, np.zeros((clips, *y.shape[1:]), np.float32))
            array[rows[real]] = y[real]
    return found


def _program(compute: Callable[[Any, Any, Batch], Any]) -> Callable[..., Any]:
    """A function of parameters, running statistics and a batch as one of what a source gives, compiled.

    Making the batch is inside: as programs of their own its few operations take as long as a small model.
    """

    def run(params: Any, batch_stats: Any, item: Any, shape: Shape) -> Any:
        first = jax.tree.map(lambda x: x[0], item)
        return compute(params, batch_stats, batch_of(None, first, shape))

    return jax.jit(run, static_argnames="shape")


def _as_split(batch: Batch) -> Split:
    """A batch's clips as a split; real steps come first."""
    values = {m: np.asarray(batch.values[m]) for m in MODALITIES}
    lengths = {m: np.asarray(batch.mask[m]).sum(axis=1).astype(np.int32) for m in MODALITIES}
    tokens = None if batch.tokens is None else np.asarray(batch.tokens)
    return Split(np.arange(len(lengths["text"])).astype(str), values, lengths, {}, tokens=tokens)


def _padded(split: Split, steps: Mapping[str, int]) -> Split:
    """The clips with zeros behind, so that each modality has at least so many steps."""
    values = {m: filled(split.values[m], steps[m], axis=1) for m in MODALITIES}
    tokens = None if split.tokens is None else filled(split.tokens, steps["text"], axis=2)
    return dataclasses.replace(split, values=values, tokens=tokens)
