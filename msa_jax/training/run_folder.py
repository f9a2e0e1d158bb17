"""The files of a run: each is written whole or not at all."""

import contextlib
import csv
import datetime
import io
import json
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.data.dataset import Split
from msa_jax.data.spec import DatasetSpec
from msa_jax.data.vocabulary import TOKENIZER_FILES
from msa_jax.errors import DataError, FolderBusyError, RunError
from msa_jax.files import as_json, locked, write_whole
from msa_jax.training import changes

#: The configuration, the data set as it is stored, and as the model reads it.
CONFIG, SPEC, MODEL_SPEC = "config.json", "spec.json", "model_spec.json"
#: Folder with the vocabulary of the encoder that is trained along.
TOKENIZER = "tokenizer"
#: Folders of the training state, and of the best model (:mod:`msa_jax.training.best`).
CHECKPOINTS, BEST = "checkpoints", "best"
#: When which settings changed between two starts.
CHANGES = "config_history.jsonl"


class RunFolder:
    """A run's folder: ``config.json``, ``spec.json``, ``model_spec.json``, ``metrics.jsonl``, ...

    Args:
      path: made if absent.

    Raises:
      RunError: if the folder cannot be made or written, before any training.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror}; choose another --workdir.") from error
        probe = self.path / f".writable-{uuid.uuid4().hex}"  # several processes may try at once
        write_whole(probe, b"")
        probe.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from training in the folder; the system frees it when this one ends.

        If no run has been recorded by then, the folder is left as it was found: one that was made for it
        is taken away.

        Raises:
          FolderBusyError: if another process trains in it now.
          RunError: if the lock is a file that cannot be written.
        """
        lock = self.path / ".lock"
        new = not lock.exists()
        busy = FolderBusyError(
            f"another process trains in {self.path} now; let it end, or choose another --workdir."
        )
        with locked(lock, busy, "choose another --workdir"):
            try:
                yield
            finally:
                if new and not (self.path / CONFIG).exists():
                    lock.unlink(missing_ok=True)
                    self._take_away()

    def _take_away(self) -> None:
        """Removes what was made of the folder and those around it, as far as nothing is in them."""
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                return

    def _has_trained(self) -> bool:
        """Whether there is anything that another configuration would contradict."""
        saved = self.path / CHECKPOINTS
        numbered = saved.is_dir() and any(path.name.isdecimal() for path in saved.iterdir())
        return numbered or (self.path / BEST).exists() or (self.path / "result.json").exists()

    def claim(self, config: Config, stored: DatasetSpec, read: DatasetSpec) -> None:
        """Records what this folder trains, or checks that it is what it has trained so far.

        Settings that cannot change what was trained (:data:`msa_jax.training.changes.FREE`) may differ; they
        are recorded, with the time, in ``config_history.jsonl``.

        Args:
          config: of the run.
          stored: the data set as it is stored.
          read: the data set as the model reads it.

        Raises:
          RunError: if the folder holds a run of another configuration or data set; the message
            lists the differences.
        """
        specs = {SPEC: stored, MODEL_SPEC: read}
        records = {CONFIG: configuration.to_json(config), **{k: spec.to_json() for k, spec in specs.items()}}
        old = self._recorded() if self._has_trained() else {}
        if CONFIG in old:
            self._check_settings(configuration.from_json(old[CONFIG]), config)
        for name, spec in specs.items():
            if name in old:
                self._check_data(name, old[name], spec)
        if CONFIG in old and (changed := changes.between(configuration.from_json(old[CONFIG]), config)):
            self._note_changes(changed)
            del old[CONFIG]
        for name, text in records.items():
            if name not in old:
                write_whole(self.path / name, text.encode())

    def _recorded(self) -> dict[str, str]:
        """The three records, as far as they are there."""
        found = {}
        for name in (CONFIG, SPEC, MODEL_SPEC):
            if not (self.path / name).exists():
                continue
            try:
                found[name] = (self.path / name).read_text(encoding="utf-8")
                if not isinstance(json.loads(found[name]), dict):
                    raise ValueError("it holds no JSON object")
            except (OSError, ValueError) as error:
                raise RunError(
                    f"{self.path / name} cannot be read ({error!s:.100}); use another --workdir."
                ) from error
        return found

    def _check_settings(self, old: Config, new: Config) -> None:
        changed = changes.between(old, new)
        missing = "(absent)"
        refused = [
            f"{key}: {missing if a is None else repr(a)} -> {missing if b is None else repr(b)}"
            for key, (a, b) in changed.items()
            if key not in changes.FREE
        ]
        if refused:
            raise self._other(CONFIG, refused)
        if cause := changes.refused_epochs(old, new):
            raise RunError(f"{self.path}: {cause}; use another --workdir, or the same train.epochs.")

    def _check_data(self, name: str, old: str, new: DatasetSpec) -> None:
        try:
            before = json.loads(DatasetSpec.from_json(old).to_json())  # with fields that were added since
        except DataError as error:
            raise RunError(f"{self.path / name} cannot be read: {error}") from error
        after = json.loads(new.to_json())
        for record in (before, after):
            for part in record["recipe"].values():  # where a model lay changes no feature
                part.pop("provenance")
        if before != after:
            raise self._other(name, configuration.difference(before, after))

    def _other(self, name: str, differences: list[str]) -> RunError:
        shown = [line if len(line) < 200 else line[:200] + "..." for line in differences[:20]]
        return RunError(
            f"{self.path} holds a run with another {name}; "
            "use another --workdir, or the same settings:\n  " + "\n  ".join(shown)
        )

    def _note_changes(self, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Adds a line to the history of the configuration."""
        path, now = self.path / CHANGES, datetime.datetime.now(datetime.UTC)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        row = {"time": now.isoformat(timespec="seconds"), "changes": {k: list(v) for k, v in changed.items()}}
        write_whole(path, (before + as_json(row) + "\n").encode())

    def keep_tokenizer(self, folder: str | pathlib.Path) -> None:
        """Copies the files of an encoder's tokenizer, by which the run's model reads new transcripts."""
        target = self.path / TOKENIZER
        target.mkdir(exist_ok=True)
        for name in TOKENIZER_FILES:
            if (pathlib.Path(folder) / name).is_file():
                write_whole(target / name, (pathlib.Path(folder) / name).read_bytes())

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """``metrics.jsonl``: one row per finished epoch."""
        rows = "".join(as_json(row) + "\n" for row in history)
        write_whole(self.path / "metrics.jsonl", rows.encode())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """``result.json``: test and validation metrics and how they came about."""
        write_whole(self.path / "result.json", as_json(result, indent=1).encode())

    def write_predictions(
        self,
        splits: Mapping[str, Split],
        predictions: Mapping[str, Mapping[str, np.ndarray]],
        class_names: Sequence[str] = (),
    ) -> None:
        """``predictions.csv``: split, id, label, prediction, then each further task's prediction.

        Scores are written with the nine digits that make a float32 exact. Where predictions are
        logits [N, C], label and predictions are class numbers, and the logits of the final
        prediction follow as logit_0, logit_1, ..., then the names of the true and the predicted class.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        first = next(iter(predictions.values()))
        tasks = [t for t in first if t != "M"]
        n_logits = first["M"].shape[1] if first["M"].ndim == 2 else 0
        header = ["split", "id", "label", "prediction", *(f"prediction_{t}" for t in tasks)]
        header += [f"logit_{k}" for k in range(n_logits)]
        writer.writerow([*header, *(("class", "predicted_class") if n_logits else ())])
        for name, split in splits.items():
            final = predictions[name]["M"]
            columns = [split.labels["M"], *(_answer(predictions[name][t]) for t in ("M", *tasks))]
            columns += list(final.T) if n_logits else []
            named = (
                [np.asarray(class_names)[column.astype(int)] for column in columns[:2]] if n_logits else []
            )
            for row, clip in enumerate(split.ids):
                numbers = (f"{column[row]:.9g}" for column in columns)
                writer.writerow([name, clip, *numbers, *(column[row] for column in named)])
        write_whole(self.path / "predictions.csv", text.getvalue().encode())

    def write_features(self, fusion: np.ndarray, label: np.ndarray) -> None:
        """``features.npz``: the test split's fused features [N, F] and labels [N], for plots."""
        buffer = io.BytesIO()
        np.savez(buffer, fusion=fusion, label=label)
        write_whole(self.path / "features.npz", buffer.getvalue())


def _answer(prediction: np.ndarray) -> np.ndarray:
    """Scores [N] as they are; of logits [N, C] the class [N]."""
    return prediction if prediction.ndim == 1 else prediction.argmax(axis=1)
