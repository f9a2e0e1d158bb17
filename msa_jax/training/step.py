"""The programs that run on the device: a chunk of training steps, of one step in two, and of predictions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.data.batch import Batch
from msa_jax.data.loader import Shape, Table, batch_of
from msa_jax.data.spec import MODALITIES
from msa_jax.messages import LOGGER
from msa_jax.models.objectives import Objective, Prelude
from msa_jax.models.outputs import Outputs
from msa_jax.nn.prefix_attention import spread_over
from msa_jax.training import optim
from msa_jax.training.accumulate import Optimizer
from msa_jax.training.corrupt import Corrupt
from msa_jax.training.state import TrainState


class Learner(NamedTuple):
    """What a step needs beside its state and data.

    Attributes:
      model: the Linen module.
      objective: what it is trained by.
      optimizer: see :mod:`msa_jax.training.optim`.
      dtype: of the model's arithmetic, float32 or bfloat16. Parameters stay float32.
      mesh: devices; its "data" axis holds the rows of a batch, its "seed" axis, if any, several runs.
      frozen: patterns of paths of parameters that are not trained; the optimiser leaves them too.
      corrupt: what training clips lose, see :mod:`msa_jax.training.corrupt`; None for nothing.
    """

    model: nn.Module
    objective: Objective
    optimizer: Optimizer
    dtype: Any
    mesh: Mesh
    frozen: tuple[str, ...] = ()
    corrupt: Corrupt | None = None


def _cast(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves to ``dtype``; others as they are."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _cast_clips(batch: Batch, dtype: Any) -> Batch:
    """The batch with its features, and those before anything was lost, in ``dtype``."""
    before = batch.before
    if before is not None:
        before = before.replace(clips=_cast_clips(before.clips, dtype))
    return batch.replace(values=_cast(batch.values, dtype), before=before)


def forward(
    learner: Learner, params: Any, state: TrainState, batch: Batch, train: bool
) -> tuple[Outputs, Any]:
    """Applies the model to a batch.

    Returns:
      Its float32 outputs, and the new batch_stats (the old ones when not training).
    """
    if not train:
        return infer(learner, params, state.batch_stats, batch), state.batch_stats
    variables = {"params": _cast(params, learner.dtype), "batch_stats": state.batch_stats}
    batch = _cast_clips(batch, learner.dtype)
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    outputs, updated = learner.model.apply(
        variables, batch, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    return _cast(outputs, jnp.float32), updated.get("batch_stats", state.batch_stats)


def infer(learner: Learner, params: Any, batch_stats: Any, batch: Batch) -> Outputs:
    """Applies a model to a batch without training it; its outputs are float32."""
    variables = {"params": _cast(params, learner.dtype), "batch_stats": batch_stats}
    batch = batch.replace(values=_cast(batch.values, learner.dtype))
    return _cast(learner.model.apply(variables, batch, train=False), jnp.float32)


def gradient_of(
    learner: Learner, state: TrainState, batch: Batch
) -> tuple[Any, TrainState, dict[str, jax.Array]]:
    """The objective on a batch, and its gradient.

    Returns:
      The gradient; the state with new running statistics and memory; float32 scalars: "loss" and the
      objective's parts.
    """

    def loss_of(params):
        outputs, batch_stats = forward(learner, params, state, batch, train=True)
        loss, parts = learner.objective(outputs, batch, state.memory)
        return loss, (parts, batch_stats, outputs)

    (loss, (parts, batch_stats, outputs)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    state = state.replace(batch_stats=batch_stats)
    if learner.objective.remember is not None:
        state = state.replace(memory=learner.objective.remember(outputs, batch, state.memory))
    return gradient, state, {"loss": loss, **parts}


def updated(learner: Learner, state: TrainState, gradient: Any) -> tuple[TrainState, jax.Array]:
    """The optimiser's answer to a gradient.

    Returns:
      The new state, and the gradient's norm over all parameters that are trained, before anything is clipped.
    """
    norm = optim.gradient_norm(gradient, learner.frozen)
    params, opt_state = learner.optimizer.step(gradient, state.opt_state, state.params, state.rate_scale)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), norm


def train_step(learner: Learner, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update: the objective on a batch, its gradient, the optimiser.

    Returns:
      The new state, and float32 scalars: those of :func:`gradient_of`, and "gradient_norm".
    """
    gradient, state, scalars = gradient_of(learner, state, batch)
    state, norm = updated(learner, state, gradient)
    return state, {**scalars, "gradient_norm": norm}


def prelude_step(
    learner: Learner, prelude: Prelude, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update of the parameters that the prelude trains; the others and the memory stay.

    Returns:
      The new state, and float32 scalars: "loss" and its parts.
    """
    params: dict[str, Any] = dict(flax.traverse_util.flatten_dict(state.params, sep="/"))
    chosen = optim.matching(params, prelude.paths)

    def loss_of(chosen):
        whole = flax.traverse_util.unflatten_dict(params | chosen, sep="/")
        outputs, _ = forward(learner, whole, state, batch, train=True)
        return prelude.loss(outputs, batch, state.memory)

    (loss, parts), gradient = jax.value_and_grad(loss_of, has_aux=True)(chosen)
    updates, prelude_state = optim.build_prelude(prelude).update(gradient, state.prelude_state, chosen)
    trained: Any = optax.apply_updates(chosen, updates)
    params = flax.traverse_util.unflatten_dict(params | trained, sep="/")
    state = state.replace(step=state.step + 1, params=params, prelude_state=prelude_state)
    return state, {"loss": loss, **parts}


class Programs:
    """The jitted programs of a learner, each compiled once per padded shape.

    Attributes:
      traces: how often each program was traced, for tests and benchmarks: once per shape.
    """

    def __init__(self, learner: Learner):
        self.learner = learner
        self.traces = {"train": 0, "predict": 0}
        # Results are whole on every device, so that each process can read them.
        whole = NamedSharding(learner.mesh, P())
        self.chunk = jax.jit(
            self._train_chunk,
            static_argnames=("shape", "prelude"),
            donate_argnames="state",
            out_shardings=whole,
        )
        self.gradient = jax.jit(self._train_chunk_gradient, static_argnames="shape", out_shardings=whole)
        self.update = jax.jit(
            functools.partial(updated, learner), donate_argnames="state", out_shardings=whole
        )
        self._finite = jax.jit(self._all_finite, out_shardings=whole)
        self.take = jax.jit(self._take_first, static_argnames="shape")
        self._predict = jax.jit(self.predict_batch, out_shardings=whole)

    def _batch(self, table: Table | None, item: Any, shape: Shape) -> Batch:
        batch = batch_of(table, item, shape)
        rows = NamedSharding(self.learner.mesh, P("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), batch)

    def step_of(
        self, table: Table | None, shape: Shape, prelude: bool
    ) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
        """One step as a function of the state and an item of the source, for a program that is being traced.

        Args:
          table: see :func:`batch_of`.
          shape: padded steps per modality.
          prelude: whether the step is the prelude's.

        Returns:
          What :func:`train_step` returns, with "weight", the number of clips, among the scalars.
        """
        self._note_training(shape, prelude)

        def run(state, item):
            batch = self._training_batch(table, item, shape, state)
            with spread_over(self.learner.mesh.devices.size):
                if prelude:
                    opening = self.learner.objective.prelude
                    assert opening is not None
                    state, scalars = prelude_step(self.learner, opening, state, batch)
                else:
                    state, scalars = train_step(self.learner, state, batch)
            return state, {**scalars, "weight": batch.weight.sum()}

        return run

    def _note_training(self, shape: Shape, prelude: bool = False) -> None:
        self.traces["train"] += 1
        LOGGER.debug("compiling the %s for clips of %s steps", "prelude" if prelude else "training", shape)

    def _training_batch(self, table: Table | None, item: Any, shape: Shape, state: TrainState) -> Batch:
        """A batch with what its clips lose."""
        batch = self._batch(table, item, shape)
        return batch if self.learner.corrupt is None else self.learner.corrupt(batch, state.seed, state.step)

    def train_chunk(
        self,
        state: TrainState,
        table: Table | None,
        items: Any,
        steps: jax.Array,
        *,
        shape: Shape,
        prelude: bool = False,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Runs the first ``steps`` of S prepared steps, of the prelude or of the training proper.

        A single step is two programs: the optimiser's hangs on no padded shape and is compiled once. In one
        program with the gradient it is a third of every shape's compilation.

        Returns:
          The new state, and per step [S] the scalars of :func:`train_step` (0 for steps not run)
          and "weight", the number of clips.
        """
        if prelude or jax.tree.leaves(items)[0].shape[0] > 1:
            return self.chunk(state, table, items, steps, shape=shape, prelude=prelude)
        gradient, of_step, scalars = self.gradient(state, table, items, shape=shape)
        state, norm = self.update(state.replace(**of_step), gradient)
        return state, {**scalars, "gradient_norm": norm[None]}

    def _train_chunk_gradient(self, state: TrainState, table: Table | None, items: Any, *, shape: Shape):
        """The first half of a chunk of one step.

        Returns:
          The gradient, what else the step changes of the state, and the scalars [1].
        """
        self._note_training(shape)
        batch = self._training_batch(table, jax.tree.map(lambda x: x[0], items), shape, state)
        with spread_over(self.learner.mesh.devices.size):
            gradient, state, scalars = gradient_of(self.learner, state, batch)
        scalars = {**scalars, "weight": batch.weight.sum()}
        of_step = {"batch_stats": state.batch_stats, "memory": state.memory}
        return gradient, of_step, jax.tree.map(lambda x: x[None], scalars)

    def _train_chunk(
        self,
        state: TrainState,
        table: Table | None,
        items: Any,
        steps: jax.Array,
        *,
        shape: Shape,
        prelude: bool = False,
    ):
        """What :meth:`train_chunk` runs as one program."""
        run = self.step_of(table, shape, prelude)
        first = jax.tree.map(lambda x: x[0], items)
        count = jax.tree.leaves(items)[0].shape[0]
        if count == 1:
            state, scalars = run(state, first)
            return state, jax.tree.map(lambda x: x[None], scalars)
        idle = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(run, state, first)[1])

        def body(state, numbered):
            number, item = numbered
            return jax.lax.cond(number < steps, run, lambda s, _: (s, idle), state, item)

        return jax.lax.scan(body, state, (jnp.arange(count), items))

    def all_finite(self, state: TrainState) -> bool:
        """Whether the parameters and running statistics are numbers throughout."""
        return bool(self._finite(state.params, state.batch_stats))

    @staticmethod
    def _all_finite(params: Any, batch_stats: Any) -> jax.Array:
        leaves = jax.tree.leaves((params, batch_stats))
        return jnp.array([jnp.isfinite(x).all() for x in leaves]).all()

    def predict_chunk(self, state: TrainState, table: Table | None, items: Any, *, shape: Shape):
        """Predictions and losses of a chunk of one batch.

        Gathering the clips is a program of its own, so that the model is compiled once per padded
        shape and not again for every split's number of clips.

        Returns:
          "predictions" {task: [B]}, "fusion" [B, F], and "parts", the objective's scalars with "loss"
          and "weight".
        """
        return self._predict(state, self.take(table, items, shape=shape))

    def _take_first(self, table: Table | None, items: Any, *, shape: Shape) -> Batch:
        return self._batch(table, jax.tree.map(lambda x: x[0], items), shape)

    def predict_batch(self, state: TrainState, batch: Batch) -> dict[str, Any]:
        """What :meth:`predict_chunk` returns, for a batch; not jitted."""
        self.traces["predict"] += 1
        steps = tuple(batch.mask[m].shape[1] for m in MODALITIES)
        LOGGER.debug("compiling the prediction for %d clips of %s steps", len(batch.weight), steps)
        with spread_over(self.learner.mesh.devices.size):
            outputs, _ = forward(self.learner, state.params, state, batch, train=False)
        loss, parts = self.learner.objective.evaluate(outputs, batch)
        scalars = {"loss": loss, **parts, "weight": batch.weight.sum()}
        return {"predictions": outputs.predictions, "fusion": outputs.features["fusion"], "parts": scalars}
