"""The best model of a run as one file: all that inference needs, without the training state.

``best/model.safetensors`` holds the parameters and running statistics, and in its metadata a record: which
epoch it is of, how the data was described and prepared, the configuration, the padded shapes of the training,
and the versions that wrote it. A later version reads it whatever became of the optimiser or the loop,
and passes over fields of the record that it does not know.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from flax import linen as nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.data.batch import example_batch
from msa_jax.data.loader import Shape
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import DataError, RunError
from msa_jax.files import write_whole
from msa_jax.training.checkpoint import Best, to_host
from msa_jax.training.checkpoint import read_best as read_best_of_checkpoints
from msa_jax.training.run_folder import BEST, CHECKPOINTS, CONFIG, MODEL_SPEC, SPEC

FILE = "model.safetensors"
_PARTS = ("params", "batch_stats")


@dataclasses.dataclass(frozen=True)
class BestModel:
    """The best model of a run.

    Attributes:
      params: the parameters, nested dictionaries of NumPy arrays.
      batch_stats: the running statistics, likewise; empty for most models.
      record: what :func:`record_of` made, and whatever a later version added.
    """

    params: Mapping[str, Any]
    batch_stats: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return configuration.from_json(json.dumps(self.record["config"]))

    @property
    def spec(self) -> DatasetSpec:
        """The data set of the training as it is stored."""
        return DatasetSpec.from_json(json.dumps(self.record["spec"]))

    @property
    def model_spec(self) -> DatasetSpec:
        """The same as the model reads it."""
        return DatasetSpec.from_json(json.dumps(self.record["model_spec"]))

    @property
    def shapes(self) -> list[Shape]:
        """The padded shapes of the training, shortest first; empty where nobody recorded them."""
        return [(text, audio, vision) for text, audio, vision in self.record.get("shapes") or ()]

    def check_fits(self, model: nn.Module, spec: DatasetSpec) -> None:
        """Compares names, shapes and types with those that ``model`` asks for.

        Raises:
          RunError: for the first that differs.
        """
        made: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), example_batch(spec, 1), train=False))
        needed = _flat({part: made.get(part, {}) for part in _PARTS})
        found = _flat({"params": self.params, "batch_stats": self.batch_stats})
        for name in sorted(needed.keys() | found.keys()):
            here, there = (_kind(arrays.get(name)) for arrays in (needed, found))
            if here != there:
                raise RunError(
                    f"the best model's {name} is {there}, but the model that its configuration builds here "
                    f"asks for {here}; read it with the version that trained it ({_versions(self.record)})."
                )


def record_of(
    config: Config, spec: DatasetSpec, model_spec: DatasetSpec, shapes: Sequence[Shape]
) -> dict[str, Any]:
    """What a run knows of its best model before it has one.

    Args:
      config: of the run.
      spec: its data set as stored.
      model_spec: the same as the model reads it.
      shapes: the padded steps (text, audio, vision) of the training.
    """
    stored = json.loads(spec.to_json())
    return {
        "versions": {name: importlib.metadata.version(name) for name in ("msa_jax", "jax", "flax")},
        "shapes": [list(shape) for shape in shapes],
        "recipe": stored.get("recipe"),  # of the features, where the data set's description has one
        "spec": stored,
        "model_spec": json.loads(model_spec.to_json()),
        "config": json.loads(configuration.to_json(config)),
    }


def of_epoch(record: Mapping[str, Any], epoch: int, score: float | None) -> dict[str, Any]:
    """The record of the model that an epoch left.

    Args:
      record: see :func:`record_of`.
      epoch: from 1; 0 for weights that were trained elsewhere.
      score: the validation score that picked it, see ``train.monitor``; not finite counts as None.
    """
    return {"epoch": epoch, "score": score if score is not None and math.isfinite(score) else None, **record}


def write_best(folder: pathlib.Path, best: Best, record: Mapping[str, Any]) -> None:
    """Writes the best model whole, in the place of the one before.

    Args:
      folder: ``best/`` of the run, made if absent.
      best: {"params": tree, "batch_stats": tree}.
      record: see :func:`of_epoch`.

    Raises:
      RunError: if it cannot be written.
    """
    arrays = {name: np.array(to_host(x), order="C") for name, x in _flat(best).items()}
    text = json.dumps({**record, "digest": _digest(arrays)}, allow_nan=False)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; choose another --workdir.") from error
    write_whole(folder / FILE, save(arrays, metadata={"record": text}))


def read_best(folder: pathlib.Path) -> BestModel:
    """Reads what :func:`write_best` wrote.

    Raises:
      RunError: if it is not there or damaged.
    """
    path = folder / FILE
    try:
        with safe_open(path, framework="numpy") as file:
            record = json.loads((file.metadata() or {})["record"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if _digest(arrays) != record.pop("digest"):
            raise ValueError("its arrays are not what was saved")
        tree: Any = flax.traverse_util.unflatten_dict(arrays, sep="/")
        found = BestModel(tree.get("params", {}), tree.get("batch_stats", {}), record)
        # Read once here, so that damage is said here.
        _ = found.config, found.spec, found.model_spec, found.shapes
    except FileNotFoundError:
        raise RunError(f"{path} is not there: give the --workdir of a run that has trained.") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise RunError(
            f"{path} is damaged ({error!s:.200}); the run's own training command writes it again from the "
            "newest checkpoint."
        ) from error
    return found


def fits(folder: pathlib.Path, best: Best, record: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds this model with this record, the versions that wrote it aside."""
    try:
        found = read_best(folder)
    except RunError:
        return False
    arrays = {name: to_host(x) for name, x in _flat(best).items()}
    there = _flat({"params": found.params, "batch_stats": found.batch_stats})
    same = _digest(arrays) == _digest(there)
    return same and {**found.record, "versions": None} == {**json.loads(json.dumps(record)), "versions": None}


def load_best(workdir: pathlib.Path) -> BestModel:
    """The best model of a run; of one that a version without ``best/`` trained, out of its checkpoints.

    Args:
      workdir: the run's folder, which is only read.

    Raises:
      RunError: if the folder holds no run, or none that has finished an epoch, or it is damaged.
    """
    if (workdir / BEST / FILE).exists():
        return read_best(workdir / BEST)
    records = {name: _parsed(workdir / file) for name, file in _RECORDS.items()}
    best, progress = read_best_of_checkpoints(workdir / CHECKPOINTS)
    record = of_epoch({**records, "shapes": None}, progress.best_epoch, progress.best_score)
    return BestModel(best["params"], best["batch_stats"], record)


_RECORDS = {"config": CONFIG, "spec": SPEC, "model_spec": MODEL_SPEC}


def _parsed(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunError(f"{path} cannot be read: give the --workdir of a run that has trained.") from None


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{"params/unimodal/text/kernel": array, ...}"""
    return dict(flax.traverse_util.flatten_dict({part: tree[part] for part in _PARTS}, sep="/"))


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {arrays[name].shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _kind(array: Any) -> str:
    return "not there" if array is None else f"{np.dtype(array.dtype).name} {tuple(array.shape)}"


def _versions(record: Mapping[str, Any]) -> str:
    named = record.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in named.items()) or "before best/ was written"
