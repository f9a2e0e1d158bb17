"""Finished cells of a study, made without training, and rows of results made without cells."""

import io
import json
import pathlib

import numpy as np

from msa_jax import metrics
from msa_jax.data.spec import THREE_CLASSES, DatasetSpec, ModalitySpec
from msa_jax.studies.grid import Cell
from msa_jax.studies.results import RowResults

LIMITS = {"mosi": 3.0, "sims": 1.0, "plain": 3.0}


def labels_of(metric_set: str, clips: int, seed: int = 0) -> np.ndarray:
    limit = LIMITS[metric_set]
    return np.round(np.random.default_rng(seed).uniform(-limit, limit, clips) * 5) / 5


def row(
    labels: tuple[str, ...],
    predictions: np.ndarray,
    label: np.ndarray,
    metric_set: str = "mosi",
    seeds: tuple[str, ...] = (),
) -> RowResults:
    """A row of scores [S, N]; of classes where the predictions are logits [S, N, 3]."""
    classify = predictions.ndim == 3
    limit = LIMITS[metric_set]
    measured = [
        metrics.classification_metrics(one, label.astype(int), compat=True)
        if classify
        else metrics.regression_metrics(metric_set, one, label)
        for one in predictions
    ]
    return RowResults(
        labels=labels,
        seeds=seeds or tuple(str(1111 + k) for k in range(len(predictions))),
        metric_set=metric_set,
        label_range=(-limit, limit),
        class_names=THREE_CLASSES if classify else (),
        metrics={key: np.array([one[key] for one in measured]) for key in measured[0]},
        predictions={"M": predictions.argmax(axis=2).astype(float) if classify else predictions},
        logits=predictions if classify else None,
        label=label,
        ids=tuple(f"clip_{k}" for k in range(len(label))),
        parameters=1234,
        seconds=np.full(len(predictions), 60.0),
        best_epoch=np.arange(1, len(predictions) + 1),
    )


def _answers(
    metric_set: str, clips: int, classify: bool, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, float]]:
    """Labels, the columns of predictions.csv, and their test metrics."""
    label = labels_of(metric_set, clips)
    if classify:
        label = np.sign(label) + 1
        logits = rng.normal(0, 1, (clips, 3)).astype(np.float32)
        columns = {"label": label, "prediction": logits.argmax(axis=1)}
        columns |= {f"logit_{k}": logits[:, k] for k in range(3)}
        return label, columns, metrics.classification_metrics(logits, label.astype(int), compat=True)
    columns = {"label": label, "prediction": label + rng.normal(0, noise, clips).astype(np.float32)}
    columns["prediction_T"] = columns["prediction"] / 2
    return label, columns, metrics.regression_metrics(metric_set, columns["prediction"], label)


def write_cell(
    cells: pathlib.Path,
    cell: Cell,
    metric_set: str = "mosi",
    clips: int = 20,
    classify: bool = False,
    first_clip: int = 0,
    epochs: int = 1,
    noise: float = 1.0,
) -> pathlib.Path:
    """The run folder of a finished cell, with noise by its seed and labels that all cells share."""
    folder = cells / cell.name
    folder.mkdir(parents=True)
    limit = LIMITS[metric_set]
    seed = int(cell.labels.get("seed", 1111))
    rng = np.random.default_rng([seed, *cell.name.encode()])
    label, columns, test = _answers(metric_set, clips, classify, noise, rng)
    lines = [",".join(["split", "id", *columns])]
    for split in ("train", "test"):
        for k in range(clips):
            lines.append(
                ",".join([split, f"clip_{first_clip + k}", *(f"{c[k]:.9g}" for c in columns.values())])
            )
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    spec = DatasetSpec(
        "made",
        {name: ModalitySpec(4, 5) for name in ("text", "audio", "vision")},
        (-limit, limit),
        metric_set,
    )
    (folder / "spec.json").write_text(spec.to_json())
    config = {
        "data": {},
        "model": {"task": "classification" if classify else "regression"},
        "train": {"seed": seed},
    }
    (folder / "config.json").write_text(json.dumps(config))
    rows = [
        {"epoch": k, "train": {"loss": 1 / k}, "valid": {"loss": 1.0, "mae": seed + k, "acc3": 0.5}}
        for k in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    buffer = io.BytesIO()
    np.savez(buffer, fusion=np.zeros((clips, 2), np.float32), label=label)
    (folder / "features.npz").write_bytes(buffer.getvalue())
    result = {
        "test": {**test, "loss": 0.5},
        "valid": {},
        "best_epoch": 3,
        "seconds": 12.5,
        "parameters": 1234,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder
