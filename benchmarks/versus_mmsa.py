"""The MMSA toolkit and this library by turns on the same clips, batches and epochs, as one JSON object.

    pip install "msa_jax[torch]" scikit-learn tqdm && pip install --no-deps MMSA
    python benchmarks/versus_mmsa.py --models=lf_dnn,tfn,lmf --seeds=5 --epochs=4 --json

Generated clips of CMU-MOSI's steps and columns with real lengths (see zoo.py), written once in the public
layout. Every training is a process of its own, and the two take turns, so that a machine that is now slower,
now faster, is so for both. The peer runs its own loader, model, trainer and metrics with its own settings for
CMU-MOSI; ours are the same settings (``configs/mosi.py:MODEL``). An epoch is training and validation. Of each
seed come the ratios peer : ours of the median epoch after the first, of the whole process with imports and
compilation, and of the peak memory; "five_seeds" is the time of all seeds one after the other.
"""

import argparse
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import pathlib
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Mapping
from typing import Any

from msa_jax.errors import run_command

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Our name -> the peer's module, and its name in the peer's settings.
PEERS = {"lf_dnn": "LF_DNN", "tfn": "TFN", "lmf": "LMF", "mult": "MULT"}


class Settings(dict):
    """The peer's settings: keys that are attributes as well."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


class _EnoughError(Exception):
    """The peer's trainer has done its epochs; it would go on until its patience ends."""


def write_clips(path: pathlib.Path) -> None:
    """The clips as a pickle in the public layout."""
    import numpy as np
    import zoo

    dataset, content = zoo.clips(full=False), {}
    for name, split in dataset.splits.items():
        padded = {}
        for m, values in split.values.items():
            mask = np.arange(values.shape[1]) < split.lengths[m][:, None]
            padded[m] = np.where(mask[:, :, None], values, 0).astype(np.float32)
        content[name] = {
            "id": [f"{name}{i}$_$0" for i in range(len(split))],
            "raw_text": [""] * len(split),
            **padded,
            "audio_lengths": split.lengths["audio"].tolist(),
            "vision_lengths": split.lengths["vision"].tolist(),
            "regression_labels": np.asarray(split.labels["M"], np.float32),
        }
    path.write_bytes(pickle.dumps(content, protocol=4))


def _package() -> pathlib.Path:
    """Makes the peer's files importable without its __init__, which asks for much that they do not need."""
    spec = importlib.util.find_spec("MMSA")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("MMSA is not installed: pip install --no-deps MMSA")
    root = pathlib.Path(spec.submodule_search_locations[0])
    for folder in ("", "models", "models/singleTask", "trains", "trains/singleTask", "utils"):
        name = ".".join(["MMSA", *filter(None, folder.split("/"))])
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(root / folder)]
    tools = sys.modules["MMSA.utils"]
    vars(tools).update(
        MetricsTop=importlib.import_module("MMSA.utils.metricsTop").MetricsTop,
        dict_to_str=lambda found: " ".join(f"{k}: {v:.4f}" for k, v in found.items()),
    )
    return root


def settings_of(root: pathlib.Path, model: str, data: pathlib.Path) -> Settings:
    """The peer's own settings of a model for CMU-MOSI, on a CPU."""
    stored = json.loads((root / "config" / "config_regression.json").read_text())
    name = PEERS[model].lower()
    parts = stored[name]
    settings = Settings(
        {
            "model_name": name,
            "dataset_name": "mosi",
            **stored["datasetCommonParams"]["mosi"]["unaligned"],
            **parts["commonParams"],
            **parts["datasetParams"]["mosi"],
        }
    )
    features = dict.fromkeys(("feature_T", "feature_A", "feature_V"), "")
    settings.update(custom_feature=str(data), train_mode="regression", device="cpu", cur_seed=1, **features)
    return settings


def run_peer(model: str, data: pathlib.Path, epochs: int, seed: int) -> dict[str, Any]:
    """One training by the peer's code, in this process."""
    began = time.perf_counter()
    import torch

    root = _package()
    torch.manual_seed(seed)
    settings = settings_of(root, model, data)
    settings["model_save_path"] = data.with_suffix(".pth")
    loader = importlib.import_module("MMSA.data_loader").MMDataLoader(settings, 0)
    name = PEERS[model]
    net = getattr(importlib.import_module(f"MMSA.models.singleTask.{name}"), name)(settings)
    module: Any = importlib.import_module(f"MMSA.trains.singleTask.{name}")
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    if hasattr(module, "ReduceLROnPlateau"):  # which no longer takes what the peer passes
        module.ReduceLROnPlateau = lambda *args, verbose, **named: plateau(*args, **named)  # noqa: ARG005
    module.tqdm = _quietly
    trainer = getattr(module, name)(settings)
    ends, validate = [time.perf_counter()], trainer.do_test

    def counted(*args: Any, **named: Any) -> Any:
        found = validate(*args, **named)
        ends.append(time.perf_counter())
        if len(ends) > epochs:
            raise _EnoughError
        return found

    trainer.do_test = counted
    with contextlib.suppress(_EnoughError):
        trainer.do_train(_with_head(net), loader)
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    return {"epochs": seconds, "seconds": time.perf_counter() - began, "peak_mib": _peak()}


def _with_head(net: Any) -> Any:
    """The peer's trainers ask for the module that its own wrapper would hold."""
    vars(net)["Model"] = net  # not as a part of itself
    return net


class _quietly:
    """A progress bar that shows nothing."""

    def __init__(self, items: Any):
        self._items = items

    def __enter__(self) -> Any:
        return self._items

    def __exit__(self, *_: object) -> None:
        pass


def run_ours(model: str, data: pathlib.Path, epochs: int, seed: int, cache: pathlib.Path) -> dict[str, Any]:
    """One training by our command; its programs are compiled in the first and found in the cache after it."""
    began = time.perf_counter()
    from msa_jax import configuration, messages
    from msa_jax.training import build
    from msa_jax.training.loop import train_and_evaluate

    build.use_compile_cache(str(cache))
    overrides = [f"data.path={data}", f"train.epochs={epochs}", "train.patience=0", f"train.seed={seed}"]
    config = configuration.load(f"{ROOT / 'configs' / 'mosi.py'}:{model}", overrides)
    with tempfile.TemporaryDirectory() as folder, messages.silenced():
        train_and_evaluate(config, pathlib.Path(folder) / "run")
        lines = (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    ends = [0.0, *(json.loads(line)["seconds"] for line in lines)]
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    return {"epochs": seconds, "seconds": time.perf_counter() - began, "peak_mib": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str, model: str, data: pathlib.Path, epochs: int, seed: int) -> dict[str, Any]:
    """One training in a process of its own; "wall" is the process's time from start to end."""
    task = json.dumps({"side": side, "model": model, "data": str(data), "epochs": epochs, "seed": seed})
    command = [sys.executable, str(pathlib.Path(__file__)), f"--one={task}"]
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if done.returncode:
        raise SystemExit(f"{side} {model}: {done.stderr[-600:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": time.perf_counter() - began}


def compare(model: str, data: pathlib.Path, epochs: int, seeds: int) -> dict[str, Any]:
    """Both sides by turns, once for each seed."""
    pairs = []
    for seed in range(1111, 1111 + seeds):
        pair = {side: measure(side, model, data, epochs, seed) for side in ("peer", "ours")}
        pairs.append(pair)
        print(model, seed, {k: round(v["wall"], 1) for k, v in pair.items()}, file=sys.stderr, flush=True)
    steady = [{side: statistics.median(run["epochs"][1:]) for side, run in pair.items()} for pair in pairs]
    return {
        "epoch_seconds": {side: [s[side] for s in steady] for side in ("peer", "ours")},
        "epoch_ratio": [s["peer"] / s["ours"] for s in steady],
        "wall_ratio": [pair["peer"]["wall"] / pair["ours"]["wall"] for pair in pairs],
        "five_seeds": {side: sum(pair[side]["wall"] for pair in pairs) for side in ("peer", "ours")},
        "peak_mib": {side: max(pair[side]["peak_mib"] for pair in pairs) for side in ("peer", "ours")},
    }


def _one(task: Mapping[str, Any]) -> dict[str, Any]:
    data = pathlib.Path(task["data"])
    if task["side"] == "peer":
        return run_peer(task["model"], data, task["epochs"], task["seed"])
    return run_ours(task["model"], data, task["epochs"], task["seed"], data.parent / "compiled")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", default=",".join(PEERS), help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each side")
    parser.add_argument("--epochs", type=int, default=4, help="of each training, at least 2")
    parser.add_argument("--one", default="", help="what one process is to train, as JSON")
    parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(_one(json.loads(arguments.one))))
        return
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "clips.pkl"
        write_clips(data)
        for model in arguments.models.split(","):
            report[model] = compare(model, data, arguments.epochs, arguments.seeds)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    for model, found in report.items():
        epochs, whole = (statistics.median(found[key]) for key in ("epoch_ratio", "wall_ratio"))
        print(f"{model}: an epoch {epochs:.2f}, a training {whole:.2f} times ours; MiB {found['peak_mib']}")


if __name__ == "__main__":
    run_command(main)
