"""Everything that training changes, as one pytree."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from msa_jax.data.batch import Batch
from msa_jax.models.objectives import Prelude
from msa_jax.training import optim
from msa_jax.training.accumulate import Optimizer


class TrainState(flax.struct.PyTreeNode):
    """A training in progress. Random numbers follow from ``seed`` and ``step``; no key is kept.

    Attributes:
      seed: int32, of the run. An array, so that every seed runs the same compiled program.
      step: int32, batches seen.
      params: the model's parameters.
      batch_stats: running statistics of normalisation layers; empty for models without them.
      opt_state: of the optimiser.
      memory: what an objective remembers between batches; empty for a summed task loss.
      prelude_state: of the optimiser of the objective's prelude; empty without one.
      rate_scale: float32 factor on the learning rate, lowered by the plateau schedule.
    """

    seed: jax.Array
    step: jax.Array
    params: Any
    batch_stats: Mapping[str, Any]
    opt_state: optax.OptState
    memory: Any
    prelude_state: Any
    rate_scale: jax.Array


def create_state(
    model: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    seed: int | jax.Array,
    memory: Any = (),
    prelude: Prelude | None = None,
) -> TrainState:
    """Fresh parameters from ``seed``; ``batch`` gives shapes only, ``memory`` is the objective's first."""
    variables: Any = model.init(jax.random.key(seed), batch, train=False)
    return TrainState(
        seed=jnp.asarray(seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        memory=memory,
        prelude_state=optim.prelude_state(prelude, variables["params"]),
        rate_scale=jnp.ones((), jnp.float32),
    )


def count_parameters(params: Any) -> int:
    """Trainable numbers in a parameter tree."""
    return sum(x.size for x in jax.tree.leaves(params))
