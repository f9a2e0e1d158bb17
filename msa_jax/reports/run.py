"""What a report reads of a run folder."""

import csv
import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from msa_jax.data.spec import SPLITS, THREE_CLASSES, UNIMODAL_TASKS, DatasetSpec
from msa_jax.errors import DataError, RunError
from msa_jax.training import watched

#: The model's predictions, in the order of a table; others follow under their own names.
HEAD_NAMES = {
    "M": "final prediction",
    **{task: f"{modality} alone" for modality, task in UNIMODAL_TASKS.items()},
    "fusion": "fusion head",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it.

    Attributes:
      config: the configuration, nested.
      spec: the data set.
      class_names: of the classes that a run on classes predicts, by number.
      history: one row per epoch (metrics.jsonl).
      result: test and validation metrics, best epoch and so on (result.json).
      ids: names [N] of the test split's clips.
      label: float [N] of the test split.
      predictions: by column name without "prediction_" ("M" is the final one), float [N], test split.
      logits: float [N, C] of the final prediction, test split; None where the run predicts scores.
      fusion: float32 [N, F], the test split's fused features, in the same order.

    Where the run classifies, label and predictions are class numbers.
    """

    config: Mapping[str, Any]
    spec: DatasetSpec
    class_names: tuple[str, ...]
    history: list[dict[str, Any]]
    result: Mapping[str, Any]
    ids: tuple[str, ...]
    label: np.ndarray
    predictions: Mapping[str, np.ndarray]
    logits: np.ndarray | None
    fusion: np.ndarray

    @property
    def classifies(self) -> bool:
        """Whether the run predicts classes instead of scores."""
        return self.config["model"].get("task") == "classification"


def ordered(names: Iterable[str]) -> list[str]:
    """Known predictions first, in the order of a table; a compiled step returns them by the alphabet."""
    known = list(HEAD_NAMES)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def read_run(workdir: pathlib.Path) -> Run:
    """Reads the files that a finished run leaves.

    Raises:
      RunError: if one is missing or is not what a run writes.
    """
    folder = pathlib.Path(workdir)
    config = _parse(folder / "config.json", _json_object)
    for block in ("data", "model", "train"):
        if not isinstance(config.get(block), dict):
            raise RunError(f"{folder / 'config.json'} has no block {block!r}; train the run again.")
    result = _parse(folder / "result.json", _json_object)
    kinds = {"test": dict, "valid": dict, "best_epoch": int, "seconds": (int, float), "parameters": int}
    for key, kind in kinds.items():
        if not isinstance(result.get(key), kind):
            raise RunError(f"{folder / 'result.json'} has no {key!r}; train the run again.")
    best_test = result.get(watched.RESULT, {"test": {}})
    if not isinstance(best_test, dict) or not isinstance(best_test.get("test"), dict):
        raise RunError(f"{folder / 'result.json'} has no 'test' in {watched.RESULT!r}; train the run again.")
    clips = _parse(folder / "predictions.csv", _test_clips)
    fusion = _parse(folder / "features.npz", _fusion)
    if len(fusion) != len(clips.ids):
        raise RunError(
            f"{folder} is mixed up: predictions.csv has {len(clips.ids)} test clips and features.npz "
            f"{len(fusion)}; train the run again."
        )
    return Run(
        config=config,
        spec=_parse(folder / "spec.json", _spec),
        class_names=_class_names(folder),
        history=_parse(folder / "metrics.jsonl", _history),
        result=result,
        ids=clips.ids,
        label=clips.label,
        predictions=clips.predictions,
        logits=clips.logits,
        fusion=fusion,
    )


def _spec(content: bytes) -> DatasetSpec:
    return DatasetSpec.from_json(content.decode())


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
    """What the model's classes are called; older runs have three classes and do not say."""
    path = folder / "model_spec.json"
    return (_parse(path, _spec).class_names if path.exists() else ()) or THREE_CLASSES


def _parse(path: pathlib.Path, parser: Any) -> Any:
    """What ``parser`` makes of the file's bytes; every failure becomes one sentence."""
    try:
        return parser(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path} is missing: a report needs the folder of a finished run.") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, EOFError, csv.Error, zipfile.BadZipFile, DataError) as error:
        raise RunError(f"{path} is damaged ({error}); train the run again.") from error


def _json_object(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def _history(content: bytes) -> list[dict[str, Any]]:
    rows = [_json_object(line) for line in content.splitlines()]
    for number, row in enumerate(rows, start=1):
        for key, kind in (("epoch", int), ("train", dict), ("valid", dict)):
            if not isinstance(row.get(key), kind):
                raise ValueError(f"line {number} has no {key!r}")
    if not rows:
        raise ValueError("it has no epoch")
    return rows


class _Clips(NamedTuple):
    """What ``predictions.csv`` says of a split; see :class:`Run`."""

    ids: tuple[str, ...]
    label: np.ndarray
    predictions: dict[str, np.ndarray]
    logits: np.ndarray | None


def _test_clips(content: bytes) -> _Clips:
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    header = next(rows, [])
    expected = ["split", "id", "label", "prediction"]
    if header[:4] != expected:
        raise ValueError(f"its columns do not start with {', '.join(expected)}")
    of_test = [row for row in rows if row and row[0] == SPLITS[-1]]
    if not of_test:
        raise ValueError("it has no clip of the test split")
    columns = dict(zip(header, zip(*of_test, strict=True), strict=True))
    numbers = {
        name: np.array([float(text) for text in column])
        for name, column in columns.items()
        if name.startswith(("label", "prediction", "logit_"))
    }
    if not all(np.isfinite(column).all() for column in numbers.values()):
        raise ValueError("it holds scores that are no numbers")
    heads = {
        "M" if name == "prediction" else name.removeprefix("prediction_"): column
        for name, column in numbers.items()
        if name.startswith("prediction")
    }
    logits = [column for name, column in numbers.items() if name.startswith("logit_")]
    return _Clips(
        ids=columns["id"],
        label=numbers["label"],
        predictions=heads,
        logits=np.stack(logits, axis=1) if logits else None,
    )


def _fusion(content: bytes) -> np.ndarray:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        fusion = file["fusion"]
    if fusion.ndim != 2:
        raise ValueError(f"fusion has the shape {fusion.shape}, not [N, F]")
    return fusion
