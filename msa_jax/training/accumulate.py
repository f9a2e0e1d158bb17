"""Several batches per update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Accumulated(NamedTuple):
    """State of an :class:`Optimizer` that gathers more than one batch.

    Attributes:
      batches: how many wait for an update, int32.
      gradient: their sum or, for a mean, their part of it; with none waiting, of those last used.
      inner: state of the optimiser.
    """

    batches: jax.Array
    gradient: Any
    inner: optax.OptState


class Optimizer(NamedTuple):
    """Updates parameters after every ``count`` batches, and touches nothing between them.

    optax.MultiSteps does the same, but runs ``inner`` on every batch and discards the result: with 23 million
    parameters, Adam and 4 batches, 170 ms a step on one core, where this takes 32.

    Attributes:
      inner: the optimiser.
      count: of batches.
      mean: whether ``inner`` gets the mean of their gradients; else the sum.
      limit: clip each value of what is gathered so far after every batch; 0: off.
    """

    inner: optax.GradientTransformation
    count: int = 1
    mean: bool = True
    limit: float = 0.0

    def init(self, params: Any) -> optax.OptState:
        """The first state."""
        inner = self.inner.init(params)
        if self.count == 1:
            return inner
        return Accumulated(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), inner)

    def step(
        self, gradient: Any, state: Any, params: Any, scale: float | jax.Array = 1.0
    ) -> tuple[Any, optax.OptState]:
        """Takes in a batch's gradient; ``scale`` multiplies the update.

        Returns:
          The parameters, changed where an update was due, and the new state.
        """
        if self.count == 1:
            return self._update(gradient, state, params, scale)

        def gather(new: jax.Array, old: jax.Array) -> jax.Array:
            # What an update has used is left in place, and not read again.
            total = jnp.where(state.batches > 0, old, 0) + (new / self.count if self.mean else new)
            return jnp.clip(total, -self.limit, self.limit) if self.limit else total

        gathered = jax.tree.map(gather, gradient, state.gradient)
        batches = (state.batches + 1) % self.count
        params, inner = jax.lax.cond(
            batches == 0,
            self._update,
            lambda _gathered, inner, params, _scale: (params, inner),
            gathered,
            state.inner,
            params,
            scale,
        )
        return params, Accumulated(batches, gathered, inner)

    def _update(self, gradient: Any, inner: Any, params: Any, scale: Any) -> tuple[Any, optax.OptState]:
        updates, inner = self.inner.update(gradient, inner, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: u * scale, updates)), inner


def drop_accumulated(opt_state: optax.OptState) -> optax.OptState:
    """Forgets gradients that wait for an update, as the MMSA toolkit does at the end of an epoch."""
    if not isinstance(opt_state, Accumulated):
        return opt_state
    return opt_state._replace(batches=jnp.zeros_like(opt_state.batches))
