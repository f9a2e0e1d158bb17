"""How fast one configuration trains here, and what share of the machine's matrix speed it reaches.

    python benchmarks/train_throughput.py --config=configs/synthetic.py --json

Everything is measured in this one process: the time to the first finished step (data, compilation),
then whole epochs at steady state, then a large matrix product as the machine's peak.
"""

import time

START = time.perf_counter()

import argparse  # noqa: E402  (the clock starts before the imports, which are part of the first step)
import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from msa_jax import configuration  # noqa: E402
from msa_jax.data.batch import example_batch  # noqa: E402
from msa_jax.data.dataset import Dataset  # noqa: E402
from msa_jax.data.opening import load_dataset  # noqa: E402
from msa_jax.errors import run_command  # noqa: E402
from msa_jax.summary.operations import count_macs  # noqa: E402
from msa_jax.training import build  # noqa: E402
from msa_jax.training.step import train_step  # noqa: E402


def matmul_peak(size: int = 2048, repeats: int = 8) -> float:
    """FLOP/s of a float32 matrix product of this size, the best of a few tries."""
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        product(x).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def run_epoch(ready: build.Setup, state: Any, seed: int, epoch: int, grouped: bool) -> tuple[Any, float]:
    """Trains for an epoch; returns the state and the seconds until the device was done."""
    source = ready.sources["train"]
    chunks = ready.train_plan.epoch(seed, epoch, grouped)
    began = time.perf_counter()
    for chunk, items in source.items(chunks):
        steps = jnp.int32(chunk.steps)
        state, _ = ready.programs.train_chunk(state, source.table, items, steps, shape=chunk.shape)
    jax.block_until_ready(state)
    return state, time.perf_counter() - began


def compile_all(ready: build.Setup, seed: int, grouped: bool) -> tuple[Any, float, float]:
    """Runs one chunk of every shape twice; the difference is the compilation.

    Returns:
      The state, seconds of compilation over all shapes, and the clock after the first chunk.
    """
    state, source, compiling, first = ready.state, ready.sources["train"], 0.0, 0.0
    chunks = {c.shape: c for c in ready.train_plan.epoch(seed, 0, grouped)}
    for shape, chunk in chunks.items():
        took = []
        for _ in range(2):
            items = next(iter(source.items([chunk])))[1]
            began = time.perf_counter()
            steps = jnp.int32(chunk.steps)
            state, _ = ready.programs.train_chunk(state, source.table, items, steps, shape=shape)
            jax.block_until_ready(state)
            first = first or time.perf_counter()
            took.append(time.perf_counter() - began)
        compiling += took[0] - took[1]
    return state, compiling, first


def epoch_flops(ready: build.Setup, spec: Any, seed: int, grouped: bool) -> float:
    """Floating-point operations of one epoch's training steps, counted in the program itself."""
    learner, total = ready.programs.learner, 0.0
    for shape in ready.train_plan.shapes:
        batch = example_batch(spec, ready.train_plan.rows, shape)
        macs = count_macs(lambda s, b: train_step(learner, s, b), ready.state, batch)
        chunks = ready.train_plan.epoch(seed, 0, grouped)
        total += 2.0 * macs * sum(c.steps for c in chunks if c.shape == shape)
    return total


def measure(config: configuration.Config, stored: Dataset, epochs: int) -> dict[str, Any]:
    """The figures of training on a data set, as a dictionary ready for JSON."""
    loaded = time.perf_counter()
    dataset = build.prepare(config, stored)
    ready = build.build(config, dataset)
    built = time.perf_counter()
    grouped, seed = config.data.group_by_length, config.train.seed
    state, compile_seconds, first_step = compile_all(ready, seed, grouped)
    state, _ = run_epoch(ready, state, seed, 0, grouped)
    clips = len(dataset.splits["train"])
    seconds = []
    for epoch in range(1, epochs + 1):
        state, took = run_epoch(ready, state, seed, epoch, grouped)
        seconds.append(took)
    peak, flops = matmul_peak(), epoch_flops(ready, dataset.spec, seed, grouped)
    steady = min(seconds)
    return {
        "config": f"{config.model.name} on {dataset.spec.name}",
        "batch_size": config.train.batch_size,
        "shapes": [list(s) for s in ready.train_plan.shapes],
        "samples_per_second": clips / steady,
        "samples_per_second_median_epoch": clips / sorted(seconds)[len(seconds) // 2],
        "seconds_load_data": loaded - START,
        "seconds_build": built - loaded,
        "seconds_compile": compile_seconds,
        "seconds_to_first_step": first_step - START,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "matmul_peak_gflops": peak / 1e9,
        "train_gflops": flops / steady / 1e9,
        "share_of_matmul_peak": flops / steady / peak,
        "devices": len(jax.devices()),
        "backend": jax.default_backend(),
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    configuration.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=3, help="epochs at steady state")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, config = configuration.parse_command(parser, argv)
    figures = measure(config, load_dataset(config.data), arguments.epochs)
    if arguments.json:
        json.dump(figures, sys.stdout, indent=1)
        print()
    else:
        for name, value in figures.items():
            print(f"{name:32s} {value:.4g}" if isinstance(value, float) else f"{name:32s} {value}")


if __name__ == "__main__":
    run_command(main)
