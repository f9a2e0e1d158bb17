"""How fast every model trains on clips of CMU-MOSI's shapes, with the published batches and updates.

    python benchmarks/zoo.py --json

512 generated clips of (50, 768), (375, 5), (500, 20) steps and columns, once with every clip at full
length, once with real lengths: transcripts as long as CMU-MOSI's are, sound and pictures spread as those
of CH-SIMS are, 40 % of the full length on average (MOSI's own are not public without its features).
Models that train a text encoder along have one of two layers, 768 wide, with untrained weights. Each
measurement is a process of its own, so that its peak memory is its own. The MMSA toolkit's rates on two
cores (512 clips at full length, its own settings, samples/s) stand beside ours.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import train_throughput

from msa_jax import configuration, models
from msa_jax.data import synthetic
from msa_jax.data.dataset import Dataset, Split
from msa_jax.errors import run_command
from msa_jax.training import pretrained

LENGTHS = {"text": 50, "audio": 375, "vision": 500}
WIDTHS = {"text": 768, "audio": 5, "vision": 20}
COUNTS = {"train": 512, "valid": 8, "test": 8}
#: Lowest and highest rate seen of the MMSA toolkit, and its peak memory in MiB where it was measured.
PEER = {
    "lf_dnn": (517, 629, None),
    "tfn": (129, 156, None),
    "lmf": (505, 569, None),
    "mfn": (102, 116, None),
    "graph_mfn": (18, 38, None),
    "mult": (0.9, 0.9, 8800),
    "self_mm": (10, 13, None),
}
VOCABULARY = 30522
#: Word pieces of CMU-MOSI's 2,199 transcripts, [CLS] and [SEP] counted, cut at 50 (1 % is longer): every
#: twentieth quantile. Their mean is 15.2.
MOSI_TOKENS = (3, 6, 7, 8, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 23, 27, 32, 50)


def clips(full: bool) -> Dataset:
    """Generated clips of MOSI's shapes, with made-up tokens."""
    dataset = synthetic.generate(0, COUNTS, WIDTHS, LENGTHS)
    rng = np.random.default_rng(0)

    def made(split: Split) -> Split:
        lengths = dict(split.lengths)
        lengths["text"] = as_in_mosi(lengths["text"])
        if full:
            lengths = {m: np.full(len(split), steps, np.int32) for m, steps in LENGTHS.items()}
        mask = np.arange(LENGTHS["text"]) < lengths["text"][:, None]
        ids = np.where(mask, rng.integers(1, VOCABULARY, mask.shape), 0)
        tokens = np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype(np.int32)
        return dataclasses.replace(split, lengths=lengths, tokens=tokens)

    spec = dataclasses.replace(dataset.spec, has_tokens=True)
    splits = {name: made(split) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, spec=spec, splits=splits)


def as_in_mosi(lengths: np.ndarray) -> np.ndarray:
    """Lengths [N] of other clips to those of CMU-MOSI's transcripts, the longest to the longest."""
    rank = np.argsort(np.argsort(lengths, kind="stable"))
    known = np.linspace(0, 1, len(MOSI_TOKENS))
    return np.rint(np.interp((rank + 0.5) / len(lengths), known, MOSI_TOKENS)).astype(np.int32)


def measure_one(model: str, full: bool, epochs: int) -> dict[str, Any]:
    """The figures of one model."""
    config = configuration.load(f"configs/mosi.py:{model}")
    if pretrained.is_tuned(config.model):
        overrides = ["model.encoder.folder=random", "model.encoder.n_layers=2"]
        config = configuration.load(f"configs/mosi.py:{model}", overrides)
    return train_throughput.measure(config, clips(full), epochs)


def measure_all(names: list[str], epochs: int) -> dict[str, Any]:
    """Every model in processes of their own, and the geometric means against the MMSA toolkit."""
    report: dict[str, Any] = {"models": {}}
    ratios: dict[str, list[float]] = {"full": [], "real": []}
    for name in names:
        rows = {}
        for lengths in ("full", "real"):
            command = [
                sys.executable,
                __file__,
                f"--one={name}",
                f"--lengths={lengths}",
                f"--epochs={epochs}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                rows[lengths] = {"failed": done.stderr[-400:]}
                continue
            rows[lengths] = json.loads(done.stdout)
            if name in PEER:
                rows[lengths]["times_peer"] = rows[lengths]["samples_per_second"] / PEER[name][1]
                ratios[lengths].append(rows[lengths]["times_peer"])
        report["models"][name] = rows
        print(name, {k: round(r.get("samples_per_second", 0), 1) for k, r in rows.items()}, file=sys.stderr)
    for lengths, found in ratios.items():
        report[f"geometric_mean_{lengths}"] = float(np.exp(np.mean(np.log(found)))) if found else None
    return report


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", default=",".join(models.MODELS), help="names, with commas between")
    parser.add_argument("--epochs", type=int, default=2, help="epochs at steady state")
    parser.add_argument("--one", default="", help="measure this model only, in this process")
    parser.add_argument("--lengths", choices=("full", "real"), default="full", help="of --one")
    parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.one:
        json.dump(measure_one(arguments.one, arguments.lengths == "full", arguments.epochs), sys.stdout)
        return
    report = measure_all(arguments.models.split(","), arguments.epochs)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    run_command(main)
