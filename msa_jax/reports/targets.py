"""The figures that a run is measured against: its model's row in the tables of Cai et al. 2025."""

from collections.abc import Mapping
from typing import Any

from msa_jax.data.spec import DatasetSpec

#: The columns of Tables 3 (CMU-MOSI), 4 (CMU-MOSEI) and 5 (CH-SIMS), under our metric names.
_MOSI = ("acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "mae", "corr", "acc7")
_COLUMNS = {"mosi": _MOSI, "mosei": _MOSI, "sims": ("acc2", "f1", "mae", "corr", "acc3", "acc5")}
#: Their rows as printed: shares in percent, None for what has no figure. Most baselines are quoted there from
#: other papers.
_ROWS: dict[str, dict[str, tuple[float | None, ...]]] = {
    "mosi": {
        "ef_lstm": (77.8, 79.0, 77.7, 78.9, 0.952, 0.651, 34.5),
        "lf_dnn": (78.0, 79.3, 77.9, 79.3, 0.978, 0.658, 33.6),
        "tfn": (None, 80.8, None, 80.7, 0.901, 0.698, 32.1),
        "lmf": (None, 82.5, None, 82.4, 0.917, 0.695, 32.8),
        "mfn": (77.4, None, 77.3, None, 0.965, 0.632, 34.1),
        "graph_mfn": (77.9, 80.2, 77.8, 80.1, 0.939, 0.656, 34.4),
        "mult": (81.5, 84.1, 80.6, 83.9, 0.861, 0.711, 40.0),
        "misa": (81.8, 83.4, 81.7, 83.6, 0.783, 0.761, 42.3),
        "self_mm": (82.5, 83.8, 82.5, 83.9, 0.758, 0.779, 44.9),
        "mmim": (80.2, 81.9, 80.2, 82.0, 0.811, 0.725, 45.0),
        "ufen_mtfn": (85.2, 86.6, 85.2, 86.7, 0.728, 0.792, 46.7),
    },
    "mosei": {
        "ef_lstm": (80.1, 80.3, 80.3, 81.0, 0.603, 0.682, 49.3),
        "lf_dnn": (78.6, 82.3, 79.0, 82.2, 0.561, 0.723, 52.1),
        "tfn": (None, 82.5, None, 82.1, 0.593, 0.7, 50.2),
        "lmf": (None, 82.0, None, 82.1, 0.623, 0.677, 48.0),
        "mfn": (76.0, None, 76.0, None, None, None, None),
        "graph_mfn": (81.9, 84.0, 82.1, 83.8, 0.569, 0.725, 51.9),
        "mult": (None, 82.5, None, 82.3, 0.58, 0.703, 51.8),
        "misa": (83.6, 85.5, 83.8, 85.3, 0.555, 0.756, 52.2),
        "self_mm": (77.6, 83.9, 78.5, 84.0, 0.54, 0.757, 54.2),
        "mmim": (82.1, 83.8, 82.3, 83.6, 0.599, 0.74, 51.9),
        "ufen_mtfn": (84.8, 86.0, 84.9, 85.8, 0.535, 0.76, 54.5),
    },
    "sims": {
        "ef_lstm": (69.37, 56.82, 0.599, 0.521, 54.27, 21.23),
        "lf_dnn": (78.99, 79.72, 0.419, 0.589, 64.99, 41.36),
        "tfn": (80.31, 80.66, 0.451, 0.581, 64.33, 36.76),
        "lmf": (78.99, 78.99, 0.442, 0.574, 66.74, 37.86),
        "mfn": (79.21, 79.15, 0.434, 0.581, 66.08, 39.39),
        "graph_mfn": (79.65, 80.4, 0.477, 0.581, 67.4, 39.17),
        "mult": (79.65, 79.94, 0.439, 0.582, 65.86, 38.95),
        "misa": (69.37, 56.82, 0.587, 0.113, 51.42, 20.79),
        "self_mm": (78.77, 78.88, 0.425, 0.591, 63.68, 39.82),
        "mmim": (73.96, 74.59, 0.441, 0.531, 60.61, 43.54),
        "ufen_mtfn": (81.56, 81.27, 0.423, 0.583, 67.77, 45.2),
    },
}
#: Clips per split, by which the public data sets are known whatever a run calls its data.
_COUNTS: dict[tuple[int, ...], str] = {
    (1284, 229, 686): "mosi",
    (16326, 1871, 4659): "mosei",
    (1368, 456, 457): "sims",
}
#: How the table's column is headed, and what a reader should know of it.
TARGET_NAME = "this model in Cai et al. 2025"
TARGET_NOTE = "A run on frozen text features is not expected to reach the paper's headline figures."


def target_for(spec: DatasetSpec, model: Mapping[str, Any]) -> dict[str, float]:
    """The published figures for a model on a data set.

    Args:
      spec: the data set as stored; one of the public three, by its clips per split.
      model: the model block. The article has figures for regression without fine-grained extraction.

    Returns:
      Our metric key -> value (fractions, MAE in label units); empty where the article has no such row.
    """
    known = _COUNTS.get(tuple(spec.counts.get(split, 0) for split in ("train", "valid", "test")))
    plain = model.get("task", "regression") == "regression" and model.get("fg", "none") == "none"
    if (
        spec.synthetic
        or known is None
        or not plain
        or spec.metrics != ("sims" if known == "sims" else "mosi")
    ):
        return {}
    return _as_fractions(known, _ROWS[known].get(model.get("name", ""), ()))


def by_model() -> dict[tuple[str, str], dict[str, float]]:
    """All of the three tables: ("mosi", "tfn") -> metric -> value, as in :func:`target_for`."""
    return {
        (data, model): _as_fractions(data, row) for data, rows in _ROWS.items() for model, row in rows.items()
    }


def _as_fractions(data: str, row: tuple[float | None, ...]) -> dict[str, float]:
    return {
        key: value if key in ("mae", "corr") else round(value / 100, 6)
        for key, value in zip(_COLUMNS[data], row, strict=False)
        if value is not None
    }
