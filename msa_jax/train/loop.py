"""The training loop: epochs of chunks, validation, early stopping, checkpoints, and the final files."""

import contextlib
import math
import pathlib
import signal
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import metrics
from msa_jax.config import Config
from msa_jax.data.dataset import Dataset
from msa_jax.data.loader import Chunk
from msa_jax.data.opening import load_dataset
from msa_jax.errors import Interrupted, RunError
from msa_jax.train import build, pretrained, processes
from msa_jax.train.accumulate import drop_accumulated
from msa_jax.train.build import Setup
from msa_jax.train.checkpoint import Checkpoints, Progress, best_of, with_best
from msa_jax.train.display import Display
from msa_jax.train.optim import build_schedule
from msa_jax.train.run_folder import RunFolder
from msa_jax.train.state import TrainState, count_parameters

#: Validation scores of which less is better; of all others more is.
LOWER_IS_BETTER = ("loss", "mae")


def train_and_evaluate(config: Config, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains, or goes on with, the run in ``workdir`` and evaluates its best epoch.

    Returns:
      What ``result.json`` holds.

    Raises:
      MsaJaxError: for anything that the user can mend.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    first = jax.process_index() == 0
    display = Display(quiet=not first)
    with contextlib.ExitStack() as held:
        with processes.all_or_none():
            folder = RunFolder(workdir)
            if first:
                held.enter_context(folder.held())
            config = pretrained.with_sizes(config)
            stored = load_dataset(config.data)
            for note in stored.notes:
                display.say(f"note: {note}")
            dataset = build.prepare(config, stored)
            config = build.with_classes(config, dataset.spec)
            absent = metrics.left_out(stored.spec.metrics, stored.spec.label_range)
            if absent and config.model.task == "regression":
                display.say(f"note: {absent}")
            setup = build.build(config, dataset)
            if first:  # after all that a wrong setting can break, so that a mended one finds the folder free
                folder.claim(config, stored.spec, dataset.spec)
                if pretrained.has_folder(config.model):
                    folder.keep_tokenizer(config.model.encoder.folder)
        loop = Loop(config, dataset, folder, setup, display)
        try:
            loop.train()
            result = loop.finish()
        finally:
            loop.close()
    return result


class StopRequest:
    """Remembers SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C kills as usual.

    Of several processes one may get the signal alone, and all must stop at the same step. JAX sees
    to that by its own handler of SIGTERM, so Ctrl-C is handed on to it.
    """

    def __init__(self):
        self.asked = False
        self._previous = {}
        self._alone = jax.process_count() == 1
        for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: signals are somebody else's business
                break

    def _ask(self, number: int, _frame: Any) -> None:
        self.asked = True
        signal.signal(number, self._previous[number])
        if not self._alone:
            signal.raise_signal(signal.SIGTERM)

    def restore(self) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Loop:
    """One run from its last checkpoint (or its beginning) to its end."""

    def __init__(self, config: Config, dataset: Dataset, folder: RunFolder, setup: Setup, display: Display):
        # dataset: as build.prepare made it
        self.config, self.dataset, self.folder = config, dataset, folder
        self.setup, self.display = setup, display
        self.schedule = build_schedule(config.train, setup.train_plan.steps())
        self.state: TrainState = setup.state
        self.best = best_of(self.state)
        self.progress = Progress()
        self.checkpoints = Checkpoints(folder.path / "checkpoints", display.say)
        restored = self.checkpoints.restore(self.state, self.best)
        if restored is not None:
            self.state, self.best, self.progress = restored
            display.say(f"resuming at step {int(self.state.step)}, epoch {self.progress.epoch + 1}")
        self.stop, self._asked = StopRequest(), 0
        self._began = time.perf_counter() - self.progress.seconds
        self.events = self._open_events() if config.train.tensorboard and jax.process_index() == 0 else None

    def _open_events(self):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise RunError(
                "train.tensorboard needs the extra: pip install 'msa_jax[tensorboard]', or leave it off."
            ) from None
        # Epochs that were written after the checkpoint are taken back.
        return SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=self.progress.epoch + 1)

    def train(self) -> None:
        """Runs the epochs that are left."""
        if jax.process_index() == 0:
            self.folder.write_history(self.progress.history)
        while not self.progress.finished:
            self._train_epoch()
            self._end_epoch(self.evaluate("valid")["scores"])

    def _train_epoch(self) -> None:
        """One pass over the training split, from the chunk where the run stands.

        The host looks at a chunk's losses while the device works on the next one.
        """
        config, progress = self.config.train, self.progress
        opening, chunks = self._chunks()
        done = sum(c.steps for c in chunks[: progress.chunk])
        steps = sum(c.steps for c in chunks)
        self.display.start_epoch(progress.epoch + 1, config.epochs, steps, done)
        if self.config.model.compat and progress.chunk == 0:
            self.state = self.state.replace(opt_state=drop_accumulated(self.state.opt_state))
        source, waiting, saved = self.setup.sources["train"], None, done
        place = progress.chunk
        for number, (chunk, items) in enumerate(source.items(chunks[place:]), place):
            prelude = number < opening
            self.state, scalars = self.setup.programs.train_chunk(
                self.state, source.table, items, jnp.int32(chunk.steps), shape=chunk.shape, prelude=prelude
            )
            if waiting is not None:
                self._look_at(*waiting)
            waiting = chunk, scalars, prelude
            done += chunk.steps
            due = config.checkpoint_steps and done - saved >= config.checkpoint_steps
            leaving = self._asked_to_stop()
            if due or leaving:
                self._look_at(*waiting)
                waiting, saved = None, done
                self._save()
            if leaving:
                raise Interrupted(f"stopped and saved; the same command goes on with {self.folder.path}.")
        if waiting is not None:
            self._look_at(*waiting)

    def _chunks(self) -> tuple[int, list[Chunk]]:
        """The chunks of the epoch under way, and how many of them, in front, are the prelude's."""
        plan, prelude = self.setup.train_plan, self.setup.programs.learner.objective.prelude
        chunks = plan.epoch(self.config.train.seed, self.progress.epoch, self.config.data.group_by_length)
        opening = math.ceil(prelude.share * len(chunks)) if prelude else 0
        return opening, chunks[:opening] + chunks

    def _asked_to_stop(self) -> bool:
        # Several processes must agree on where to stop. JAX picks the next count that all of them will
        # ask for, which must therefore rise by one.
        if jax.process_count() > 1:
            self._asked += 1
            return self.checkpoints.reached_preemption(self._asked)
        return self.stop.asked

    def _look_at(self, chunk: Chunk, scalars: Mapping[str, jax.Array], prelude: bool) -> None:
        """Adds a finished chunk to the epoch's sums and stops the run if its loss is not finite."""
        host = {k: np.asarray(v, np.float64)[: chunk.steps] for k, v in scalars.items()}
        bad = np.flatnonzero(~np.isfinite(host["loss"]))
        if bad.size:
            self._stop_at(chunk, int(bad[0]))
        weight, sums = host.pop("weight"), self.progress.sums
        prefix = "prelude_" if prelude else ""
        for name, value in host.items():
            sums[prefix + name] = sums.get(prefix + name, 0.0) + float((value * weight).sum())
        sums[prefix + "weight"] = sums.get(prefix + "weight", 0.0) + float(weight.sum())
        self.progress.chunk += 1
        self.display.advance(chunk.steps, int(weight.sum()), float(host["loss"][-1]))

    def _stop_at(self, chunk: Chunk, number: int) -> None:
        rows = chunk.index[number][chunk.weight[number] > 0]
        clips = ", ".join(self.dataset.splits["train"].ids[rows])
        _, chunks = self._chunks()
        step = self.progress.epoch * sum(c.steps for c in chunks)
        step += sum(c.steps for c in chunks[: self.progress.chunk]) + number + 1
        latest = self.checkpoints.latest_step()
        where = f"step {step} (epoch {self.progress.epoch + 1}) on the clips {clips}"
        kept = (
            "there is no checkpoint yet" if latest is None else f"the last good checkpoint is step {latest}"
        )
        raise RunError(
            f"the loss is not finite at {where}; {kept}. "
            "Lower train.learning_rate, set train.clip_norm, or try data.feature_norm=zscore_train."
        )

    def _end_epoch(self, valid: dict[str, float]) -> None:
        """Records the epoch, keeps the best model, decides whether to go on, and saves."""
        config, progress = self.config.train, self.progress
        sums = dict(progress.sums)
        weight = {"": sums.pop("weight"), "prelude_": sums.pop("prelude_weight", 1.0)}
        progress.seconds = time.perf_counter() - self._began
        progress.epoch += 1
        progress.chunk, progress.sums = 0, {}
        improved = self._keep_if_best(valid[config.monitor])
        row = {
            "epoch": progress.epoch,
            "step": int(self.state.step),
            "learning_rate": self._learning_rate(),
            "train": {k: v / weight["prelude_" if k.startswith("prelude_") else ""] for k, v in sums.items()},
            "valid": valid,
            "seconds": round(progress.seconds, 3),
        }
        progress.history.append(row)
        self._lower_rate(improved)
        worn_out = bool(config.patience) and progress.stale >= config.patience
        progress.finished = worn_out or progress.epoch >= config.epochs
        self._save()
        if jax.process_index() == 0:
            self.folder.write_history(progress.history)
        self._write_events(row)
        self.display.end_epoch(row, config.monitor, improved)

    def _learning_rate(self) -> float:
        """The rate of the last update of the epochs so far."""
        steps = self.progress.epoch * self.setup.train_plan.steps()
        updates = max(steps // self.config.train.accumulate, 1)
        return float(self.schedule(updates - 1) * self.state.rate_scale)

    def _keep_if_best(self, score: float) -> bool:
        progress, config = self.progress, self.config.train
        sign = 1 if config.monitor in LOWER_IS_BETTER else -1
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

    def _save(self) -> None:
        self.progress.seconds = time.perf_counter() - self._began
        self.checkpoints.save(self.state, self.best, self.progress)

    def _write_events(self, row: Mapping[str, Any]) -> None:
        if self.events is None:
            return
        for group in ("train", "valid"):
            for name, value in row[group].items():
                self.events.add_scalar(f"{group}/{name}", value, row["epoch"])
        self.events.add_scalar("learning_rate", row["learning_rate"], row["epoch"])
        self.events.flush()

    def evaluate(self, split: str) -> dict[str, Any]:
        """Predicts a split with the current parameters.

        Returns:
          "predictions" {task: float32 [N], or logits [N, C]}, "fusion" [N, F], and "scores": the
          metrics, "loss" and the objective's parts, each summed over clips and then divided.
        """
        clips = self.dataset.splits[split]
        source, plan = self.setup.sources[split], self.setup.eval_plans[split]
        outs = [
            (chunk, self.setup.programs.predict_chunk(self.state, source.table, items, shape=chunk.shape))
            for chunk, items in source.items(plan.once())
        ]
        arrays: dict[str, np.ndarray] = {}
        sums: dict[str, float] = {}
        for chunk, out in outs:
            rows, real = chunk.index[0], chunk.weight[0] > 0
            columns = {**out["predictions"], "fusion vector": out["fusion"]}
            for name, column in columns.items():
                column = np.asarray(column)
                array = arrays.setdefault(name, np.zeros((len(clips), *column.shape[1:]), np.float32))
                array[rows[real]] = column[real]
            parts = {k: float(v) for k, v in out["parts"].items()}
            weight = parts.pop("weight")
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value * weight
        fusion = arrays.pop("fusion vector")
        scores = self._scores(arrays["M"], clips.labels["M"])
        losses = {"loss" if k == "loss" else f"loss_{k}": v / len(clips) for k, v in sums.items()}
        return {"predictions": arrays, "fusion": fusion, "scores": {**scores, **losses}}

    def _scores(self, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
        if self.config.model.task == "classification":
            names = self.dataset.spec.class_names
            return metrics.classification_metrics(
                prediction, label.astype(np.int64), compat=True, names=names
            )
        spec = self.dataset.spec
        return metrics.regression_metrics(spec.metrics, prediction, label, spec.label_range)

    def finish(self) -> dict[str, Any]:
        """Evaluates the best epoch on all splits and writes the run's files."""
        self.state = with_best(self.state, self.best)
        evaluated = {name: self.evaluate(name) for name in self.dataset.splits}
        result = {
            "test": evaluated["test"]["scores"],
            "valid": evaluated["valid"]["scores"],
            "best_epoch": self.progress.best_epoch,
            "seconds": round(self.progress.seconds, 3),
            "parameters": count_parameters(self.state.params),
            "best_reachable": dict(self.dataset.best_reachable),
        }
        if jax.process_index() == 0:
            predictions = {name: e["predictions"] for name, e in evaluated.items()}
            names = self.dataset.spec.class_names
            self.folder.write_predictions(self.dataset.splits, predictions, names)
            label = self.dataset.splits["test"].labels["M"]
            self.folder.write_features(evaluated["test"]["fusion"], label)
            self.folder.write_result(result)
        return result

    def close(self) -> None:
        """Waits for the last save and gives signals back."""
        self.display.close_bar()
        self.stop.restore()
        self.checkpoints.close()
        if self.events is not None:
            self.events.close()
