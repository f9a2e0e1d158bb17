"""The files of a run: each is written whole or not at all."""

import contextlib
import csv
import io
import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from msa_jax import config as configuration
from msa_jax.config import Config
from msa_jax.data.dataset import Split
from msa_jax.data.spec import DatasetSpec
from msa_jax.data.tokenize import TOKENIZER_FILES
from msa_jax.errors import RunError
from msa_jax.files import write_whole

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

#: The configuration, the data set as it is stored, and as the model reads it.
CONFIG, SPEC, MODEL_SPEC = "config.json", "spec.json", "model_spec.json"
#: Folder with the vocabulary of the encoder that is trained along.
TOKENIZER = "tokenizer"


class RunFolder:
    """A run's folder: ``config.json``, ``spec.json``, ``model_spec.json``, ``metrics.jsonl``, ...

    Args:
      path: made if absent.

    Raises:
      RunError: if the folder cannot be made or written, before any training.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
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

        Raises:
          RunError: if another process trains in it now, or the lock is a file that cannot be written.
        """
        try:
            descriptor = os.open(self.path / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(
                f"cannot write {self.path / '.lock'}: {error.strerror}; choose another --workdir."
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise RunError(
                        f"another process trains in {self.path} now; let it end, or choose another --workdir."
                    ) from None
                except OSError:  # some network file systems have no locks
                    pass
            yield

    def claim(self, config: Config, stored: DatasetSpec, read: DatasetSpec) -> None:
        """Records what this folder trains, or checks that it is the same as before.

        Args:
          config: of the run.
          stored: the data set as it is stored.
          read: the data set as the model reads it.

        Raises:
          RunError: if the folder holds a run of another configuration or data set; the message
            lists the differences.
        """
        records = {CONFIG: configuration.to_json(config), SPEC: stored.to_json(), MODEL_SPEC: read.to_json()}
        for name, text in records.items():
            path = self.path / name
            if path.exists():
                self._check_same(path, text)
            else:
                write_whole(path, text.encode())

    def keep_tokenizer(self, folder: str | pathlib.Path) -> None:
        """Copies the files of an encoder's tokenizer, by which the run's model reads new transcripts."""
        target = self.path / TOKENIZER
        target.mkdir(exist_ok=True)
        for name in TOKENIZER_FILES:
            if (pathlib.Path(folder) / name).is_file():
                write_whole(target / name, (pathlib.Path(folder) / name).read_bytes())

    def _check_same(self, path: pathlib.Path, text: str) -> None:
        old = path.read_text()
        if old == text:
            return
        try:
            changes = configuration.difference(configuration.from_json(old), configuration.from_json(text))
        except ValueError:
            changes = ["the file is no readable JSON"]
        shown = [change if len(change) < 200 else change[:200] + "..." for change in changes[:20]]
        raise RunError(
            f"{self.path} holds a run with another {path.name}; "
            "use another --workdir, or the same settings:\n  " + "\n  ".join(shown)
        )

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """``metrics.jsonl``: one row per finished epoch."""
        rows = "".join(json.dumps(row) + "\n" for row in history)
        write_whole(self.path / "metrics.jsonl", rows.encode())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """``result.json``: test and validation metrics and how they came about."""
        write_whole(self.path / "result.json", json.dumps(result, indent=1).encode())

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
