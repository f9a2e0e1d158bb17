"""From a feature file as the MMSA project publishes it to scores: what each command costs.

    python benchmarks/public_layout.py --json [--model lf_dnn] [--epochs 2]
    python benchmarks/public_layout.py --write unaligned_50.pkl

The file has the keys, shapes and numbers of clips of CMU-MOSI's unaligned_50.pkl and random contents: text
features float32, sound and face float64, token ids int64, lengths as lists. Clips last 4 seconds in the
middle and 30 at most, with three words a second and sound and face in proportion, which is our assumption.
Commands run in processes of their own; the one that starts them stays small, because a child's
peak memory begins with its parent's.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

#: Steps and columns; clips.
SHAPES = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
COUNTS = {"train": 1284, "valid": 229, "test": 686}
LONGEST = 30.0  # seconds


def section(rng: Any, name: str, count: int) -> dict[str, Any]:
    """One split."""
    import numpy as np

    seconds = np.minimum(rng.lognormal(math.log(4.0), 0.6, count), LONGEST)
    lengths = {m: np.ceil(seconds / LONGEST * steps).astype(int) for m, (steps, _) in SHAPES.items()}
    lengths["text"] = np.minimum(2 + np.ceil(3 * seconds), SHAPES["text"][0]).astype(int)
    real = {m: np.arange(steps) < lengths[m][:, None] for m, (steps, _) in SHAPES.items()}
    labels = np.round(rng.uniform(-3, 3, count), 1)
    part: dict[str, Any] = {
        "raw_text": np.array([" ".join(["WORD"] * (length - 2)) for length in lengths["text"]]),
        "id": np.array([f"video{i // 24:03d}$_${i % 24}" for i in range(count)]),
        "annotations": [("Negative", "Neutral", "Positive")[int(np.sign(y)) + 1] for y in labels],
        "classification_labels": np.sign(labels) + 1,
        "regression_labels": labels,
        "audio_lengths": lengths["audio"].tolist(),
        "vision_lengths": lengths["vision"].tolist(),
    }
    part["id"] = np.char.add(f"{name}_", part["id"])
    for m, (steps, width) in SHAPES.items():
        values = rng.standard_normal((count, steps, width), dtype=np.float32) * real[m][:, :, None]
        part[m] = values if m == "text" else values.astype(np.float64)
    ids = np.where(real["text"], rng.integers(1996, 30522, real["text"].shape), 0)
    ids[:, 0] = 101
    ids[np.arange(count), lengths["text"] - 1] = 102
    part["text_bert"] = np.stack([ids, real["text"], np.zeros_like(ids)], axis=1)
    return part


def write(path: pathlib.Path) -> None:
    """Writes the file with pickle protocol 4, Python's default for years."""
    import pickle

    import numpy as np

    rng = np.random.default_rng(0)
    content = {name: section(rng, name, count) for name, count in COUNTS.items()}
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)


def measure(words: list[str]) -> dict[str, float]:
    """Runs a command to its end; returns its seconds and peak memory, and stops with it where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if process.returncode is None:
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {process.returncode}.")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    """Writes the file, or measures the commands on it."""
    parser = argparse.ArgumentParser(description="What the way from a published file to scores costs.")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="only write the file")
    parser.add_argument("--json", action="store_true", help="measure, and print JSON (the default)")
    parser.add_argument("--model", default="lf_dnn", help="of configs/mosi.py")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    if options.write:
        write(options.write)
        return
    with tempfile.TemporaryDirectory() as name:
        pickle, data, run = (f"{name}/{part}" for part in ("unaligned_50.pkl", "mosi", "run"))
        subprocess.run([sys.executable, __file__, "--write", pickle], check=True)
        train = [
            f"--config=configs/mosi.py:{options.model}",
            f"--config.data.path={data}",
            f"--workdir={run}",
        ]
        commands = {
            "check_data": ["-m", "msa_jax", "check-data", pickle],
            "convert": ["-m", "msa_jax", "convert", pickle, data],
            "main": ["-m", "msa_jax.main", *train, f"--config.train.epochs={options.epochs}"],
            "predict": ["-m", "msa_jax", "predict", f"--workdir={run}", f"--input={pickle}", "--split=test"],
        }
        figures = {command: measure(words) for command, words in commands.items()}
        size = round(pathlib.Path(pickle).stat().st_size / 1e6)
    print(
        json.dumps({"model": options.model, "epochs": options.epochs, "file_mb": size, **figures}, indent=1)
    )


if __name__ == "__main__":
    main()
