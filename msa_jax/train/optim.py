"""The optimiser of a configuration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from msa_jax.config import Config, require_choice

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "plateau")


def build_schedule(train: Config, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate per update: linear warm-up from 0, then the schedule down to the last epoch.

    "plateau" is constant here; the loop lowers ``TrainState.rate_scale``.
    """
    require_choice("train.schedule", train.schedule, SCHEDULES)
    updates = max(steps_per_epoch * train.epochs // train.accumulate, 1)
    warmup = min(round(train.warmup_epochs * steps_per_epoch / train.accumulate), updates)
    peak, rest = train.learning_rate, max(updates - warmup, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "plateau": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
    }[train.schedule]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def build_optimizer(train: Config, steps_per_epoch: int, compat: bool) -> optax.GradientTransformation:
    """Clipping, weight decay, Adam, schedule, and accumulation, in the order PyTorch applies them.

    Args:
      train: the training block.
      steps_per_epoch: batches of an epoch.
      compat: sum accumulated gradients as the MMSA toolkit does, instead of averaging them.
    """
    require_choice("train.optimizer", train.optimizer, OPTIMIZERS)
    parts = []
    if train.clip_value:
        parts.append(optax.clip(train.clip_value))
    if train.clip_norm:
        parts.append(optax.clip_by_global_norm(train.clip_norm))
    if train.weight_decay and train.optimizer == "adam":
        parts.append(optax.add_decayed_weights(train.weight_decay))
    parts.append(optax.scale_by_adam())
    if train.weight_decay and train.optimizer == "adamw":
        parts.append(optax.add_decayed_weights(train.weight_decay))
    parts.append(optax.scale_by_learning_rate(build_schedule(train, steps_per_epoch)))
    optimizer = optax.chain(*parts)
    if train.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, train.accumulate, use_grad_mean=not compat).gradient_transformation()


def drop_accumulated(opt_state: optax.OptState) -> optax.OptState:
    """Forgets gradients that wait for an update, as the MMSA toolkit does at the end of an epoch."""

    def drop(node: Any) -> Any:
        if not isinstance(node, optax.MultiStepsState):
            return node
        waiting = jax.tree.map(jnp.zeros_like, node.acc_grads)
        return node._replace(mini_step=jnp.zeros_like(node.mini_step), acc_grads=waiting)

    return jax.tree.map(drop, opt_state, is_leaf=lambda x: isinstance(x, optax.MultiStepsState))
