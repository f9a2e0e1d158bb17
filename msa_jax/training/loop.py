"""The training loop: epochs of chunks, validation, early stopping, checkpoints, and the final files."""

import contextlib
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import messages, metrics
from msa_jax.configuration import Config
from msa_jax.data.dataset import Dataset
from msa_jax.data.loader import Chunk, Step
from msa_jax.data.opening import load_dataset
from msa_jax.data.spec import SPLITS, DatasetSpec
from msa_jax.errors import RunError
from msa_jax.messages import LOGGER
from msa_jax.training import build, pretrained, processes, profiling, watched
from msa_jax.training.accumulate import drop_accumulated
from msa_jax.training.best import fits, of_epoch, record_of, write_best
from msa_jax.training.build import Setup
from msa_jax.training.checkpoint import Checkpoints, Progress, best_of, with_best
from msa_jax.training.checks import check
from msa_jax.training.display import Display
from msa_jax.training.epoch import Stopwatch, add_steps, end_of_epoch
from msa_jax.training.optim import rates_after
from msa_jax.training.profiling import Profile
from msa_jax.training.run_folder import BEST, CHECKPOINTS, RunFolder
from msa_jax.training.scoring import gather, scores_of
from msa_jax.training.state import TrainState, count_parameters
from msa_jax.training.stopping import StopRequest
from msa_jax.training.trackers import Trackers, chosen

#: Called after every epoch, once it is saved, with the rows of ``metrics.jsonl`` so far. What it raises ends
#: the run there, and the same run goes on with the next epoch.
AfterEpoch = Callable[[Sequence[Mapping[str, Any]]], None]


def train_and_evaluate(
    config: Config,
    workdir: str | pathlib.Path,
    profile: str = "",
    splits: Sequence[str] = SPLITS,
    after_epoch: AfterEpoch = lambda _history: None,
) -> dict[str, Any]:
    """Trains, or goes on with, the run in ``workdir`` and evaluates its best epoch.

    Args:
      config: of the run.
      workdir: its folder.
      profile: folder for a trace of some steps; "" for none.
      splits: that the run may see, "train" and "valid" among them. A test split that is left out is put away
        as soon as the data is opened: nothing is built for it, and no file of the run has a figure of it.
      after_epoch: see :data:`AfterEpoch`.

    Returns:
      What ``result.json`` holds.

    Raises:
      MsaJaxError: for anything that the user can fix.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    first = jax.process_index() == 0
    with contextlib.ExitStack() as held:
        if not first:
            held.enter_context(messages.silenced())
        stop = held.enter_context(StopRequest())
        with processes.all_or_none(), stop.before_training():
            check(config)
            profiling.check_folder(profile)
            folder = RunFolder(workdir)
            if first:
                held.enter_context(folder.held())
            config, stored, dataset = read_data(config, splits)
            setup = build.build(config, dataset)
            if first:  # after all that a wrong setting can break, so that a right one finds the folder free
                claim(folder, config, stored, dataset.spec)
        profile = profile if first else ""
        loop = held.enter_context(Loop(config, dataset, stored, folder, setup, stop, profile))
        loop.train(after_epoch)
        return loop.finish()


def read_data(config: Config, splits: Sequence[str] = SPLITS) -> tuple[Config, DatasetSpec, Dataset]:
    """The configuration with the sizes that its data and encoder have, the data as stored and as prepared.

    Args:
      config: of the run.
      splits: that it may see.

    Raises:
      MsaJaxError: for anything that the user can fix.
    """
    config = pretrained.with_sizes(config)
    stored = load_dataset(config.data).only(splits)
    for note in stored.notes:
        LOGGER.info("note: %s", note)
    dataset = build.prepare(config, stored)
    config = build.with_classes(config, dataset.spec)
    absent = metrics.left_out(stored.spec.metrics, stored.spec.label_range)
    if absent and config.model.task == "regression":
        LOGGER.info("note: %s", absent)
    return config, stored.spec, dataset


def claim(folder: RunFolder, config: Config, stored: DatasetSpec, read: DatasetSpec) -> None:
    """Makes a folder the run's, with all that inference will need of its settings.

    Raises:
      RunError: if another run has it.
    """
    folder.claim(config, stored, read)
    if pretrained.has_folder(config.model):
        folder.keep_tokenizer(config.model.encoder.folder)


class Loop:
    """One run from its last checkpoint (or its beginning) to its end."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        stored: DatasetSpec,
        folder: RunFolder,
        setup: Setup,
        stop: StopRequest,
        profile: str = "",
        label: str = "",
    ):
        # dataset: as build.prepare made it; stored: what it was before; profile: folder for a trace; label:
        # in front of its lines, for one of several runs
        self.config, self.dataset, self.folder = config, dataset, folder
        self.setup, self.stop = setup, stop
        self.display, self.profile, self.watch = Display(label), Profile(profile), Stopwatch()
        self.state: TrainState = setup.state
        self.best = best_of(self.state)
        self.progress = Progress()
        self.record = record_of(config, stored, dataset.spec, setup.train_plan.shapes)
        self.checkpoints = Checkpoints(folder.path / CHECKPOINTS)
        restored = self.checkpoints.restore(self.state, self.best)
        if restored is not None:
            self.state, self.best, self.progress = restored
            self._take_up()
        self._asked = 0
        self._since = time.perf_counter()
        #: Of the time that passes, where several seeds are trained at once.
        self.share = 1.0
        wanted = chosen(config.train) if jax.process_index() == 0 else []
        self.trackers = Trackers(folder.path, config, self.progress.history, wanted)

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the last save."""
        self.display.close_bar()
        self.profile.close(self.state)
        self.checkpoints.close()
        self.trackers.close()

    def _take_up(self) -> None:
        """Goes on where a checkpoint stands: perhaps under other settings, perhaps without its best model."""
        progress = self.progress
        LOGGER.info("resuming at step %d, epoch %d", int(self.state.step), progress.epoch + 1)
        if progress.epoch:  # weights that were trained elsewhere stay as they are
            progress.finished = self._is_over()
        best = of_epoch(self.record, progress.best_epoch, progress.best_score)
        known = progress.best_epoch or progress.finished
        if known and jax.process_index() == 0 and not fits(self.folder.path / BEST, self.best, best):
            self.keep_best()

    def keep_best(self) -> None:
        """Writes the best model so far as a file of its own."""
        if jax.process_index() == 0:
            record = of_epoch(self.record, self.progress.best_epoch, self.progress.best_score)
            write_best(self.folder.path / BEST, self.best, record)

    def _is_over(self) -> bool:
        config, progress = self.config.train, self.progress
        worn_out = bool(config.patience) and progress.stale >= config.patience
        return worn_out or progress.epoch >= config.epochs

    def train(self, after_epoch: AfterEpoch = lambda _history: None) -> None:
        """Runs the epochs that are left."""
        if jax.process_index() == 0:
            self.folder.write_history(self.progress.history)
        while not self.progress.finished:
            self._train_epoch()
            self.end_epoch(self.evaluate("valid")["scores"], self._watch_test())
            after_epoch(self.progress.history)

    def _train_epoch(self) -> None:
        """One pass over the training split, from the batch where the run stands.

        The host looks at a chunk's losses while the device works on the next one.
        """
        config, progress = self.config.train, self.progress
        ahead = self.open_epoch()
        source, waiting, done, saved = self.setup.sources["train"], None, progress.batch, progress.batch
        fed = source.items([chunk for chunk, _ in ahead])
        for (_, prelude), (chunk, items) in zip(ahead, fed, strict=True):
            self.profile.before((chunk.shape, prelude), self.state)
            self.state, scalars = self.setup.programs.train_chunk(
                self.state, source.table, items, jnp.int32(chunk.steps), shape=chunk.shape, prelude=prelude
            )
            self.profile.after(chunk.steps)
            if waiting is not None:
                self.look_at(*waiting)
            waiting = chunk, scalars, prelude
            done += chunk.steps
            due = config.checkpoint_steps and done - saved >= config.checkpoint_steps
            leaving = self._asked_to_stop()
            if due or leaving:
                self.look_at(*waiting)
                self.check_parameters(chunk)
                waiting, saved = None, done
                self.watch.add_to(progress)
                self.save()
            if leaving:
                raise self.stop.after_saving(self.folder.path)
        if waiting is not None:
            self.look_at(*waiting)
            self.check_parameters(waiting[0])
        self.watch.add_to(progress)
        self.profile.stop(self.state)

    def open_epoch(self) -> list[tuple[Chunk, bool]]:
        """Begins an epoch, or goes on in the one that a checkpoint stands in.

        Returns:
          The chunks that are left of it, and whether each is the prelude's.
        """
        config, place = self.config.train, self.progress.batch
        opening, batches = self._batches()
        self.display.start_epoch(self.progress.epoch + 1, config.epochs, len(batches), place)
        if self.config.model.compat and not place:
            self.state = self.state.replace(opt_state=drop_accumulated(self.state.opt_state))
        self.profile.start_epoch(last=self.progress.epoch + 1 == config.epochs)
        self.watch.start()
        cut = self.setup.train_plan.chunks
        prelude, proper = cut(batches[place:opening]), cut(batches[max(place, opening) :])
        return [(chunk, True) for chunk in prelude] + [(chunk, False) for chunk in proper]

    def _batches(self) -> tuple[int, list[Step]]:
        """The batches of the epoch under way, and how many of them, in front, are the prelude's."""
        plan, prelude = self.setup.train_plan, self.setup.programs.learner.objective.prelude
        batches = plan.order(self.config.train.seed, self.progress.epoch, self.config.data.group_by_length)
        opening = math.ceil(prelude.share * len(batches)) if prelude else 0
        return opening, batches[:opening] + batches

    def _asked_to_stop(self) -> bool:
        # Several processes must agree on where to stop. JAX picks the next count that all of them will
        # ask for, which must therefore rise by one.
        if jax.process_count() > 1:
            self._asked += 1
            return self.checkpoints.reached_preemption(self._asked)
        return self.stop.number is not None

    def look_at(self, chunk: Chunk, scalars: Mapping[str, jax.Array], prelude: bool) -> None:
        """Adds a finished chunk to the epoch's sums and stops the run if its loss is not finite."""
        host = {k: np.asarray(v, np.float64)[: chunk.steps] for k, v in scalars.items()}
        bad = np.flatnonzero(~np.isfinite(host["loss"]))
        if bad.size:
            self._stop_at(
                chunk, int(bad[0]), self.progress.batch + int(bad[0]) + 1, "the loss is not finite at"
            )
        add_steps(self.progress, host, prelude)
        self.progress.batch += chunk.steps
        self.display.advance(chunk.steps, int(host["weight"].sum()), float(host["loss"][-1]))

    def check_parameters(self, chunk: Chunk) -> None:
        """Stops the run if the step that ended ``chunk`` left parameters that are not finite.

        Within an epoch the next step's loss would tell; at its end, and before a checkpoint, none does.
        """
        if not self.setup.programs.all_finite(self.state):
            what = "the parameters are not finite after"
            self._stop_at(chunk, chunk.steps - 1, self.progress.batch, what)

    def _stop_at(self, chunk: Chunk, row: int, batch: int, what: str) -> NoReturn:
        """Says what happened in the chunk's step ``row``, the epoch's batch ``batch`` (from 1)."""
        rows = chunk.index[row][chunk.weight[row] > 0]
        clips = ", ".join(self.dataset.splits["train"].ids[rows])
        step = self.progress.epoch * len(self._batches()[1]) + batch
        raise RunError(
            f"{what} step {step} (epoch {self.progress.epoch + 1}) on the clips {clips}; {self._way_out()}"
        )

    def _way_out(self) -> str:
        """What is saved, and what to do where numbers went out of bounds."""
        latest, elsewhere = self.checkpoints.step, ""
        kept = "there is no checkpoint yet"
        if latest is not None:
            kept, elsewhere = f"the last good checkpoint is step {latest}", " in another --workdir"
        return (
            f"{kept}. Lower train.learning_rate, set train.clip_norm, or try "
            f"data.feature_norm=zscore_train{elsewhere}."
        )

    def _watch_test(self) -> dict[str, float] | None:
        """The test scores now, for the record alone; None where they are not watched."""
        if not self.config.train.watch_test:
            return None
        try:
            return self.evaluate("test")["scores"]
        except RunError:  # predictions that are not finite stop no training that would go on unwatched
            return {}

    def end_epoch(self, valid: dict[str, float], test: dict[str, float] | None) -> None:
        """Records the epoch, keeps the best model, decides whether to go on, and saves."""
        config, progress = self.config.train, self.progress
        self._count_time()
        row = end_of_epoch(progress, int(self.state.step), self._learning_rates(), valid, test)
        improved = self._keep_if_best(valid[config.monitor])
        self._lower_rate(improved)
        progress.finished = self._is_over()
        self.save()
        if improved:
            self.keep_best()
        if jax.process_index() == 0:
            self.folder.write_history(progress.history)
        self.trackers.log(row)
        self.display.end_epoch(row, config.monitor, improved)

    def _learning_rates(self) -> dict[str, float]:
        """The rate of each group in the last update of the epoch that ends now."""
        an_epoch = self.setup.train_plan.steps()
        steps = (self.progress.epoch + 1) * an_epoch
        rates = rates_after(self.config.train, an_epoch, self.setup.groups, steps)
        return {name: rate * float(self.state.rate_scale) for name, rate in rates.items()}

    def _keep_if_best(self, score: float) -> bool:
        progress, config = self.progress, self.config.train
        sign = 1 if config.monitor in metrics.LOWER_IS_BETTER else -1
        gain = math.inf if progress.best_score is None else sign * (progress.best_score - score)
        # The first epoch always counts, so that there is a model to evaluate.
        if progress.best_epoch and not gain > config.min_delta:
            progress.stale += 1
            return False
        progress.best_score = score if math.isfinite(score) else None
        progress.best_epoch, progress.stale = progress.epoch, 0
        self.best = best_of(self.state)
        return True

    def _lower_rate(self, improved: bool) -> None:
        """The plateau schedule: after enough epochs without improvement the rate falls."""
        progress, config = self.progress, self.config.train
        progress.plateau = 0 if improved else progress.plateau + 1
        if config.schedule == "plateau" and progress.plateau > config.plateau_patience:
            progress.plateau = 0
            scale = self.state.rate_scale * config.plateau_factor
            self.state = self.state.replace(rate_scale=scale)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += (now - self._since) * self.share
        self._since = now

    def save(self) -> None:
        """Writes a checkpoint in the background."""
        self._count_time()
        self.checkpoints.save(self.state, self.best, self.progress)

    def evaluate(self, split: str) -> dict[str, Any]:
        """Predicts a split with the current parameters.

        Returns:
          "predictions" {task: float32 [N], or logits [N, C]}, "fusion" [N, F], and "scores": the
          metrics, "loss" and the objective's parts, each summed over clips and then divided.
        """
        source, plan = self.setup.sources[split], self.setup.eval_plans[split]
        outs = [
            (chunk, self.setup.programs.predict_chunk(self.state, source.table, items, shape=chunk.shape))
            for chunk, items in source.items(plan.once())
        ]
        return self.scored(split, outs)

    def scored(self, split: str, outs: Sequence[tuple[Chunk, Any]]) -> dict[str, Any]:
        """What :meth:`evaluate` returns, from the chunks of a split and what was predicted for them."""
        clips = self.dataset.splits[split]
        arrays, losses = gather(clips, outs)
        fusion = arrays.pop("fusion vector")
        wrong = ~np.isfinite(arrays["M"]).reshape(len(clips), -1).all(axis=1)
        if wrong.any():
            raise RunError(
                f"after step {int(self.state.step)} the predictions for {wrong.sum()} clips of the split "
                f"{split!r}, {clips.ids[wrong][0]} the first, are not finite; {self._way_out()}"
            )
        scores = scores_of(self.config, self.dataset.spec, arrays["M"], clips.labels["M"])
        return {"predictions": arrays, "fusion": fusion, "scores": {**scores, **losses}}

    def finish(self) -> dict[str, Any]:
        """Evaluates the best epoch on all splits that the run may see, and writes the run's files."""
        self.state = with_best(self.state, self.best)
        return self.write({name: self.evaluate(name) for name in self.dataset.splits})

    def write(self, evaluated: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Writes what the best epoch predicts.

        Args:
          evaluated: split -> what :meth:`evaluate` returns.

        Returns:
          What ``result.json`` holds.
        """
        result = {
            **{name: evaluated[name]["scores"] for name in ("test", "valid") if name in evaluated},
            "best_epoch": self.progress.best_epoch,
            "seconds": round(self.progress.seconds, 3),
            "parameters": count_parameters(self.state.params),
            "best_reachable": dict(self.dataset.best_reachable),
        }
        if self.config.train.watch_test and self.progress.history:  # imported weights have none
            result[watched.RESULT] = watched.best_test_epoch(self.progress.history, self.config.train.monitor)
        if jax.process_index() == 0:
            predictions = {name: e["predictions"] for name, e in evaluated.items()}
            names = self.dataset.spec.class_names
            self.folder.write_predictions(self.dataset.splits, predictions, names)
            if "test" in evaluated:
                label = self.dataset.splits["test"].labels["M"]
                self.folder.write_features(evaluated["test"]["fusion"], label)
            self.folder.write_result(result)
        return result
