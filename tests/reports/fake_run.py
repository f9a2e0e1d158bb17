"""A finished run's folder, made without training."""

import io
import json
import pathlib

import numpy as np

from msa_jax import metrics
from msa_jax.data.spec import DatasetSpec, ModalitySpec

#: Clips per split as published.
COUNTS = {"mosi": (1284, 229, 686), "sims": (1368, 456, 457)}


def spec(name: str, metric_set: str) -> DatasetSpec:
    groups = {"Gaze": (0, 1), "AU": (2, 3, 4)}
    modalities = {
        "text": ModalitySpec(768, 39),
        "audio": ModalitySpec(33, 400),
        "vision": ModalitySpec(709, 55, groups),
    }
    limit = 3.0 if metric_set == "mosi" else 1.0
    return DatasetSpec(
        name=name,
        modalities=modalities,
        label_range=(-limit, limit),
        metrics=metric_set,
        tasks=("M", "T", "A", "V"),
        counts=dict(zip(("train", "valid", "test"), COUNTS.get(name, COUNTS["sims"]), strict=True)),
        synthetic=name == "synthetic",
    )


def write(
    folder: pathlib.Path, name: str = "synthetic", metric_set: str = "sims", clips: int = 60, epochs: int = 12
) -> pathlib.Path:
    """Fills ``folder`` with the files that a run leaves, and returns it."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    limit = 3 if metric_set == "mosi" else 1
    label = np.round(rng.uniform(-limit, limit, clips) * 5) / 5
    heads = {
        head: label * 0.7 + rng.normal(0, 0.25 * limit, clips) for head in ("M", "T", "A", "V", "fusion")
    }
    config = {
        "data": {"name": name, "groups": {"audio": {}, "vision": {"Gaze": "0-1", "AU": "2-4"}}},
        "model": {"name": "ufen_mtfn", "fg": "none", "width": 128},
        "train": {"seed": 1111, "learning_rate": 0.005, "monitor": "mae"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "spec.json").write_text(spec(name, metric_set).to_json())
    scores = metrics.regression_metrics(metric_set, heads["M"], label)
    losses = {"loss": 1.2, **{f"loss_{head}": 0.3 for head in heads}}
    rows = []
    for epoch in range(1, epochs + 1):
        fall = float(np.exp(-epoch / 4))
        train = {head: 0.1 * (k + 1) + fall for k, head in enumerate(heads)}
        valid = {f"loss_{head}": value + 0.02 * epoch for head, value in train.items()}
        row = {
            "epoch": epoch,
            "step": 43 * epoch,
            "learning_rate": 0.005,
            "train": {"loss": sum(train.values()), **train},
            "valid": {**scores, "loss": sum(valid.values()), **valid, "mae": 0.4 + fall / 3 + 0.004 * epoch},
            "seconds": 4.2 * epoch,
        }
        rows.append(json.dumps(row) + "\n")
    (folder / "metrics.jsonl").write_text("".join(rows))
    result = {
        "test": {**scores, **losses},
        "valid": {**scores, **losses},
        "best_epoch": min(7, epochs),
        "seconds": 80.123,
        "parameters": 1234567,
        "best_reachable": {"mae": 0.143, "corr": 0.959} if name == "synthetic" else {},
    }
    (folder / "result.json").write_text(json.dumps(result))
    lines = ["split,id,label,prediction,prediction_A,prediction_T,prediction_V,prediction_fusion"]
    for split in ("train", "valid", "test"):
        for k in range(clips):
            scores_of_clip = ",".join(f"{heads[head][k]:.9g}" for head in heads)
            lines.append(f"{split},video_{k}$_$1,{label[k]:.9g},{scores_of_clip}")
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    fusion = rng.normal(0, 1, (clips, 24)) + label[:, None]
    buffer = io.BytesIO()
    np.savez(buffer, fusion=fusion.astype(np.float32), label=label)
    (folder / "features.npz").write_bytes(buffer.getvalue())
    return folder
