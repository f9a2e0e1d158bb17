"""Labels for each modality, made while training from the clips' own labels (Self-MM, Yu et al. 2021).

Most data sets say how positive a clip is, not how positive its words, voice and face are by
themselves. Here every modality has a label of its own, at first the clip's. Each feature vector has a
distance to the mean feature of positive and of negative clips, its centres; from the second epoch on a
modality's label moves to where its vector lies between its centres, compared with the fused vector
between its own. A modality's error counts by how far its label has left the clip's.

Labels and features of the whole training split are kept (:class:`Memory`). The public code averages
all of them again after every batch; here the sums behind the centres follow the batch's rows. It
also divides by the number of positive and negative clips where there may be none; here a modality
whose centres, or the fusion's, lack a class keeps its labels.
"""

import dataclasses
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models import objectives
from msa_jax.models.outputs import Outputs
from msa_jax.models.text import TextSettings
from msa_jax.typed_settings import Count, Factor, Rate

#: The feature (of Outputs.features) behind each task's prediction.
FEATURES = {"M": "fusion", "T": "text", "A": "audio", "V": "vision"}
#: Keeps distances of 0 out of denominators.
EPSILON = 1e-8

ByTask = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class HeadSettings(TextSettings):
    """The keys of the four heads and of the labels that are made by their features."""

    post_fusion_dim: Count = 128  # width of the feature
    post_text_dim: Count = 32
    post_audio_dim: Count = 16
    post_vision_dim: Count = 32
    post_fusion_dropout: Rate = 0.0  # before it
    post_text_dropout: Rate = 0.0
    post_audio_dropout: Rate = 0.0
    post_vision_dropout: Rate = 0.0
    label_bound: Factor = 0.0  # H: made labels lie within +-H; 0: the largest that the data's labels can be
    exclude_zero: bool = True  # clips of label 0 belong to neither centre; else to the positive one

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task != "regression":
            raise ConfigError(
                f"model {self.name} makes labels on a scale of scores, so it has no classes: "
                "set model.task=regression, or take another model."
            )


@dataclasses.dataclass(frozen=True)
class Rule:
    """How labels are made.

    Attributes:
      bound: H; a new label lies within +-H.
      exclude_zero: whether clips with label 0 belong to neither class; otherwise they are positive.
    """

    bound: float
    exclude_zero: bool


class Memory(flax.struct.PyTreeNode):
    """What is kept of the training split, by task.

    Attributes:
      labels: current labels, float32 [N]; those of M never change.
      features: each clip's feature when it was last seen, float32 [N, F]; at first 0.
      sums: sums of the features of positive and of negative clips, float32 [2, F].
      counts: how many clips these are, int32 [2].
      step: steps done, int32.
      steps_per_epoch: int32.
    """

    labels: ByTask
    features: ByTask
    sums: ByTask
    counts: ByTask
    step: jax.Array
    steps_per_epoch: jax.Array


def rule_of(s: HeadSettings, spec: DatasetSpec) -> Rule:
    """How labels are made for a data set."""
    return Rule(s.label_bound or max(map(abs, map(float, spec.label_range))), s.exclude_zero)


def objective(s: HeadSettings, spec: DatasetSpec) -> objectives.Objective:
    """The sum of the four tasks' mean errors; evaluation knows only that of M."""
    rule = rule_of(s, spec)
    widths = {task: getattr(s, f"post_{name}_dim") for task, name in FEATURES.items()}

    def first(labels: Mapping[str, np.ndarray], steps_per_epoch: int) -> Memory:
        # A copy each: a training step gives its arrays up, and can give an array up only once.
        tables = {task: jnp.array(labels["M"], jnp.float32) for task in FEATURES}
        features = {task: jnp.zeros((len(labels["M"]), width)) for task, width in widths.items()}
        return recount(tables, features, 0, steps_per_epoch, rule)

    return objectives.Objective(
        loss,
        valid=lambda outputs, batch, _memory: _fusion_error(outputs, batch),
        memory=first,
        remember=lambda outputs, batch, memory: remember(outputs, batch, memory, rule),
    )


def _fusion_error(outputs: Outputs, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    error = objectives.absolute_error(outputs.predictions["M"], batch)
    return error, {"M": error}


def loss(outputs: Outputs, batch: Batch, memory: Memory) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean absolute error of each task from its current labels, and their sum.

    A modality's error is weighted by tanh |its label - the clip's|, so it is 0 in the first epoch.

    Args:
      outputs: with predictions M, T, A, V, each [B].
      batch: clips of the training split.
      memory: the split's labels; they take no gradient.
    """
    own, parts = batch.labels["M"], {}
    for task in FEATURES:
        label = own if task == "M" else memory.labels[task][batch.index]
        weight = jnp.ones_like(own) if task == "M" else jnp.tanh(jnp.abs(label - own))
        error = weight * jnp.abs(outputs.predictions[task] - label)
        parts[task] = objectives.clip_mean(error, batch.weight)
    return jnp.asarray(sum(parts.values())), parts


def recount(labels: ByTask, features: ByTask, step: int, steps_per_epoch: int, rule: Rule) -> Memory:
    """The memory of given tables, their sums counted over all rows.

    Args:
      labels: [N] by task.
      features: [N, F] by task.
      step: steps done.
      steps_per_epoch: steps of an epoch.
      rule: says which rows belong to which class.
    """
    members = {task: _members(labels[task], rule) for task in FEATURES}
    return Memory(
        labels=dict(labels),
        features=dict(features),
        sums={task: _summed(members[task], features[task]) for task in FEATURES},
        counts={task: jnp.sum(members[task], axis=1, dtype=jnp.int32) for task in FEATURES},
        step=jnp.asarray(step, jnp.int32),
        steps_per_epoch=jnp.asarray(steps_per_epoch, jnp.int32),
    )


def centres(memory: Memory) -> dict[str, jax.Array]:
    """By task, the mean feature of positive and of negative clips, [2, F]; 0 for an empty class."""
    return {t: memory.sums[t] / jnp.maximum(memory.counts[t], 1)[:, None] for t in FEATURES}


def remember(outputs: Outputs, batch: Batch, memory: Memory, rule: Rule) -> Memory:
    """The memory after a step on a batch: first new labels, by the centres before, then features.

    Rows of weight 0 leave it as it is; of rows with the same index the last one counts.
    """
    features = {t: outputs.features[name].astype(jnp.float32) for t, name in FEATURES.items()}
    features = jax.lax.stop_gradient(features)
    made, kept = _moved(features, batch, memory, rule), _last_of_each(batch)
    place = jnp.where(kept, batch.index, len(memory.labels["M"]))  # past the end: not written
    tables: dict[str, dict[str, jax.Array]] = {"labels": {}, "features": {}, "sums": {}, "counts": {}}
    for t in FEATURES:
        old_label, old = memory.labels[t][batch.index], memory.features[t][batch.index]
        # What is written depends on what was read. Otherwise XLA may write first, and copies the whole
        # table for the later read.
        label = jnp.where(kept, made.get(t, old_label), old_label)
        feature = jnp.where(kept[:, None], features[t], old)
        before, after = (_members(x, rule) & kept[None] for x in (old_label, label))
        change = _summed(after, feature) - _summed(before, old)
        number = memory.counts[t] + jnp.sum(after, axis=1) - jnp.sum(before, axis=1)
        tables["labels"][t] = memory.labels[t].at[place].set(label, mode="drop")
        tables["features"][t] = memory.features[t].at[place].set(feature, mode="drop")
        tables["counts"][t] = number.astype(jnp.int32)
        # What rounding left in the sum of a class that is empty now must not stay in it.
        tables["sums"][t] = jnp.where(number[:, None] > 0, memory.sums[t] + change, 0)
    return memory.replace(step=memory.step + 1, **tables)


def _moved(features: ByTask, batch: Batch, memory: Memory, rule: Rule) -> dict[str, jax.Array]:
    """The batch's labels of T, A and V after this step, each [B]; in the first epoch as they were."""
    epoch = memory.step // memory.steps_per_epoch + 1
    centre, own = centres(memory), memory.labels["M"][batch.index]
    leaning = {t: lean(features[t], centre[t]) for t in FEATURES}
    known = {t: jnp.all(memory.counts[t] > 0) for t in FEATURES}
    moved = {}
    for t in ("T", "A", "V"):
        old = memory.labels[t][batch.index]
        made = make_label(own, leaning["M"], leaning[t], rule.bound)
        mean = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * made
        moved[t] = jnp.where((epoch > 1) & known["M"] & known[t], mean, old)
    return moved


def lean(features: jax.Array, centre: jax.Array) -> jax.Array:
    """How much nearer features [B, F] are to the positive centre than to the negative one, [B].

    The difference of the two distances in units of that to the positive centre, so at least -1.

    Args:
      features: what to judge.
      centre: [2, F], positive and negative.
    """
    positive, negative = (jnp.linalg.norm(features - c[None], axis=1) for c in centre)
    return (negative - positive) / (positive + EPSILON)


def make_label(own: jax.Array, fused: jax.Array, single: jax.Array, bound: float) -> jax.Array:
    """A modality's label from the clip's own: the mean of it scaled by the ratio of the two
    leanings and of it shifted by their difference, within +-bound.

    Args:
      own: the clips' labels, [B].
      fused: how their fused features lean, [B].
      single: how the modality's features lean, [B].
      bound: H.
    """
    # The ratio has a pole at -EPSILON, where a label of 0 would be multiplied by infinity.
    below = jnp.where(fused == -EPSILON, EPSILON, fused + EPSILON)
    made = 0.5 * (single / below) * own + 0.5 * (own + single - fused)
    return jnp.clip(made, -bound, bound)


def _members(labels: jax.Array, rule: Rule) -> jax.Array:
    """Labels [R] to bool [2, R]: which rows are positive, which negative."""
    return jnp.stack([labels > 0 if rule.exclude_zero else labels >= 0, labels < 0])


def _summed(members: jax.Array, features: jax.Array) -> jax.Array:
    """Sum of features [R, F] over each class's rows, members [2, R], as [2, F]."""
    return jnp.sum(jnp.where(members[..., None], features[None], 0), axis=1)


def _last_of_each(batch: Batch) -> jax.Array:
    """bool [B]: the real rows, and of those with the same index only the last one."""
    real, place = batch.weight > 0, jnp.arange(len(batch.index))
    again = (batch.index[:, None] == batch.index[None]) & real[None] & (place[:, None] < place[None])
    return real & ~jnp.any(again, axis=1)
