"""A process that trains cells one after another, as the study's own process asks.

It reads a line of JSON per cell from the standard input, {"name", "config", "folder", "log"}, and answers
on the standard output: first {"backend"}, then {"name", "error"} for each cell, "" where it is done. What
training says goes to the cell's log. The programs of one cell serve the next of like shape by way of the
folder of compiled programs.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any


def main(argv: list[str]) -> None:
    """Serves until the input ends, or the study's process is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", default="", help="the cores to use, such as 0,2; all by default")
    parser.add_argument("--compile-cache", default="")
    arguments = parser.parse_args(argv)
    if arguments.cores and hasattr(os, "sched_setaffinity"):
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
    print(json.dumps({"backend": jax.default_backend()}), file=answers)
    for line in sys.stdin:
        job = json.loads(line)
        error = train(job)
        print(json.dumps({"name": job["name"], "error": error}), file=answers)
        jax.clear_caches()  # what the next cell shares with this one is on disk


def train(job: dict[str, Any]) -> str:
    """Trains one cell; what it and the libraries say goes to its log.

    Returns:
      "" if it is done, else one sentence.
    """
    from msa_jax import configuration
    from msa_jax.errors import Interrupted, MsaJaxError
    from msa_jax.training.loop import train_and_evaluate

    with _printing_to(job["log"]):
        try:
            train_and_evaluate(configuration.from_json(job["config"]), job["folder"])
        except Interrupted as stopped:
            print(stopped)
            sys.exit(stopped.exit_code)
        except MsaJaxError as error:
            print(f"error: {error}")
            return str(error)
        except Exception as error:  # a fault of ours must not take the other cells along
            traceback.print_exc()
            return f"{type(error).__name__}: {error}; {job['log']} has the traceback."
    return ""


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
