"""Checkpoints: each holds the training state, the best model so far, and where the loop stands.

They are numbered in the order of saving, not by the step of training: an epoch's end may be saved at the step
of a save inside it, and what is on disk must not go before its successor stands. Runs of earlier
versions, whose checkpoints have the numbers of their steps, are read alike.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from msa_jax.errors import RunError
from msa_jax.messages import LOGGER
from msa_jax.training.late_answers import failing, pass_late_answers
from msa_jax.training.state import TrainState


@dataclasses.dataclass
class Progress:
    """Where the loop stands; with the states it is all that a resumed run needs.

    Attributes:
      epoch: the epoch under way, from 0.
      batch: the next batch of that epoch, counted from 0; a prelude's batches count too.
      sums: of the epoch so far: weighted training scalars.
      measured: of the epoch so far: "seconds" of training and its "steps", and "gradient_norm" summed like
        the scalars, with its "weight".
      history: one row per finished epoch, the rows of metrics.jsonl.
      best_score: best validation score so far, None before the first epoch ends.
      best_epoch: the epoch of that score, from 1; 0 before.
      stale: epochs since the best one.
      plateau: epochs without improvement as the plateau schedule counts them.
      seconds: of training, over all sittings.
      finished: whether training is over (epochs done or patience at its end).
    """

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    measured: dict[str, float] = dataclasses.field(default_factory=dict)
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

    Saving is asynchronous, and the checkpoints before go only once the new one is whole. Each carries a
    digest of its arrays, so that a damaged one is noticed when it is read; it is then moved aside (never
    deleted) and the one before is used.

    Args:
      folder: made if absent.

    Attributes:
      step: of training, at the newest checkpoint; None if there is none.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder.resolve()
        self.step: int | None = None
        with contextlib.ExitStack() as quiet:
            quiet.enter_context(pass_late_answers())
            self._manager = self._open()
            self._quiet = quiet.pop_all()  # until it is closed, since saves go on in the background

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        return ocp.CheckpointManager(self.folder, options=options)

    def save(self, state: TrainState, best: Best, progress: Progress) -> None:
        """Saves in the background. The arrays are copied first, so the caller may donate them."""
        tree = jax.tree.map(jnp.copy, {"state": state, "best": best})
        meta = {"progress": dataclasses.asdict(progress), "layout": _layout(tree), "digest": _digest(tree)}
        meta["seal"] = _seal(meta)
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        with self._writing():
            self._manager.save((self._manager.latest_step() or 0) + 1, args=args)
        self.step = int(state.step)

    def restore(self, state: TrainState, best: Best) -> tuple[TrainState, Best, Progress] | None:
        """Reads the newest usable checkpoint; the arguments give structure, shapes and sharding.

        Returns:
          None if there is no checkpoint.

        Raises:
          RunError: if there are checkpoints and none can be read, or the newest was written by a version
            of msa_jax whose state is built differently, or whose place in the epoch means another.
        """
        numbers = sorted(self._manager.all_steps(), reverse=True)
        for number in numbers:
            restored = None
            with failing() as failure:
                restored = self._read(number, {"state": state, "best": best})
            if restored is None:
                self._set_aside(number, failure.cause)
                continue
            self.step = int(restored[0].step)
            return restored
        if numbers:
            raise RunError(
                f"no checkpoint under {self.folder} can be read; they were moved to {self._damaged()}. "
                "Run again to start from the beginning."
            )
        return None

    def _read(self, number: int, tree: Any) -> tuple[TrainState, Best, Progress]:
        """Reads a checkpoint into the structure of ``tree``.

        Any exception but RunError means that it is damaged.
        """
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta: Any = self._manager.restore(number, args=args)
        meta = meta["meta"]
        _check_seal(meta)
        if meta["layout"] != _layout(tree):
            raise RunError(
                f"{self.folder} was written by another version of msa_jax, whose training state is built "
                "differently; finish the run with that version, or use another --workdir."
            )
        progress = self._progress(meta["progress"])
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        restored: Any = self._manager.restore(number, args=args)
        restored = restored["state"]
        if _digest(restored) != meta["digest"]:
            raise ValueError("its arrays are not what was saved")
        return restored["state"], restored["best"], progress

    def _progress(self, record: Mapping[str, Any]) -> Progress:
        """The progress that a checkpoint records.

        Earlier versions counted chunks, in an order of batches that depended on the device: where they
        stood inside an epoch, nobody can tell which clips are left. Between epochs all is known.

        Raises:
          RunError: for such a place.
        """
        if record.get("chunk"):
            raise RunError(
                f"{self.folder} stands inside epoch {record['epoch'] + 1}, where an earlier version of "
                "msa_jax was stopped, whose batches came in another order; let that version finish the "
                "epoch, or use another --workdir."
            )
        if "chunk" in record and not record["finished"]:
            LOGGER.warning(
                "%s was begun by an earlier version of msa_jax; from here on its batches come in another "
                "order.",
                self.folder.parent,
            )
        return _known_fields(record)

    def _damaged(self) -> pathlib.Path:
        return self.folder.with_name("checkpoints-damaged")

    def _set_aside(self, number: int, cause: str) -> None:
        LOGGER.warning("checkpoint %d is damaged (%s); it is kept in %s.", number, cause, self._damaged())
        if jax.process_index() == 0:
            self._damaged().mkdir(exist_ok=True)
            names = (f"{number}-{copy}" if copy else str(number) for copy in itertools.count())
            target = next(place for name in names if not (place := self._damaged() / name).exists())
            (self.folder / str(number)).rename(target)
        if jax.process_count() > 1:  # none may look at the folder again before the checkpoint is gone
            multihost_utils.sync_global_devices(f"checkpoint {number} set aside")
        self._manager.close()
        self._manager = self._open()

    def reached_preemption(self, count: int) -> bool:
        """Whether several processes, one of which got SIGTERM, agreed to stop at this count of asking."""
        return jax.process_count() > 1 and self._manager.reached_preemption(count)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in a sentence what went wrong in a save: this one, or the one before in its thread."""
        with failing() as failure:
            yield
        if failure.cause:
            raise RunError(
                f"cannot write a checkpoint to {self.folder}: {failure.cause}; make room, run again."
            )

    def close(self) -> None:
        """Waits for the save under way.

        Raises:
          RunError: if it failed.
        """
        with self._quiet, self._writing():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()


def _known_fields(record: Mapping[str, Any]) -> Progress:
    """A progress of those recorded fields that this version knows; later ones may have more."""
    known = {field.name for field in dataclasses.fields(Progress)}
    return Progress(**{name: value for name, value in record.items() if name in known})


def read_best(folder: pathlib.Path) -> tuple[Best, Progress]:
    """The best model so far among a run's checkpoints, which are left as they are.

    The training state is read as it was saved and dropped: its structure, which follows the optimiser and
    the objective, does not matter.

    Args:
      folder: ``checkpoints/`` of the run.

    Returns:
      {"params": nested dictionaries of NumPy arrays, "batch_stats": the same}, and the progress.

    Raises:
      RunError: if no checkpoint of a finished epoch can be read.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not there: that is no folder of a run, or it has not trained yet.")
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    for number in sorted(numbers, reverse=True):
        found = None
        with pass_late_answers(), failing() as failure:
            found = _read_as_saved(folder.resolve() / str(number))
        if found is None:
            LOGGER.warning(
                "checkpoint %d of %s is damaged (%s); the one before is used.", number, folder, failure.cause
            )
            continue
        best, progress = found
        if progress.best_epoch or progress.finished:  # imported weights are finished without an epoch
            return best, progress
    raise RunError(f"{folder} holds no model of a finished epoch; let the run finish one first.")


def _read_as_saved(folder: pathlib.Path) -> tuple[Best, Progress]:
    """The best model and the progress of one checkpoint; any exception means that it is damaged."""
    meta = json.loads((folder / "meta" / "metadata").read_text(encoding="utf-8"))
    _check_seal(meta)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        saved: Any = reader.metadata(folder / "state").item_metadata
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree)
        tree = reader.restore(folder / "state", args=ocp.args.PyTreeRestore(restore_args=kinds))
    # As saved, the state is a dictionary; its fields in their own order give the digest's.
    fields = [tree["state"].get(field.name) for field in dataclasses.fields(TrainState)]
    if _digest([tree["best"], fields]) != meta["digest"]:
        raise ValueError("its arrays are not what was saved")
    best = {part: tree["best"].get(part) or {} for part in ("params", "batch_stats")}
    return best, _known_fields(meta["progress"])


def _layout(tree: Any) -> str:
    """SHA-256 over every leaf's path, type and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    rows = [[jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape] for path, leaf in leaves]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _seal(meta: Mapping[str, Any]) -> str:
    """SHA-256 of what is recorded beside the arrays, in which a changed digit would be JSON as good."""
    rest = {name: value for name, value in meta.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_seal(meta: Mapping[str, Any]) -> None:
    """Raises ValueError for a record that is not what was saved; earlier versions wrote no seal."""
    if "seal" in meta and meta["seal"] != _seal(meta):
        raise ValueError("its record is not what was saved")


def _digest(tree: Any) -> str:
    """SHA-256 over every leaf's bytes."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(to_host(leaf)).tobytes())
    return digest.hexdigest()


def to_host(leaf: Any) -> np.ndarray:
    """An array of the training state, which is whole on every process, as NumPy's."""
    return np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
