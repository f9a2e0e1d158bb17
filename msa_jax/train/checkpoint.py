"""Checkpoints: one Orbax step holds the state, the best model so far, and where the loop stands."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from msa_jax.errors import RunError
from msa_jax.train.state import TrainState


@dataclasses.dataclass
class Progress:
    """Where the loop stands; with the states it is all that a resumed run needs.

    Attributes:
      epoch: the epoch under way, from 0.
      chunk: the next chunk of that epoch.
      sums: of the epoch so far: weighted training scalars.
      history: one row per finished epoch, the rows of metrics.jsonl.
      best_score: best validation score so far, None before the first epoch ends.
      best_epoch: the epoch of that score, from 1; 0 before.
      stale: epochs since the best one.
      plateau: epochs without improvement as the plateau schedule counts them.
      seconds: of training, over all sittings.
      finished: whether training is over (epochs done or patience at its end).
    """

    epoch: int = 0
    chunk: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_score: float | None = None
    best_epoch: int = 0
    stale: int = 0
    plateau: int = 0
    seconds: float = 0.0
    finished: bool = False


#: The parts of a TrainState that make the best model.
Best = Mapping[str, Any]


def best_of(state: TrainState) -> Best:
    """A copy of what the best epoch is remembered by (the state itself is donated to the next step)."""
    return jax.tree.map(jnp.copy, {"params": state.params, "batch_stats": state.batch_stats})


def with_best(state: TrainState, best: Best) -> TrainState:
    """The state with the best epoch's parameters."""
    return state.replace(params=best["params"], batch_stats=best["batch_stats"])


class Checkpoints:
    """The ``checkpoints/`` folder of a run.

    Saving is asynchronous. Each step carries a digest of its arrays, so that a damaged one is
    noticed when it is read; it is then moved aside (never deleted) and the step before is used.

    Args:
      folder: made if absent.
      warn: called with a sentence when a damaged step is passed over.
      read_only: change nothing in the folder.
    """

    def __init__(self, folder: pathlib.Path, warn: Callable[[str], None], read_only: bool = False):
        self.folder, self.warn, self._read_only = folder.resolve(), warn, read_only
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        if self._read_only:
            with _quiet():  # Orbax warns that reading will not write
                options = ocp.CheckpointManagerOptions(read_only=True)
                return ocp.CheckpointManager(self.folder, options=options)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        return ocp.CheckpointManager(self.folder, options=options)

    def steps(self) -> list[int]:
        """The steps on disk."""
        return list(self._manager.all_steps())

    def save(self, state: TrainState, best: Best, progress: Progress) -> None:
        """Saves in the background. The arrays are copied first, so the caller may donate them."""
        step = int(state.step)
        if step in self._manager.all_steps():
            # The same step twice: the end of an epoch after a save inside it. The newer one knows more.
            self._manager.wait_until_finished()
            self._manager.delete(step)
        tree = jax.tree.map(jnp.copy, {"state": state, "best": best})
        meta = {"progress": dataclasses.asdict(progress), "layout": _layout(tree), "digest": _digest(tree)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        try:
            self._manager.save(step, args=args)
        except OSError as error:
            raise RunError(
                f"cannot write a checkpoint to {self.folder}: {error}; make room, run again."
            ) from error

    def restore(self, state: TrainState, best: Best) -> tuple[TrainState, Best, Progress] | None:
        """Reads the newest usable step; the arguments give structure, shapes and sharding.

        Returns:
          None if there is no checkpoint.

        Raises:
          RunError: if there are checkpoints and none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self.read(step, {"state": state, "best": best})
            except RunError:
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
                self._set_aside(step, error)
        if steps:
            raise RunError(
                f"no checkpoint under {self.folder} can be read; they were moved to {self._damaged()}. "
                "Run again to start from the beginning."
            )
        return None

    def read(self, step: int, tree: Any) -> tuple[TrainState, Best, Progress]:
        """Reads one step into the structure of ``tree``; any exception means that it is unusable."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta: Any = self._manager.restore(step, args=args)
        meta = meta["meta"]
        if meta["layout"] != _layout(tree):
            raise RunError(
                f"{self.folder} was written by another version of msa_jax, whose training state is built "
                "differently; finish the run with that version, or use another --workdir."
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        restored: Any = self._manager.restore(step, args=args)
        restored = restored["state"]
        if _digest(restored) != meta["digest"]:
            raise ValueError("its arrays are not what was saved")
        return restored["state"], restored["best"], Progress(**meta["progress"])

    def _damaged(self) -> pathlib.Path:
        return self.folder.with_name("checkpoints-damaged")

    def _set_aside(self, step: int, error: Exception) -> None:
        self.warn(f"checkpoint {step} is damaged ({_reason(error)}); it is kept in {self._damaged()}.")
        if jax.process_index() == 0:
            self._damaged().mkdir(exist_ok=True)
            target = self._damaged() / str(step)
            shutil.rmtree(target, ignore_errors=True)
            (self.folder / str(step)).rename(target)
        if jax.process_count() > 1:  # none may look at the folder again before the step is gone
            multihost_utils.sync_global_devices(f"checkpoint {step} set aside")
        self._manager.close()
        self._manager = self._open()

    def latest_step(self) -> int | None:
        """The newest step on disk, None if there is none."""
        return self._manager.latest_step()

    def reached_preemption(self, count: int) -> bool:
        """Whether several processes, one of which got SIGTERM, agreed to stop at this count of asking."""
        return jax.process_count() > 1 and self._manager.reached_preemption(count)

    def close(self) -> None:
        """Waits for the save under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def _reason(error: Exception) -> str:
    """The first line of an error, which may hold pages."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def read_best(folder: pathlib.Path, state: TrainState, warn: Callable[[str], None]) -> Best:
    """The best model so far of a run, whose folder is left as it is.

    Args:
      folder: ``checkpoints/`` of the run.
      state: structure, shapes and sharding of its training state.
      warn: called with a sentence when a damaged checkpoint is passed over.

    Raises:
      RunError: if no checkpoint of a finished epoch can be read.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not there: that is no folder of a run, or it has not trained yet.")
    best = {"params": state.params, "batch_stats": state.batch_stats}
    reader = Checkpoints(folder, warn, read_only=True)
    try:
        for step in sorted(reader.steps(), reverse=True):
            try:
                _, found, progress = reader.read(step, {"state": state, "best": best})
            except RunError:
                raise
            except Exception as error:  # as in Checkpoints.restore
                warn(f"checkpoint {step} of {folder} is damaged ({_reason(error)}); the one before is used.")
                continue
            if progress.best_epoch or progress.finished:  # imported weights are finished without an epoch
                return found
    finally:
        reader.close()
    raise RunError(f"{folder} holds no model of a finished epoch; let the run finish one first.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it libraries log errors only."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _layout(tree: Any) -> str:
    """SHA-256 over every leaf's path, type and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    rows = [[jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape] for path, leaf in leaves]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _digest(tree: Any) -> str:
    """SHA-256 over every leaf's bytes. Parameters are whole on every process."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(np.asarray(leaf.addressable_data(0))).tobytes())
    return digest.hexdigest()
