"""Small feature files in the public MMSA layout, for tests to write, bend and break."""

import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from msa_jax.data import mmsa
from msa_jax.data.dataset import Split

STEPS = {"text": 6, "audio": 9, "vision": 7}
WIDTHS = {"text": 4, "audio": 5, "vision": 3}
COUNTS = {"train": 5, "valid": 3, "test": 4}


def section(rng: np.random.Generator, name: str, count: int, unimodal: bool = False) -> dict[str, Any]:
    """One split: unaligned, with token ids; features are 0 behind each clip's length."""
    lengths = {m: rng.integers(1, steps + 1, count) for m, steps in STEPS.items()}
    masks = {m: np.arange(STEPS[m]) < lengths[m][:, None] for m in STEPS}
    part: dict[str, Any] = {
        "id": [f"{name}{i}$_$1" for i in range(count)],
        "raw_text": [f"words of clip {i} · é" for i in range(count)],
        "annotations": ["Neutral"] * count,
        "audio_lengths": lengths["audio"].tolist(),
        "vision_lengths": lengths["vision"].tolist(),
        "regression_labels": rng.integers(-3, 4, count).astype(np.float32),
    }
    for m in STEPS:
        values = rng.normal(size=(count, STEPS[m], WIDTHS[m])) * masks[m][:, :, None]
        part[m] = values.astype(np.float32)
    ids = np.where(masks["text"], rng.integers(100, 200, (count, STEPS["text"])), 0)
    part["text_bert"] = np.stack([ids, masks["text"], np.zeros_like(ids)], axis=1).astype(np.float32)
    part["classification_labels"] = np.sign(part["regression_labels"]) + 1
    if unimodal:
        for task in "TAV":
            part[f"regression_labels_{task}"] = rng.uniform(-1, 1, count).astype(np.float32)
    return part


def content(seed: int = 0, unimodal: bool = False) -> dict[str, Any]:
    """A whole file's content."""
    rng = np.random.default_rng(seed)
    return {name: section(rng, name, count, unimodal) for name, count in COUNTS.items()}


def write(path: pathlib.Path, data: Any, protocol: int = 4) -> pathlib.Path:
    """Pickles ``data`` to ``path`` and returns the path."""
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


def reader(folder: pathlib.Path) -> Callable[..., tuple[dict[str, Split], list[str]]]:
    """A function that writes a content, reads it, and returns the splits and notes."""

    def write_and_read(data: Any, protocol: int = 4) -> tuple[dict[str, Split], list[str]]:
        return mmsa.read(write(folder / "data.pkl", data, protocol))

    return write_and_read
