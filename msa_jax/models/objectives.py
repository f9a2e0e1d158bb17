"""Task losses over the real clips of a batch; the wholes that models train by are built from them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.outputs import Outputs

#: (outputs, batch, memory) -> (loss, its unweighted parts)
Objective = Callable[[Outputs, Batch, Any], tuple[jax.Array, dict[str, jax.Array]]]


def clip_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of values [B] over the clips, by their weight [B]; 0 if all weights are 0."""
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1)


def absolute_error(prediction: jax.Array, batch: Batch, task: str = "M") -> jax.Array:
    """Mean absolute error of scores [B]."""
    return clip_mean(jnp.abs(prediction - batch.labels[task]), batch.weight)


def squared_error(prediction: jax.Array, batch: Batch, task: str = "M") -> jax.Array:
    """Mean squared error of scores [B]."""
    return clip_mean((prediction - batch.labels[task]) ** 2, batch.weight)


def cross_entropy(logits: jax.Array, batch: Batch, task: str = "M") -> jax.Array:
    """Mean cross-entropy of logits [B, C]; the labels are class numbers."""
    wanted = jax.nn.one_hot(batch.labels[task].astype(jnp.int32), logits.shape[1])
    return clip_mean(-jnp.sum(wanted * jax.nn.log_softmax(logits), axis=1), batch.weight)


def summed(model: Config, weights: Mapping[str, float]) -> Objective:
    """The weighted sum of each task's loss: absolute error for regression, else cross-entropy.

    Args:
      model: the model block; its ``task`` decides.
      weights: factor per task (M, T, A, V).
    """
    error = absolute_error if model.task == "regression" else cross_entropy

    def objective(outputs: Outputs, batch: Batch, _memory: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = {task: error(outputs.predictions[task], batch, task) for task in weights}
        total = sum(weights[task] * part for task, part in parts.items())
        return jnp.asarray(total), parts

    return objective


def task_loss(model: Config, spec: DatasetSpec) -> Objective:
    """The objective of a model with one task: mean absolute error; for classification cross-entropy."""
    del spec
    return summed(model, {"M": 1.0})


def require_unimodal_labels(model: Config, spec: DatasetSpec) -> None:
    """Raises ConfigError if the data has no T, A and V labels, which ``model`` trains on."""
    missing = [t for t in ("T", "A", "V") if t not in spec.tasks]
    if missing:
        raise ConfigError(
            f"model {model.name} trains on a label per modality, and {spec.name} has none for "
            f"{', '.join(missing)}; take data with unimodal labels such as CH-SIMS, or another model."
        )
