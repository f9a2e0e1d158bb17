"""A data set of up to three clips, with broken values and padding."""

import numpy as np

from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import DatasetSpec, ModalitySpec

SPEC = DatasetSpec(
    name="small",
    modalities={"text": ModalitySpec(2, 3), "audio": ModalitySpec(1, 6), "vision": ModalitySpec(1, 2)},
    label_range=(-1.0, 1.0),
    metrics="sims",
    tasks=("M", "T"),
)


def dataset(scores=(-0.4, 0.0, 0.6)) -> Dataset:
    """Its three splits are the same; clip 0 has a broken audio value, all vision is broken."""
    n = len(scores)
    values = {
        "text": np.ones((n, 3, 2), np.float32),
        "audio": np.tile(np.array([1, 2, 3, 4, 0, 0], np.float32)[None, :, None], (n, 1, 1)),
        "vision": np.full((n, 2, 1), np.nan, np.float32),
    }
    values["audio"][0, 1] = -np.inf
    lengths = {"text": np.array([2, 3, 1][:n]), "audio": np.full(n, 4), "vision": np.array([2, 0, 1][:n])}
    labels = {t: np.array(scores, np.float32) for t in ("M", "T")}
    split = Split(np.array([f"c{i}" for i in range(n)]), values, lengths, labels)
    return Dataset(SPEC, dict.fromkeys(("train", "valid", "test"), split))
