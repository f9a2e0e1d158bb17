"""What an exported model computes: clips as they are stored in, scores out.

A program takes what a feature file holds: raw features of every modality with each clip's number of real
steps, or token ids in place of the text's features. Reduction, cleaning, scaling and the model are
inside. Where several runs are given, it answers with the mean of their predictions.
"""

import copy
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import configuration
from msa_jax.data.batch import example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import filled
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import RunError
from msa_jax.inference import Trained
from msa_jax.training import pretrained
from msa_jax.training.step import infer

#: Arrays by name.
Arrays = dict[str, Any]
BATCH = "batch"
#: The input with token ids, mask and segment ids, as feature files call it.
TOKENS = "text_bert"


@dataclasses.dataclass(frozen=True)
class Input:
    """One input array.

    Attributes:
      name: "text", "audio_lengths", "text_bert", ... as in a feature file.
      dtype: "float32" or "int32".
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

    def run(self, inputs: Arrays) -> Arrays:
        """Predictions by task, [B] or logits [B, C]; to be traced."""
        found = [_predict(member, inputs) for member in self.members]
        return {task: sum((y[task] for y in found[1:]), found[0][task]) / len(found) for task in found[0]}

    def fixed(self, rows: int | None = None) -> "Program":
        """The same for the run's own number of steps only (and, if given, so many clips)."""
        return _program(self.members, _stored_steps(self.members[0]), {}, BATCH if rows is None else rows)

    def feed(self, split: Split, rows: Sequence[int] | np.ndarray) -> Arrays:
        """The inputs for clips ``rows`` of a split as :meth:`Trained.checked` gives it.

        Cut to the longest of these clips, or padded to the number of steps that the program wants.
        """
        rows = np.asarray(rows)
        arrays: Arrays = {}
        for m in MODALITIES:
            lengths = np.asarray(split.lengths[m])[rows].astype(np.int32)
            wanted = self.steps[m]
            steps = wanted if isinstance(wanted, int) else max(1, int(lengths.max()))
            arrays[m] = filled(np.asarray(split.values[m][rows, :steps], np.float32), steps, axis=1)
            arrays[f"{m}_lengths"] = np.minimum(lengths, steps)
            if m == "text" and split.tokens is not None:
                arrays[TOKENS] = filled(np.asarray(split.tokens[rows, :, :steps], np.int32), steps, axis=2)
        return {record.name: arrays[record.name] for record in self.inputs}


def load_runs(workdirs: Sequence[str | pathlib.Path]) -> list[Trained]:
    """The runs' best models, which from here on compute in float32 whatever their training did.

    Raises:
      RunError: if a folder holds no trained run, or runs differ in more than their seed.
    """
    runs = [Trained(workdir) for workdir in workdirs]
    for run in runs:
        run.learner = run.learner._replace(dtype=jnp.float32)
        check_alike(runs[0], run)
    return runs


def build(runs: Sequence[Trained]) -> Program:
    """The program of one or more runs.

    Its time axes are free, but with `model.compat` padding is read, so that the steps are those of the
    training data; and an axis that a model has positions for has its limit.
    """
    members = tuple(runs)
    first = members[0]
    if first.config.model.compat:
        return _program(members, _stored_steps(first), {}, BATCH)
    steps: dict[str, int | str] = {m: f"{m}_steps" for m in MODALITIES}
    limits = _limits(first, {m: f"{m}_steps" for m in MODALITIES})
    if first.model_spec.context:  # a clip's own text ends where training's did, whatever stands behind it
        steps["text"] = _stored_steps(first)["text"]
        limits.pop("text_steps", None)
    return _program(members, steps, limits, BATCH)


def _stored_steps(member: Trained) -> dict[str, int]:
    """The steps that the training data was stored with; of tokens made for the model, those."""
    steps = {m: record.length for m, record in member.spec.modalities.items()}
    text = member.model_spec.modalities["text"].length
    if member.model_spec.context:  # as many tokens as a clip and the utterances before can have
        text = min(text * (1 + member.model_spec.context), member.config.model.encoder.positions)
    return steps | {"text": text}


def _program(
    members: tuple[Trained, ...], steps: Mapping[str, int | str], limits: Mapping[str, int], rows: int | str
) -> Program:
    first, inputs = members[0], []
    for m in MODALITIES:
        if m == "text" and pretrained.is_tuned(first.config.model):
            meaning = "the encoder's token ids, their mask, and segment ids"
            if first.model_spec.context:
                meaning += "; the mask is 2 at tokens of utterances before, which stand behind the clip's own"
            inputs.append(Input(TOKENS, "int32", (rows, 3, steps[m]), meaning))
            continue
        width = first.spec.modalities[m].width
        meaning = f"{m} features, raw; padding behind the real steps, of any content"
        inputs.append(Input(m, "float32", (rows, steps[m], width), meaning))
        inputs.append(Input(f"{m}_lengths", "int32", (rows,), f"real steps of {m}"))
    return Program(members, tuple(inputs), dict(steps), dict(limits))


def _limits(member: Trained, steps: Mapping[str, str]) -> dict[str, int]:
    """The most steps of each time axis that the model takes, where it does not take any number."""
    spec, reduce = member.model_spec, member.config.data.reduce
    shapes = jax.eval_shape(lambda: {"params": member.params, "batch_stats": member.batch_stats})
    found = {}
    for m, axis in steps.items():
        if m != "text" and reduce != "none":
            continue  # the model reads one step, or the text's
        together = MODALITIES if m == "text" and reduce in ("align", "mean_align") else (m,)
        long = {k: 8 * spec.modalities[k].length + 8 for k in together}
        shape: Any = tuple(long.get(k, spec.modalities[k].length) for k in MODALITIES)
        batch = jax.eval_shape(lambda shape=shape: example_batch(spec, 1, shape))
        try:
            jax.eval_shape(lambda v, b: member.learner.model.apply(v, b, train=False), shapes, batch)
        except Exception:  # whatever a model says to more steps than it has positions for
            found[axis] = max(spec.modalities[k].length for k in long)
    if pretrained.is_tuned(member.config.model):
        found["text_steps"] = min(member.config.model.encoder.positions, found.get("text_steps", 1 << 30))
    return found


def _predict(member: Trained, inputs: Arrays) -> Arrays:
    """One run's predictions for raw clips."""
    values = {m: inputs[m] for m in MODALITIES if m in inputs}
    lengths = {m: inputs[f"{m}_lengths"] for m in values}
    own = member.model_spec.modalities["text"].length if member.model_spec.context else None
    batch = member.preprocess.batch(values, lengths, inputs.get(TOKENS), own)
    whole = member.config.model.get("conv_stride", 1) ** member.config.model.get("n_layers", 1)
    if whole > 1 and not isinstance(batch.mask["audio"].shape[1], int):
        # Strided convolutions over a free time axis: its size must be known to divide by their strides.
        batch = batch.replace(
            values={m: _filled(x, whole) for m, x in batch.values.items()},
            mask={m: _filled(x, whole) for m, x in batch.mask.items()},
        )
    params, statistics = jax.tree.map(jnp.asarray, (member.params, member.batch_stats))
    return dict(infer(member.learner, params, statistics, batch).predictions)


def _filled(x: jax.Array, multiple: int) -> jax.Array:
    """x [B, T, ...] with zeros (false) behind, up to a multiple of so many steps."""
    # Not -(-T // n): ONNX divides towards zero.
    steps = (x.shape[1] + multiple - 1) // multiple * multiple
    more = jnp.zeros((x.shape[0], multiple - 1, *x.shape[2:]), x.dtype)
    return jax.lax.slice_in_dim(jnp.concatenate([x, more], axis=1), 0, steps, axis=1)


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
