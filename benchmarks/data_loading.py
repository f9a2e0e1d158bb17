"""What opening, converting and first reading of MOSEI-shaped features cost in time and memory.

    python benchmarks/data_loading.py --json [--clips 800] [--protocol 4]

Each phase runs in a process of its own, so that its peak memory is its own; the process that starts
them stays small, because a child's peak begins with its parent's. "ratio" is the growth of the peak
from after the imports, divided by the bytes of the features. Pages of memory-mapped files count as
memory here, although the system takes them back when it needs them.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

#: Steps and columns of CMU-MOSEI's unaligned features (text, audio, vision).
SHAPES = {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}
#: Shares of CMU-MOSEI's training, validation and test splits.
SHARES = {"train": 0.714, "valid": 0.082, "test": 0.204}
BATCH = 32


def make_pickle(folder: pathlib.Path, clips: int, protocol: int) -> int:
    """Writes the feature pickle and returns the bytes of its features."""
    import pickle

    import numpy as np

    rng = np.random.default_rng(0)
    content, size = {}, 0
    for name, share in SHARES.items():
        count = max(1, round(clips * share))
        lengths = {m: rng.integers(1, steps + 1, count) for m, (steps, _) in SHAPES.items()}
        masks = {m: np.arange(steps) < lengths[m][:, None] for m, (steps, _) in SHAPES.items()}
        part = {
            "id": [f"{name}{i}$_$0" for i in range(count)],
            "raw_text": [f"transcript of clip {i}" for i in range(count)],
            "regression_labels": rng.integers(-3, 4, count).astype(np.float32),
            "text_bert": np.stack([masks["text"]] * 3, axis=1).astype(np.float32),
            "audio_lengths": lengths["audio"].tolist(),
            "vision_lengths": lengths["vision"].tolist(),
        }
        for m, shape in SHAPES.items():
            part[m] = rng.standard_normal((count, *shape), dtype=np.float32)
            part[m] *= masks[m][:, :, None]
            size += part[m].nbytes
        content[name] = part
    with (folder / "mosei.pkl").open("wb") as file:
        pickle.dump(content, file, protocol=protocol)
    return size


def run_phase(phase: str, folder: pathlib.Path) -> dict[str, float]:
    """Runs one phase in this process; returns its seconds and the growth of the peak memory."""
    import numpy as np

    from msa_jax.commands import convert
    from msa_jax.data.opening import open_dataset

    phases = {
        "open_pickle": lambda: open_dataset(folder / "mosei.pkl"),
        "convert": lambda: convert.main([str(folder / "mosei.pkl"), str(folder / "store")]),
        "open_store": lambda: open_dataset(folder / "store"),
        "first_batch": lambda: read_batch(open_dataset(folder / "store").splits["train"]),
    }

    def read_batch(split) -> None:
        rows = np.random.default_rng(0).permutation(len(split))[:BATCH]
        for values in split.values.values():
            values[rows].sum()

    before, began = peak_bytes(), time.perf_counter()
    phases[phase]()
    return {"seconds": time.perf_counter() - began, "peak_bytes": peak_bytes() - before}


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(clips: int, protocol: int) -> dict:
    """Runs all phases, each in a child process, and returns the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def child(*words: str) -> list[str]:
            command = [sys.executable, __file__, "--folder", name, *words]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

        size = int(child("--phase", "make", "--clips", str(clips), "--protocol", str(protocol))[-1])
        result = {
            "clips": clips,
            "protocol": protocol,
            "array_bytes": size,
            "file_bytes": (folder / "mosei.pkl").stat().st_size,
            "phases": {},
        }
        for phase in ("open_pickle", "convert", "open_store", "first_batch"):
            facts = json.loads(child("--phase", phase)[-1])
            result["phases"][phase] = {**facts, "ratio": facts["peak_bytes"] / size}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of loading MOSEI-shaped features.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--clips", type=int, default=800, help="clips of all splits; the real file has 22856")
    parser.add_argument("--protocol", type=int, choices=(2, 3, 4, 5), default=4, help="of the pickle")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase == "make":
        print(make_pickle(options.folder, options.clips, options.protocol))
    elif options.phase:
        print(json.dumps(run_phase(options.phase, options.folder)))
    elif options.json:
        print(json.dumps(measure(options.clips, options.protocol)))
    else:
        result = measure(options.clips, options.protocol)
        print(f"{result['clips']} clips, {result['array_bytes'] / 1e6:.0f} MB of features")
        for phase, facts in result["phases"].items():
            print(f"{phase:12} {facts['seconds']:8.3f} s  peak {facts['ratio']:.3f} of the features")


if __name__ == "__main__":
    main()
