"""What a feature pickle or a store holds and what is suspicious about it.

Shapes, lengths and labels of every split; NaN, infinities and constant columns, by name where the
columns are known; clips that occur twice; and whether a pickle is one of the public files. The
files of a store are compared with their SHA-256 sums.
"""

import contextlib
import dataclasses
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from msa_jax.data import columns, store
from msa_jax.data.clean import ColumnSummary, summarise
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.division import Division, groups_of, pooled
from msa_jax.data.opening import open_dataset
from msa_jax.data.spec import MODALITIES, SPLITS, format_columns
from msa_jax.errors import DataError

#: SHA-256 sums of the public feature files, as the MMSA project's README gives them.
PUBLIC_FILES = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "CMU-MOSI unaligned_50.pkl",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "CMU-MOSI aligned_50.pkl",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "CMU-MOSEI unaligned_50.pkl",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "CMU-MOSEI aligned_50.pkl",
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "CH-SIMS unaligned_39.pkl",
}
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHOWN = 5  # examples of a fault that are named


def check(path: pathlib.Path, division: Division | None = None) -> dict[str, Any]:
    """Reads everything and returns the report, ready for JSON.

    Args:
      path: a pickle or a store's folder.
      division: how all clips are divided into the splits that the report is about; None for those stored.

    Raises:
      DataError: if the data cannot be used at all.
    """
    if path.is_dir():
        store.read(path, verify=True)
    dataset = open_dataset(path, division=division)
    report: dict[str, Any] = {"path": str(path), "kind": "store" if path.is_dir() else "pickle"}
    if report["kind"] == "pickle":
        report["sha256"] = store.sha256(path)
        report["public_file"] = PUBLIC_FILES.get(report["sha256"])
    spec = dataset.spec
    report |= {
        "name": spec.name,
        "metrics": spec.metrics,
        "label_range": list(spec.label_range),
        "tasks": list(spec.tasks),
        "class_names": list(spec.class_names),
        "token_ids": spec.has_tokens,
        "splits": {},
    }
    warnings = []
    for name in (split for split in SPLITS if len(dataset.splits[split])):
        report["splits"][name] = {"clips": len(dataset.splits[name])}
        report["splits"][name]["labels"] = _labels(dataset, name)
        report["splits"][name]["classes"] = _classes(dataset, name)
        report["splits"][name]["modalities"] = {}
        for m in MODALITIES:
            facts, found = _modality(dataset, name, m)
            report["splits"][name]["modalities"][m] = facts
            warnings += found
    report["groups"] = {
        m: {group: format_columns(c) for group, c in spec.modalities[m].groups.items()} for m in MODALITIES
    }
    if division is not None:
        report["division"] = _division(path, dataset, division)
    report["notes"] = list(dataset.notes)
    report["warnings"] = warnings + _repeated(dataset.splits)
    return report


def _division(path: pathlib.Path, dataset: Dataset, division: Division) -> dict[str, Any]:
    """What lies in each split, of every fold where there are folds, and how many groups lie in two splits."""
    whole = pooled(dataset.splits)
    groups = groups_of(str(path), whole, division.group)
    parts, crossing = [], 0
    for fold in range(max(1, division.folds)):
        rows = dataclasses.replace(division, fold=fold).assigned(groups)
        parts += [
            {
                "fold": fold if division.folds else None,
                "split": name,
                "clips": len(at),
                "groups": len(np.unique(groups[at])),
                "label_mean": {t: float(y[at].mean(dtype=np.float64)) for t, y in whole.labels.items()},
            }
            for name, at in rows.items()
        ]
        several = Counter(group for at in rows.values() for group in np.unique(groups[at]).tolist())
        crossing += sum(count > 1 for count in several.values())
    return {
        "group": division.group,
        "groups": len(np.unique(groups)),
        "folds": division.folds,
        "parts": parts,
        "crossing": crossing,
    }


def _labels(dataset: Dataset, name: str) -> dict[str, Any]:
    """Spread and histogram of each task's scores, at the steps of the data set's metrics, or in tenths."""
    low, high = dataset.spec.label_range
    step = {"sims": 0.2, "mosi": 1.0}.get(dataset.spec.metrics, (high - low) / 10)
    centres = np.linspace(low, high, max(2, round((high - low) / step) + 1))
    edges = (centres[1:] + centres[:-1]) / 2
    facts = {}
    for task, label in dataset.splits[name].labels.items():
        counts = np.bincount(np.searchsorted(edges, label), minlength=len(centres))
        facts[task] = {
            "low": float(label.min()),
            "mean": float(label.mean(dtype=np.float64)),
            "high": float(label.max()),
            "histogram": {f"{centre + 0.0:.3g}": int(n) for centre, n in zip(centres, counts, strict=True)},
        }
    return facts


def _classes(dataset: Dataset, name: str) -> dict[str, dict[str, int]]:
    """How many clips each class has, by task; empty without class labels."""
    names = dataset.spec.class_names
    return {
        task: dict(zip(names, np.bincount(y, minlength=len(names)).tolist(), strict=True))
        for task, y in dataset.splits[name].classes.items()
    }


def _modality(dataset: Dataset, name: str, m: str) -> tuple[dict[str, Any], list[str]]:
    """One modality of one split, and what is wrong with it."""
    values, lengths = dataset.splits[name].values[m], dataset.splits[name].lengths[m]
    summary = summarise(values, lengths)
    names = _column_names(dataset, m)
    facts = {
        "shape": list(values.shape),
        "lengths": [int(q) for q in np.quantile(lengths, _QUANTILES, method="nearest")],
        "real_share": float(lengths.mean() / values.shape[1]),
        "nan": int(summary.nan.sum()),
        "infinite": int(summary.infinite.sum()),
        "constant_columns": [names[c] for c in np.flatnonzero(summary.constant)],
        "groups": _groups(dataset, m, summary),
    }
    where, warnings = f"{name} {m}", []
    for what, counts in (("NaN", summary.nan), ("infinite values", summary.infinite)):
        if counts.any():
            worst = [f"{names[c]} ({counts[c]})" for c in np.argsort(-counts, kind="stable") if counts[c]]
            warnings.append(f"{where}: {counts.sum()} {what}, in {_some(worst)}; they count as 0.")
    if summary.constant.all():
        warnings.append(f"{where}: all columns are constant; the modality says nothing.")
    elif summary.constant.any():
        warnings.append(f"{where}: constant in all clips: {_some(facts['constant_columns'])}.")
    if empty := int((lengths == 0).sum()):
        warnings.append(f"{where}: {empty} clips have no real step.")
    return facts, warnings


def _groups(dataset: Dataset, m: str, summary: ColumnSummary) -> dict[str, dict[str, Any]]:
    """The faults of each named column group."""
    groups = {name: list(at) for name, at in dataset.spec.modalities[m].groups.items()}
    return {
        name: {
            "columns": format_columns(tuple(at)),
            "low": _number(np.fmin.reduce(summary.low[at])),
            "high": _number(np.fmax.reduce(summary.high[at])),
            "nan": int(summary.nan[at].sum()),
            "infinite": int(summary.infinite[at].sum()),
            "constant": int(summary.constant[at].sum()),
        }
        for name, at in groups.items()
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _column_names(dataset: Dataset, m: str) -> list[str]:
    """A name for each column: the public one, its group and number, or its number."""
    modality = dataset.spec.modalities[m]
    widths = (dataset.spec.modalities["audio"].width, dataset.spec.modalities["vision"].width)
    known = columns.KNOWN_WIDTHS.get(widths, "")
    if known and dataset.spec.label_range != columns.LABEL_RANGES[known]:
        known = ""  # data of somebody's own that happens to have these widths
    groups = {name: format_columns(at) for name, at in modality.groups.items()}
    # Other groups than the public ones mean that the columns are in another order.
    if known and groups == columns.KNOWN_GROUPS[known].get(m, {}):
        with contextlib.suppress(DataError):
            return columns.column_names(known, m)
    names = [f"column {c}" for c in range(modality.width)]
    for group, at in modality.groups.items():
        for c in at:
            names[c] = f"{group} (column {c})"
    return names


def _repeated(splits: Mapping[str, Split]) -> list[str]:
    """Warnings for ids that occur more than once, within a split or in two."""
    warnings = []
    ids = {name: Counter(split.ids.tolist()) for name, split in splits.items()}
    for name, counts in ids.items():
        if twice := [clip for clip, count in counts.items() if count > 1]:
            warnings.append(f"{name}: {len(twice)} ids occur more than once: {_some(map(repr, twice))}.")
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        if both := [clip for clip in ids[first] if clip in ids[second]]:
            warnings.append(
                f"LEAK: {len(both)} clips are in {first} and in {second}: {_some(map(repr, both))}; "
                "scores on such a split are worthless."
            )
    return warnings


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
