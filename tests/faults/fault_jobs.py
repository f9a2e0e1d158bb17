"""The commands that a fault campaign interrupts: how each is started, and what must be the same after."""

import csv
import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import encoder_files
import numpy as np

from msa_jax.data import store
from msa_jax.data.synthetic import generate
from msa_jax.media.collect import write_pickle
from msa_jax.studies.quick_compile import QUICK

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: A run of seconds with many places to be killed at.
TRAIN = (
    "--config=configs/synthetic.py:lf_dnn,tiny",
    "--config.train.epochs=8",
    "--config.train.patience=0",
    "--config.train.checkpoint_steps=2",
    "--config.data.buckets=1",
    "--config.train.chunk_steps=2",
)
STUDY = """
from msa_jax.studies.grid import Study, grid, models, read_argument, seeds

def get_study(argument=""):
    data = read_argument(argument, data=("synthetic",)).data
    cells = grid(data, models("lf_dnn", "lmf"), seeds(2), tiny=True, settings={"train.epochs": 4})
    return Study(title="Killed", cells=cells)
"""
SPACE = """
from msa_jax.tuning.space import Number, Space

def get_space(argument=""):
    return Space({"model.post_dropout": Number(0, 0.5)})
"""
#: Columns and keys that say how long something took or when it was, which nobody can repeat.
TIMES = ("seconds", "step_seconds", "samples_per_second", "started", "ended", "time", "when")


class Job(NamedTuple):
    """A command under test.

    Attributes:
      name: of it.
      prepare: makes what it reads, in a folder.
      arguments: of ``python -m msa_jax``, from the folder that holds what it reads and the place it makes.
      outcome: what must not depend on kills, from that place.
      needs: packages without which it cannot be run.
    """

    name: str
    prepare: Callable[[pathlib.Path], None]
    arguments: Callable[[pathlib.Path, pathlib.Path], list[str]]
    outcome: Callable[[pathlib.Path], Any]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def start(arguments: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own, one device, compiled quickly."""
    settings = {**os.environ, "XLA_FLAGS": QUICK, "PYTHONPATH": str(ROOT), **(environment or {})}
    command = [sys.executable, "-m", "msa_jax", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=settings, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], seconds: float = 900) -> tuple[int, str]:
    """Exit status and everything said."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: pathlib.Path) -> dict[str, str]:
    """Digest of every file under a folder, by its place; hidden ones left out."""
    places = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        str(p.relative_to(folder)): digest(p)
        for p in places
        if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


def outcome_of_run(run: pathlib.Path) -> dict[str, Any]:
    """Predictions, the digest of the last checkpoint's arrays, the best model, the rows of all epochs."""
    numbers = [int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
    last = run / "checkpoints" / str(max(numbers)) / "meta" / "metadata"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "predictions.csv": digest(run / "predictions.csv"),
        "checkpoint": json.loads(last.read_text())["digest"],
        "best": digest(run / "best" / "model.safetensors"),
        "metrics.jsonl": [without_times(row) for row in rows],
        "result.json": without_times(json.loads((run / "result.json").read_text())),
    }


def without_times(value: Any) -> Any:
    """JSON without :data:`TIMES`."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def table_without_times(path: pathlib.Path) -> list[dict[str, str]]:
    """A CSV's rows without :data:`TIMES`."""
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def outcome_of_study(folder: pathlib.Path) -> dict[str, Any]:
    """The table of all cells, and every cell's predictions."""
    cells = sorted((folder / "cells").iterdir())
    return {
        "table.csv": table_without_times(folder / "table.csv"),
        **{cell.name: digest(cell / "predictions.csv") for cell in cells},
    }


def outcome_of_tuning(folder: pathlib.Path) -> dict[str, Any]:
    """The trials with their scores, and the winner's predictions."""
    cells = sorted((folder / "study" / "cells").iterdir())
    return {
        "trials.csv": table_without_times(folder / "trials.csv"),
        "best.json": without_times(json.loads((folder / "best.json").read_text())),
        **{cell.name: digest(cell / "predictions.csv") for cell in cells},
    }


def outcome_of_store(folder: pathlib.Path) -> dict[str, str]:
    """All arrays of a store, read back and verified against its digests."""
    dataset = store.read(folder, verify=True)
    found = {}
    for name, split in dataset.splits.items():
        for m, values in split.values.items():
            found[f"{name} {m}"] = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        found[f"{name} ids"] = hashlib.sha256(repr(list(split.ids)).encode()).hexdigest()
    return found


def write_features(folder: pathlib.Path) -> None:
    """A feature file of some 60 MB, as msa-jax convert reads it."""
    counts, widths = {"train": 900, "valid": 50, "test": 50}, {"text": 64, "audio": 32, "vision": 32}
    write_pickle(generate(0, counts, widths), folder / "data.pkl", is_aligned=False)


def write_sounds(folder: pathlib.Path) -> None:
    """Twelve clips of two seconds with a tone each, their manifest, and a small encoder."""
    encoder_files.folder(folder / "encoder")
    time = np.arange(2 * 16000) / 16000
    rows = ["clip,id,transcript,label,split"]
    for i in range(12):
        samples = (3000 * np.sin(2 * np.pi * (200 + 30 * i) * time)).astype("<i2")
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(samples.tobytes())
        split = ("train", "train", "valid", "test")[i % 4]
        rows.append(f"{i}.wav,clip{i}$_$0,words of clip {i},{(i % 7) - 3},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def write_file(name: str, text: str) -> Callable[[pathlib.Path], None]:
    """A preparation that writes one file."""
    return lambda folder: (folder / name).write_text(text) and None


def train_once(folder: pathlib.Path) -> None:
    """A finished run, as msa-jax export reads it."""
    code, said = finish(start(["train", *TRAIN, f"--workdir={folder / 'run'}"]))
    if code:
        raise RuntimeError(said)


def _nothing(_folder: pathlib.Path) -> None:
    pass


JOBS = {
    "train": Job(
        "train", _nothing, lambda _, out: ["train", *TRAIN, f"--workdir={out}"], outcome_of_run
    ),
    "study": Job(
        "study",
        write_file("study.py", STUDY),
        lambda made, out: ["study", f"--study={made / 'study.py'}", f"--workdir={out}", "--processes=2"],
        outcome_of_study,
    ),
    "tune": Job(
        "tune",
        write_file("space.py", SPACE),
        lambda made, out: [
            "tune", "--config=configs/synthetic.py:lf_dnn,tiny", f"--space={made / 'space.py'}",
            f"--workdir={out}", "--trials=3", "--seeds=1", "--config.train.epochs=4",
        ],
        outcome_of_tuning,
    ),
    "convert": Job(
        "convert",
        write_features,
        lambda made, out: ["convert", str(made / "data.pkl"), str(out)],
        outcome_of_store,
    ),
    "extract": Job(
        "extract",
        write_sounds,
        lambda made, out: [
            "extract", str(made / "manifest.csv"), f"--out={out}", "--audio=librosa33", "--vision=none",
            f"--encoder={made / 'encoder'}",
        ],
        outcome_of_store,
        needs=("av", "librosa", "tokenizers"),
    ),
    "export": Job(
        "export",
        train_once,
        lambda made, out: ["export", f"--workdir={made / 'run'}", "--format=stablehlo", f"--out={out}"],
        files_of,
    ),
}  # fmt: skip
