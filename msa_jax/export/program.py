"""What an exported model computes: named arrays of cleaned-up shape in, scores out.

A program takes the features as the run's reduction leaves them (`data.reduce`: sequences, means, or
sequences in step with the text), raw otherwise. Cleaning of NaN and infinities, standardisation, and
the model itself are inside. Where several runs are given, it answers with the mean of their predictions.
"""

import copy
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import config as configuration
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Preprocess
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import RunError
from msa_jax.inference import Trained
from msa_jax.train import pretrained
from msa_jax.train.step import infer

#: Arrays by name.
Arrays = dict[str, Any]
BATCH = "batch"


@dataclasses.dataclass(frozen=True)
class Input:
    """One input array.

    Attributes:
      name: "text", "audio_mask", "token_ids", ...
      dtype: "float32", "bool" or "int32".
      shape: a number, or the name of a dimension that may have any size.
      meaning: for people.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of named arrays with its description.

    Attributes:
      members: the runs, whose predictions are averaged.
      inputs: by name, what :attr:`run` takes.
      steps: per modality, the size of its time axis: a name, or a number where only that one works.
      limits: per name of a time axis, how many steps it may have, where there is a limit.
    """

    members: tuple[Trained, ...]
    inputs: tuple[Input, ...]
    steps: Mapping[str, int | str]
    limits: Mapping[str, int]

    @property
    def in_step(self) -> bool:
        """Whether audio and vision were aligned to the text, so that one mask holds for all three."""
        return self.members[0].config.data.reduce in ("align", "mean_align")

    def run(self, inputs: Arrays) -> Arrays:
        """Predictions by task, [B] or logits [B, C]; to be traced."""
        found = [_predict(member, self._batch(inputs)) for member in self.members]
        return {task: sum((y[task] for y in found[1:]), found[0][task]) / len(found) for task in found[0]}

    def fixed(self, rows: int | None = None) -> "Program":
        """The same for the run's own number of steps only (and, if given, so many clips)."""
        spec = self.members[0].model_spec
        steps = {m: spec.modalities[m].length for m in MODALITIES}
        return _program(self.members, steps, {}, BATCH if rows is None else rows)

    def feed(self, split: Split, rows: Sequence[int] | np.ndarray) -> Arrays:
        """The inputs for clips ``rows`` of a split as :meth:`Trained.prepare` gives it.

        Cut to the longest of these clips, or padded to the number of steps that the program wants.
        """
        rows = np.asarray(rows)
        arrays: Arrays = {}
        for m in MODALITIES:
            lengths = np.asarray(split.lengths[m])[rows]
            wanted = self.steps[m]
            steps = wanted if isinstance(wanted, int) else max(1, int(lengths.max()))
            arrays[m] = _cut(np.asarray(split.values[m][rows], np.float32), steps, axis=1)
            arrays[f"{m}_mask"] = np.arange(steps)[None, :] < lengths[:, None]
            if m == "text" and split.tokens is not None:
                tokens = _cut(np.asarray(split.tokens[rows], np.int32), steps, axis=2)
                arrays |= {"token_ids": tokens[:, 0], "segment_ids": tokens[:, 2]}
        return {record.name: arrays[record.name] for record in self.inputs}

    def _batch(self, inputs: Arrays) -> Batch:
        spec, text_mask = self.members[0].model_spec, inputs["text_mask"]
        rows = text_mask.shape[0]
        values, masks = {}, {}
        for m in MODALITIES:
            width = spec.modalities[m].width
            values[m] = inputs.get(m, jnp.zeros((*text_mask.shape, width), jnp.float32))
            given = text_mask if self.in_step else jnp.ones(values[m].shape[:2], bool)
            masks[m] = inputs.get(f"{m}_mask", given)
        tokens = None
        if "token_ids" in inputs:
            ids = inputs["token_ids"]
            tokens = jnp.stack([ids, text_mask.astype(ids.dtype), inputs["segment_ids"]], axis=1)
        weight, index = jnp.ones((rows,), jnp.float32), jnp.zeros((rows,), jnp.int32)
        return Batch(values, masks, {}, index, weight, tokens)


def load_runs(workdirs: Sequence[str | pathlib.Path], warn: Callable[[str], None]) -> list[Trained]:
    """The runs' best models, which from here on compute in float32 whatever their training did.

    Raises:
      RunError: if a folder holds no trained run, or runs differ in more than their seed.
    """
    runs = [Trained(workdir, warn) for workdir in workdirs]
    for run in runs:
        run.learner = run.learner._replace(dtype=jnp.float32)
        check_alike(runs[0], run)
    return runs


def build(runs: Sequence[Trained]) -> Program:
    """The program of one or more runs.

    Its time axes are free, but for three cases: with `data.reduce=mean` audio and vision are one step;
    with `model.compat` padding is read, so that the steps are those of the training data; and an axis that
    a model has positions for has its limit.
    """
    members = tuple(runs)
    first = members[0]
    if first.config.model.compat:
        return _program(members, {m: r.length for m, r in first.model_spec.modalities.items()}, {}, BATCH)
    names = {m: f"{m}_steps" for m in MODALITIES}
    by_reduction = {"none": names, "mean": {**names, "audio": 1, "vision": 1}}
    steps = by_reduction.get(first.config.data.reduce, dict.fromkeys(MODALITIES, "text_steps"))
    return _program(members, steps, _limits(first, steps), BATCH)


def _program(
    members: tuple[Trained, ...], steps: Mapping[str, int | str], limits: Mapping[str, int], rows: int | str
) -> Program:
    first, inputs = members[0], []
    shared = Program(members, (), {}, {}).in_step
    for m in MODALITIES:
        width = first.model_spec.modalities[m].width
        if m == "text" and pretrained.is_tuned(first.config.model):
            for name, meaning in (
                ("token_ids", "the encoder's token ids"),
                ("segment_ids", "segment ids, 0 or 1"),
            ):
                inputs.append(Input(name, "int32", (rows, steps[m]), meaning))
        else:
            meaning = f"{m} features; padding behind the real steps, of any content"
            inputs.append(Input(m, "float32", (rows, steps[m], width), meaning))
        if m == "text" or (not shared and steps[m] != 1):
            meaning = "which steps are real, of all modalities" if shared else f"which steps of {m} are real"
            inputs.append(Input(f"{m}_mask", "bool", (rows, steps[m]), f"{meaning}; real steps come first"))
    return Program(members, tuple(inputs), dict(steps), dict(limits))


def _limits(member: Trained, steps: Mapping[str, int | str]) -> dict[str, int]:
    """The most steps of each time axis that the model takes, where it does not take any number."""
    spec = member.model_spec
    shapes = jax.eval_shape(lambda: {"params": member.params, "batch_stats": member.batch_stats})
    found = {}
    for axis in dict.fromkeys(s for s in steps.values() if isinstance(s, str)):
        long = {m: 8 * spec.modalities[m].length + 8 for m in MODALITIES if steps[m] == axis}
        shape: Any = tuple(long.get(m, spec.modalities[m].length) for m in MODALITIES)
        batch = jax.eval_shape(lambda shape=shape: example_batch(spec, 1, shape))
        try:
            jax.eval_shape(lambda v, b: member.learner.model.apply(v, b, train=False), shapes, batch)
        except Exception:  # whatever a model says to more steps than it has positions for
            found[axis] = max(spec.modalities[m].length for m in long)
    if pretrained.is_tuned(member.config.model):
        found["text_steps"] = min(member.config.model.encoder.positions, found.get("text_steps", 1 << 30))
    return found


def _predict(member: Trained, batch: Batch) -> Arrays:
    """One run's predictions for a batch of raw features."""
    preprocess = Preprocess(member.model_spec, member.config.data.feature_norm, member.config.model.compat)
    whole = member.config.model.get("conv_stride", 1) ** member.config.model.get("n_layers", 1)
    values = {m: clean(preprocess, m, batch.values[m], batch.mask[m]) for m in MODALITIES}
    batch = batch.replace(values=values)
    if whole > 1 and not isinstance(batch.mask["audio"].shape[1], int):
        # Strided convolutions over a free time axis: its size must be known to divide by their strides.
        batch = batch.replace(
            values={m: _filled(x, whole) for m, x in batch.values.items()},
            mask={m: _filled(x, whole) for m, x in batch.mask.items()},
        )
    params, statistics = jax.tree.map(jnp.asarray, (member.params, member.batch_stats))
    return dict(infer(member.learner, params, statistics, batch).predictions)


def clean(preprocess: Preprocess, name: str, values: jax.Array, mask: jax.Array) -> jax.Array:
    """What :class:`~msa_jax.data.loader.Preprocess` does, in JAX, on raw [B, T, D] with mask [B, T]."""
    finite = jnp.abs(values) <= jnp.finfo(jnp.float32).max  # false for NaN
    if preprocess.compat:
        finite = (values != -jnp.inf) if name == "audio" else jnp.ones_like(finite)
    values = jnp.where(finite, values, 0)
    if name in preprocess.scale:
        mean, std = (jnp.asarray(x, jnp.float32)[None, None] for x in preprocess.scale[name])
        values = (values - mean) / std
    return values if preprocess.compat else jnp.where(mask[..., None], values, 0)


def _filled(x: jax.Array, multiple: int) -> jax.Array:
    """x [B, T, ...] with zeros (false) behind, up to a multiple of so many steps."""
    # Not -(-T // n): ONNX divides towards zero.
    steps = (x.shape[1] + multiple - 1) // multiple * multiple
    more = jnp.zeros((x.shape[0], multiple - 1, *x.shape[2:]), x.dtype)
    return jax.lax.slice_in_dim(jnp.concatenate([x, more], axis=1), 0, steps, axis=1)


def _cut(x: np.ndarray, steps: int, axis: int) -> np.ndarray:
    """x cut, or filled with zeros, to so many steps."""
    x = x[(slice(None),) * axis + (slice(steps),)]
    return np.pad(x, [(0, steps - n if i == axis else 0) for i, n in enumerate(x.shape)])


def check_alike(one: Trained, other: Trained) -> None:
    """Raises RunError unless two runs have the same configuration, but for the seed, and the same data."""
    changes = [
        line
        for line in configuration.difference(one.config, other.config)
        if not line.startswith("train.seed:")
    ]
    if not changes and (one.spec, one.model_spec) != (other.spec, other.model_spec):
        changes = ["the data set's description (spec.json)"]
    if changes:
        shown = "; ".join(line[:160] for line in changes[:5])
        raise RunError(
            f"{one.workdir} and {other.workdir} differ in more than train.seed ({shown}); runs are only "
            "combined over seeds."
        )


def averaged(runs: Sequence[Trained]) -> Trained:
    """A model whose weights and running statistics are the mean of the runs'."""
    first = runs[0]

    def mean(*leaves: jax.Array) -> jax.Array:
        total = np.sum([np.asarray(x, np.float64) for x in leaves], axis=0)
        return jnp.asarray(total / len(leaves), leaves[0].dtype)

    trees = [{"params": run.params, "batch_stats": run.batch_stats} for run in runs]
    return with_variables(first, jax.tree.map(mean, *trees))


def with_variables(run: Trained, variables: Mapping[str, Any]) -> Trained:
    """The same run with other "params" and "batch_stats"."""
    other = copy.copy(run)
    other.params, other.batch_stats = variables["params"], variables.get("batch_stats", {})
    return other


#: Runs a written program again: named arrays in, predictions out.
Runner = Callable[[Arrays], Arrays]
