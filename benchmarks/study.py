"""What several seeds in one program cost, in single trainings, as one JSON object.

    python benchmarks/study.py --models=tfn,mfn --seeds=5 --json

A configuration is trained for a few epochs with one seed and then with several at once, each in a process of
its own. "cost" is the time of a step of all of them over that of a step of one, in the epochs after the
first, which compiles: at the number of seeds one program is as fast as training them in turn, below it is
faster. Validation is not part of it, nor is compiling, which one program does once.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax

from msa_jax import configuration, messages
from msa_jax.errors import run_command
from msa_jax.training.loop import train_and_evaluate
from msa_jax.training.seeds import train_seeds


def step_seconds(config: configuration.Config, seeds: int) -> float:
    """Median seconds of a step in the epochs after the first, of all seeds together."""
    with tempfile.TemporaryDirectory() as folder, messages.silenced():
        folders = {1111 + k: pathlib.Path(folder) / str(k) for k in range(seeds)}
        if seeds == 1:
            train_and_evaluate(config, folders[1111])
        elif failed := [error for error in train_seeds(config, folders).values() if error]:
            raise SystemExit(failed[0])
        lines = (folders[1111] / "metrics.jsonl").read_text().splitlines()
    return statistics.median(json.loads(line)["step_seconds"] for line in lines[1:])


def measure_one(argument: str, seeds: int, epochs: int) -> dict[str, Any]:
    """One configuration with so many seeds, in this process."""
    settings = [f"train.epochs={epochs}", "train.patience=0"]
    config = configuration.load(argument, settings)
    return {"step_seconds": step_seconds(config, seeds), "device": jax.devices()[0].device_kind}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", default="configs/synthetic.py", help="configuration of the data")
    parser.add_argument("--models", default="lf_dnn,tfn,mfn,mult", help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=5, help="at once")
    parser.add_argument("--epochs", type=int, default=4, help="at least 2; the first is not counted")
    parser.add_argument("--one", default="", help="PATH.py:ARGUMENT, measured in this process")
    parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.one:
        json.dump(measure_one(arguments.one, arguments.seeds, arguments.epochs), sys.stdout)
        return
    report: dict[str, Any] = {}
    for model in arguments.models.split(","):
        found = {}
        for seeds in (1, arguments.seeds):
            flags = [f"--one={arguments.config}:{model}", f"--seeds={seeds}", f"--epochs={arguments.epochs}"]
            command = [sys.executable, __file__, *flags]
            found[seeds] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        one, all_of_them = (found[seeds]["step_seconds"] for seeds in (1, arguments.seeds))
        report[model] = {
            "step_seconds": one,
            f"step_seconds_{arguments.seeds}": all_of_them,
            "cost": all_of_them / one,
            "device": found[1]["device"],
        }
        print(model, f"{all_of_them / one:.2f}", file=sys.stderr, flush=True)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    run_command(main)
