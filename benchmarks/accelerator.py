"""How fast every model trains on the device at hand, as one JSON object.

    python benchmarks/accelerator.py --json > benchmarks/results/CARD.json

512 generated clips of CMU-MOSI's or CMU-MOSEI's steps and columns (see zoo.py), with real lengths, the
published batches, float32 and bfloat16. Every measurement is a process of its own. They are compiled first,
by several processes at once into a folder that all share, then timed one after the other, so that nothing
else runs on the device; "seconds_compile" is what the first pass took. Beside each rate stand its share of
the device's float32 matrix peak, measured in the same process, and the device's peak memory.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import train_throughput
import zoo

from msa_jax import configuration, models
from msa_jax.errors import run_command
from msa_jax.training import pretrained

#: Stored steps and columns of text, audio, vision.
SHAPES = {
    "mosi": ({"text": 50, "audio": 375, "vision": 500}, {"text": 768, "audio": 5, "vision": 20}),
    "mosei": ({"text": 50, "audio": 500, "vision": 500}, {"text": 768, "audio": 74, "vision": 35}),
}
PRECISIONS = ("float32", "bfloat16")
#: A measurement: model, name of SHAPES, precision.
Case = tuple[str, str, str]


def settings_of(case: Case, tiny: bool) -> configuration.Config:
    """The model's published settings; a text encoder is untrained and has two layers."""
    model, shape, precision = case
    overrides = [f"train.precision={precision}"]
    argument = f"configs/{shape}.py:{model}" + (",tiny" if tiny else "")
    if not tiny and pretrained.is_tuned(configuration.load(argument).model):
        overrides += ["model.encoder.folder=random", "model.encoder.n_layers=2"]
    return configuration.load(argument, overrides)


def measure_one(case: Case, epochs: int, tiny: bool) -> dict[str, Any]:
    """One case, in this process."""
    lengths, widths = SHAPES[case[1]]
    if tiny:
        lengths, zoo.COUNTS = dict.fromkeys(lengths, 50), {"train": 16, "valid": 8, "test": 8}
    zoo.LENGTHS, zoo.WIDTHS = lengths, widths
    clips = zoo.clips(full=False)
    if tiny:  # whose encoder knows few tokens
        for split in clips.splits.values():
            assert split.tokens is not None
            split.tokens[:, 0] %= 64
    figures = train_throughput.measure(settings_of(case, tiny), clips, epochs)
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return figures | {
        "device": device.device_kind,
        "jax": jax.__version__,
        "peak_device_mib": memory / 2**20 if memory else None,
    }


def run_case(case: Case, epochs: int, tiny: bool, cache: str, until: float) -> dict[str, Any]:
    """One case in a process of its own; what went wrong instead of figures."""
    command = [sys.executable, __file__, f"--one={','.join(case)}", f"--epochs={epochs}"]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    left = until - time.monotonic()
    if left <= 0:
        return {"failed": "no time was left"}
    try:
        done = subprocess.run(
            command + (["--tiny"] if tiny else []),
            env=environment,
            capture_output=True,
            text=True,
            timeout=left,
        )
    except subprocess.TimeoutExpired:
        return {"failed": "it took longer than the time that was left"}
    return {"failed": done.stderr[-400:]} if done.returncode else json.loads(done.stdout)


def measure_all(cases: list[Case], epochs: int, tiny: bool, workers: int, seconds: float) -> dict[str, Any]:
    """Every case: compiled side by side, then timed alone."""
    until, report = time.monotonic() + seconds, {}
    with (
        tempfile.TemporaryDirectory() as cache,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        first = list(pool.map(lambda case: run_case(case, 1, tiny, cache, until), cases))
        for case, cold in zip(cases, first, strict=True):
            found = cold if "failed" in cold else run_case(case, epochs, tiny, cache, until)
            if "failed" not in found:
                found["seconds_compile"] = cold["seconds_compile"]
            report[" ".join(case)] = found
            print(*case, found.get("samples_per_second", found.get("failed")), file=sys.stderr, flush=True)
    return report


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", default=",".join(models.MODELS), help="names, with commas between")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="of SHAPES, with commas between")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="with commas between")
    parser.add_argument("--epochs", type=int, default=3, help="epochs at steady state")
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="that compile"
    )
    parser.add_argument(
        "--seconds", type=float, default=3600, help="cases that have not begun by then are left out"
    )
    parser.add_argument("--tiny", action="store_true", help="small widths and few clips, to try the script")
    parser.add_argument("--one", default="", help="MODEL,SHAPE,PRECISION: measure it in this process")
    parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.one:
        model, shape, precision = arguments.one.split(",")
        json.dump(measure_one((model, shape, precision), arguments.epochs, arguments.tiny), sys.stdout)
        return
    cases = [
        (model, shape, precision)
        for precision in arguments.precisions.split(",")
        for shape in arguments.shapes.split(",")
        for model in arguments.models.split(",")
    ]
    report = measure_all(cases, arguments.epochs, arguments.tiny, arguments.workers, arguments.seconds)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    run_command(main)
