"""A process that trains cells one after another, as the study's own process asks.

It reads a line of JSON per task from the standard input, a list of cells {"name", "config", "folder", "log"},
and answers on the standard output: first {"backend"}, then {"name", "error"} for each cell, "" where it is
done. Several cells in a list are seeds of one configuration, which one program trains. What training says
goes to the (first) cell's log. The programs of one cell serve the next of like shape by way of the
folder of compiled programs.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from msa_jax.studies.quick_compile import QUICK


def main(argv: list[str]) -> None:
    """Serves until the input ends, or the study's process is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", default="", help="the cores to use, such as 0,2; all by default")
    parser.add_argument("--compile-cache", default="")
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        help="seconds to wait where another process holds a cell's folder",
    )
    parser.add_argument(
        "--quick-compile", action="store_true", help="compile without optimising, for runs of seconds"
    )
    arguments = parser.parse_args(argv)
    if arguments.quick_compile:  # before JAX starts
        os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"
    everywhere = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if arguments.cores and everywhere:
        # Before JAX starts: it makes as many threads as there are cores for it.
        os.sched_setaffinity(0, [int(core) for core in arguments.cores.split(",")])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints
    sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)  # pyright: ignore
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the study's process too, which passes it on
    _end_with(os.getppid())
    import jax

    from msa_jax.training import build

    build.use_compile_cache(arguments.compile_cache)
    # Small programs too: a study compiles each of them once for all seeds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if everywhere and jax.default_backend() != "cpu":  # no other process trains beside this one
        os.sched_setaffinity(0, everywhere)
    print(json.dumps({"backend": jax.default_backend()}), file=answers)
    for line in sys.stdin:
        for name, error in train(json.loads(line), arguments.patience).items():
            print(json.dumps({"name": name, "error": error}), file=answers)
        jax.clear_caches()  # what the next cell shares with this one is on disk


def train(cells: list[dict[str, Any]], patience: float) -> dict[str, str]:
    """Trains the cells of one task; what they and the libraries say goes to the first one's log.

    Args:
      cells: seeds of one configuration.
      patience: seconds to wait where another process holds a folder: one that is about to end, perhaps.

    Returns:
      name -> "" if it is done, else one sentence.
    """
    from msa_jax.errors import Interrupted, MsaJaxError

    log = cells[0]["log"]
    for other in cells[1:]:
        pathlib.Path(other["log"]).write_text(f"trained together with {cells[0]['name']}; see {log}.\n")
    with _printing_to(log):
        try:
            return _trained_in_the_end(cells, patience)
        except Interrupted as stopped:
            print(stopped)
            sys.exit(stopped.exit_code)
        except MsaJaxError as error:
            print(f"error: {error}")
            said = str(error)
        except Exception as error:  # a fault of ours must not take the other cells along
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}; {log} has the traceback."
    return {cell["name"]: said for cell in cells}


def _trained_in_the_end(cells: list[dict[str, Any]], patience: float) -> dict[str, str]:
    from msa_jax.errors import FolderBusyError

    end = time.monotonic() + patience
    while True:
        try:
            return _trained(cells)
        except FolderBusyError:
            if time.monotonic() >= end:
                raise
            time.sleep(1.0)


def _trained(cells: list[dict[str, Any]]) -> dict[str, str]:
    from msa_jax import configuration
    from msa_jax.training.loop import train_and_evaluate
    from msa_jax.training.seeds import train_seeds

    configs = [configuration.from_json(cell["config"]) for cell in cells]
    if len(cells) == 1:
        train_and_evaluate(configs[0], cells[0]["folder"])
        return {cells[0]["name"]: ""}
    seeds = [config.train.seed for config in configs]
    folders = {seed: cell["folder"] for seed, cell in zip(seeds, cells, strict=True)}
    ended = train_seeds(configs[0], folders)
    for seed, error in ended.items():
        if error:
            print(f"error: seed {seed}: {error}")
    return {cell["name"]: ended[seed] for seed, cell in zip(seeds, cells, strict=True)}


@contextlib.contextmanager
def _printing_to(log: str) -> Iterator[None]:
    """Within it both outputs are the file, also for libraries that took hold of them before."""
    before = [os.dup(number) for number in (1, 2)]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
        for number in (*before, descriptor):
            os.close(number)


def _end_with(parent: int) -> None:
    """Stops this process, as SIGTERM does, once the study's process is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
