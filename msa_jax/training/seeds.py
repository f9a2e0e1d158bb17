"""Several seeds of one run trained by one program: everything that training changes gets an axis of S seeds.

Each seed has its own initial values, order of clips, dropout, early stopping and run folder, and ends as it
would alone, but for the order in which numbers are summed. What a seed does next, a chunk of batches of one
padded shape, follows from its seed and epoch, so the seeds do not always ask for the same shape. The shape
that most ask for is run; the others wait, and their states stay as they are.
"""

import collections
import contextlib
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.configuration import Config
from msa_jax.data.loader import Chunk, Shape, Table
from msa_jax.errors import ConfigError, RunError
from msa_jax.training import build
from msa_jax.training.checkpoint import with_best
from msa_jax.training.checks import check
from msa_jax.training.loop import Loop, claim, read_data
from msa_jax.training.run_folder import RunFolder
from msa_jax.training.state import TrainState
from msa_jax.training.step import Programs
from msa_jax.training.stopping import StopRequest


def train_seeds(config: Config, folders: Mapping[int, str | pathlib.Path]) -> dict[int, str]:
    """Trains, or goes on with, the runs of several seeds at once, and evaluates the best epoch of each.

    Args:
      config: of all of them, but for train.seed.
      folders: seed -> the folder of its run. They need not stand at the same step.

    Returns:
      seed -> "" where the run is done, else why it failed; the others went on.

    Raises:
      MsaJaxError: for anything that the user can fix and that concerns all.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    if jax.process_count() > 1:
        raise ConfigError("several seeds in one program need one process; start without --distributed.")
    with contextlib.ExitStack() as held:
        stop = held.enter_context(StopRequest())
        with stop.before_training():
            configs = {seed: _with_seed(config, seed) for seed in folders}
            for one in configs.values():
                check(one)
            runs = {seed: RunFolder(path) for seed, path in folders.items()}
            for folder in runs.values():
                held.enter_context(folder.held())
            read, stored, dataset = read_data(config)
            setup = build.build(read, dataset, seeds=len(folders))
            if setup.sources["train"].table is None:
                raise ConfigError(
                    "several seeds in one program need the features on the device; raise data.resident_gib, "
                    "or train them one by one (--how=processes)."
                )
            configs = {seed: _with_seed(read, seed) for seed in folders}
            for seed, folder in runs.items():
                claim(folder, configs[seed], stored, dataset.spec)
        loops: dict[int, Loop] = {}
        for seed, folder in runs.items():
            own = setup._replace(state=setup.fresh(seed))
            loop = Loop(configs[seed], dataset, stored, folder, own, stop, label=f"seed {seed}  ")
            loop.share = 1 / len(folders)
            loops[seed] = held.enter_context(loop)
        together = Together(loops, SeedPrograms(setup.programs), stop)
        together.train()
        together.finish()
        return {seed: together.failed.get(seed, "") for seed in folders}


def _with_seed(config: Config, seed: int) -> Config:
    chosen = config.copy_and_resolve_references()
    chosen.train.seed = seed
    return chosen


class SeedPrograms:
    """The programs of a learner for S seeds at once, each compiled once per padded shape.

    The seeds are the first axis of every leaf of the state, spread over the mesh's "seed" axis.

    Args:
      programs: of one seed; its traces count these too.
    """

    def __init__(self, programs: Programs):
        self.one = programs
        self.mesh = programs.learner.mesh
        over_seeds = NamedSharding(self.mesh, P("seed"))
        self.train_chunk = jax.jit(
            self._train_chunk,
            static_argnames=("shape", "prelude"),
            donate_argnames="states",
            out_shardings=over_seeds,
        )
        predict = jax.vmap(programs.predict_batch, in_axes=(0, None), spmd_axis_name="seed")
        self._predict = jax.jit(predict, out_shardings=over_seeds)
        self.stack = jax.jit(
            lambda states: jax.tree.map(lambda *x: jnp.stack(x), *states), out_shardings=over_seeds
        )
        self.pick = jax.jit(
            lambda states, place: jax.tree.map(lambda x: x[place], states),
            out_shardings=NamedSharding(self.mesh, P()),
        )

    def items(self, chunks: Sequence[Chunk | None], like: Chunk) -> tuple[Any, np.ndarray]:
        """What the chunk program takes: (index, weight) [S, steps, B], and each seed's number of steps [S].

        Args:
          chunks: one per seed, None for a seed that waits.
          like: any chunk of theirs.
        """
        nothing = np.zeros_like(like.index), np.zeros_like(like.weight)
        rows = [nothing if chunk is None else (chunk.index, chunk.weight) for chunk in chunks]
        sharding = NamedSharding(self.mesh, P("seed", None, "data"))
        index, weight = (jax.device_put(np.stack(part), sharding) for part in zip(*rows, strict=True))
        steps = np.array([0 if chunk is None else chunk.steps for chunk in chunks], np.int32)
        return (index, weight), steps

    def _train_chunk(
        self,
        states: TrainState,
        table: Table,
        items: Any,
        steps: jax.Array,
        *,
        shape: Shape,
        prelude: bool,
    ):
        """Runs the first ``steps[s]`` of the prepared steps of every seed s.

        Returns:
          The new states, and per seed and step [S, steps] the scalars of a step; those of steps that were
          not run mean nothing.
        """
        run = self.one.step_of(table, shape, prelude)

        def body(steps, state, numbered):
            number, item = numbered
            new, scalars = run(state, item)
            return jax.tree.map(functools.partial(jnp.where, number < steps), new, state), scalars

        def one_seed(state, items, steps):
            count = items[0].shape[0]
            if count == 1:  # outside a loop XLA for CPUs uses all cores
                state, scalars = body(steps, state, (0, jax.tree.map(lambda x: x[0], items)))
                return state, jax.tree.map(lambda x: x[None], scalars)
            return jax.lax.scan(functools.partial(body, steps), state, (jnp.arange(count), items))

        return jax.vmap(one_seed, spmd_axis_name="seed")(states, items, steps)

    def predict_chunk(self, states: TrainState, table: Table, items: Any, *, shape: Shape) -> Any:
        """As that of one seed, every leaf with an axis of seeds in front."""
        return self._predict(states, self.one.take(table, items, shape=shape))


#: What a chunk is run by: its padded shape, and whether it is the prelude's.
Kind = tuple[Shape, bool]


class Together:
    """The runs of several seeds from their last checkpoints (or their beginnings) to their ends.

    Args:
      loops: seed -> its run. They do the bookkeeping of theirs; their states are current between epochs only.
      programs: for as many seeds.
      stop: of all.

    Attributes:
      failed: seed -> why its run could not go on.
    """

    def __init__(self, loops: Mapping[int, Loop], programs: SeedPrograms, stop: StopRequest):
        self.loops, self.programs, self.stop = loops, programs, stop
        self.place = {seed: place for place, seed in enumerate(loops)}
        self.failed: dict[int, str] = {}
        self.table: Any = next(iter(loops.values())).setup.sources["train"].table
        self.states: Any = None
        self.newest: dict[int, Chunk] = {}

    def train(self) -> None:
        """Runs the epochs that are left to each."""
        for loop in self.loops.values():
            loop.folder.write_history(loop.progress.history)
        while left := [seed for seed, loop in self.loops.items() if not loop.progress.finished]:
            left = [seed for seed in left if seed not in self.failed]
            if not left:
                return
            self._train_epoch(left)
            watching = next(iter(self.loops.values())).config.train.watch_test
            valid, test = self._evaluate("valid"), self._evaluate("test") if watching else None
            for seed in [seed for seed in left if seed not in self.failed]:
                with self._failing(seed):
                    self._look_at_parameters(seed)
                    scores = self._scored(seed, "valid", valid)["scores"]
                    self.loops[seed].end_epoch(scores, None if test is None else self._watched(seed, test))

    @contextlib.contextmanager
    def _failing(self, seed: int):
        """Within it an error of one seed's ends that one alone."""
        try:
            yield
        except RunError as error:
            self.failed[seed] = str(error)

    def _stack(self) -> None:
        self.states = self.programs.stack([loop.state for loop in self.loops.values()])

    def _state_of(self, seed: int) -> TrainState:
        return self.programs.pick(self.states, self.place[seed])

    def _look_at_parameters(self, seed: int) -> None:
        """Gives a run its state, and stops it if what it was trained by now left parameters not finite."""
        loop = self.loops[seed]
        loop.state = self._state_of(seed)
        if seed in self.newest:
            loop.check_parameters(self.newest[seed])

    def _train_epoch(self, left: Sequence[int]) -> None:
        """The rest of the epoch of each seed in ``left``.

        The host looks at the losses of some chunks while the device works on the next.
        """
        ahead = {seed: collections.deque(self.loops[seed].open_epoch()) for seed in left}
        self._stack()
        saved = {seed: self.loops[seed].progress.batch for seed in left}
        waiting: tuple[dict[int, Chunk], Any, bool] | None = None
        while any(ahead.values()):
            shape, prelude = _wanted_by_most(ahead)
            turn = {
                seed: queue.popleft()[0]
                for seed, queue in ahead.items()
                if queue and (queue[0][0].shape, queue[0][1]) == (shape, prelude)
            }
            scalars = self._run(turn, shape, prelude)
            if waiting is not None:
                self._look_at(*waiting)
            waiting = turn, scalars, prelude
            leaving = self.stop.number is not None
            every = next(iter(self.loops.values())).config.train.checkpoint_steps
            if leaving or every:
                self._look_at(*waiting)
                waiting = None
                self._save(turn if leaving else _due(turn, self.loops, saved, every), saved)
            for seed in self.failed:
                ahead.pop(seed, None)
            if leaving:
                self._save([seed for seed in left if seed not in turn], saved)
                raise self.stop.after_saving(", ".join(str(loop.folder.path) for loop in self.loops.values()))
        if waiting is not None:
            self._look_at(*waiting)
        for seed in [seed for seed in left if seed not in self.failed]:
            self.loops[seed].watch.add_to(self.loops[seed].progress)

    def _run(self, turn: Mapping[int, Chunk], shape: Shape, prelude: bool) -> Any:
        """Trains the seeds whose turn it is by a chunk each; returns the scalars [S, steps]."""
        self.newest |= turn
        chunks = [turn.get(seed) for seed in self.loops]
        items, steps = self.programs.items(chunks, next(iter(turn.values())))
        self.states, scalars = self.programs.train_chunk(
            self.states, self.table, items, steps, shape=shape, prelude=prelude
        )
        return scalars

    def _look_at(self, turn: Mapping[int, Chunk], scalars: Any, prelude: bool) -> None:
        """Adds finished chunks to the sums of their seeds' epochs."""
        host = jax.device_get(scalars)
        for seed, chunk in turn.items():
            with self._failing(seed):
                self.loops[seed].look_at(chunk, {k: v[self.place[seed]] for k, v in host.items()}, prelude)

    def _save(self, seeds: Sequence[int] | Mapping[int, Any], saved: dict[int, int]) -> None:
        """Checkpoints of some seeds, inside an epoch."""
        for seed in [seed for seed in seeds if seed not in self.failed]:
            loop = self.loops[seed]
            loop.watch.add_to(loop.progress)
            with self._failing(seed):
                self._look_at_parameters(seed)
                loop.save()
            saved[seed] = loop.progress.batch

    def _evaluate(self, split: str) -> list[tuple[Chunk, Any]]:
        """Every chunk of a split, and what the S seeds predict for it, on the host."""
        setup = next(iter(self.loops.values())).setup
        source, plan = setup.sources[split], setup.eval_plans[split]
        table: Any = source.table
        outs = [
            (chunk, self.programs.predict_chunk(self.states, table, items, shape=chunk.shape))
            for chunk, items in source.items(plan.once())
        ]
        return [(chunk, jax.device_get(out)) for chunk, out in outs]

    def _scored(self, seed: int, split: str, outs: Sequence[tuple[Chunk, Any]]) -> dict[str, Any]:
        place = self.place[seed]
        own = [(chunk, jax.tree.map(lambda x: x[place], out)) for chunk, out in outs]
        return self.loops[seed].scored(split, own)

    def _watched(self, seed: int, test: Sequence[tuple[Chunk, Any]]) -> dict[str, float]:
        try:
            return self._scored(seed, "test", test)["scores"]
        except RunError:  # as for a single run: what is only watched stops nothing
            return {}

    def finish(self) -> None:
        """Evaluates the best epoch of each on all splits and writes its run's files."""
        for loop in self.loops.values():
            loop.state = with_best(loop.state, loop.best)
        self._stack()
        outs = {name: self._evaluate(name) for name in next(iter(self.loops.values())).dataset.splits}
        for seed in [seed for seed in self.loops if seed not in self.failed]:
            with self._failing(seed):
                self.loops[seed].write({name: self._scored(seed, name, out) for name, out in outs.items()})


def _wanted_by_most(ahead: Mapping[int, "collections.deque[tuple[Chunk, bool]]"]) -> Kind:
    """What most seeds do next; of several such, what the seed with the most chunks left does."""
    first = {seed: (queue[0][0].shape, queue[0][1]) for seed, queue in ahead.items() if queue}
    votes = collections.Counter(first.values())
    return max(first.items(), key=lambda one: (votes[one[1]], len(ahead[one[0]])))[1]


def _due(
    turn: Mapping[int, Chunk], loops: Mapping[int, Loop], saved: Mapping[int, int], every: int
) -> list[int]:
    """The seeds that have trained for so many steps since their last checkpoint."""
    return [seed for seed in turn if loops[seed].progress.batch - saved[seed] >= every]
