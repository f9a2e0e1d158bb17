"""What models train by: task losses over the real clips of a batch, and the wholes built from them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings

#: (outputs, batch, memory) -> (loss, its unweighted parts by name), all scalars
Loss = Callable[[Outputs, Batch, Any], tuple[jax.Array, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Prelude:
    """A pass over training clips before each epoch's own, which trains a few parameters by a loss of theirs.

    Attributes:
      loss: of this pass; its memory is that of the whole objective, which this pass does not change.
      paths: patterns (as in a shell) of the parameters that it trains, with an Adam of its own.
      learning_rate: constant.
      weight_decay: L2, added to the gradient.
      clip_norm: global norm of the gradient at most; 0: off.
      share: part of the epoch's batches that it takes, 0 to 1.
    """

    loss: Loss
    paths: tuple[str, ...]
    learning_rate: float
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    share: float = 1.0


def _no_memory(labels: Mapping[str, np.ndarray], steps_per_epoch: int) -> Any:
    del labels, steps_per_epoch
    return ()


@dataclasses.dataclass(frozen=True)
class Objective:
    """How a model is trained. Calling it gives the training loss.

    Attributes:
      loss: what training differentiates.
      valid: the loss of a split that is only evaluated, which knows no memory; None: ``loss`` itself.
      memory: what is remembered before the first step, from the training split's labels
        {task: float32 [N]} and the number of steps of an epoch.
      remember: (outputs, batch, memory) -> memory, after every step of training. Rows of weight 0
        fill the batch only (their index is 0) and must not be remembered.
      prelude: a pass before each epoch's own, or None.
    """

    loss: Loss
    valid: Loss | None = None
    memory: Callable[[Mapping[str, np.ndarray], int], Any] = _no_memory
    remember: Callable[[Outputs, Batch, Any], Any] | None = None
    prelude: Prelude | None = None

    def __call__(self, outputs: Outputs, batch: Batch, memory: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The training loss of a batch and its unweighted parts."""
        return self.loss(outputs, batch, memory)

    def evaluate(self, outputs: Outputs, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch of any split and its unweighted parts."""
        return (self.valid or self.loss)(outputs, batch, ())


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


def summed(model: BaseSettings, weights: Mapping[str, float]) -> Objective:
    """The weighted sum of each task's loss: absolute error for regression, else cross-entropy.

    Args:
      model: its ``task`` decides.
      weights: factor per task (M, T, A, V).
    """
    error = absolute_error if model.task == "regression" else cross_entropy

    def loss(outputs: Outputs, batch: Batch, _memory: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = {task: error(outputs.predictions[task], batch, task) for task in weights}
        total = sum(weights[task] * part for task, part in parts.items())
        return jnp.asarray(total), parts

    return Objective(loss)


def task_loss(model: BaseSettings, spec: DatasetSpec) -> Objective:
    """The objective of a model with one task: mean absolute error; for classification cross-entropy."""
    del spec
    return summed(model, {"M": 1.0})


def require_unimodal_labels(model: BaseSettings, spec: DatasetSpec) -> None:
    """Raises ConfigError if the data has no T, A and V labels, which ``model`` trains on."""
    missing = [t for t in ("T", "A", "V") if t not in spec.tasks]
    if missing:
        raise ConfigError(
            f"model {model.name} trains on a label per modality, and {spec.name} has none for "
            f"{', '.join(missing)}; take data with unimodal labels such as CH-SIMS, or another model."
        )
