"""Runs, or the rows of a study, under a protocol of missing data: curves, their sums, tables."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from msa_jax import metrics
from msa_jax.configuration import Config
from msa_jax.data.dataset import Split
from msa_jax.data.opening import load_dataset
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError, RunError
from msa_jax.explain.changed import Changed, Program
from msa_jax.files import read_json
from msa_jax.inference import Trained
from msa_jax.messages import LOGGER
from msa_jax.robust import protocols
from msa_jax.robust.curves import Curve, measure, summary
from msa_jax.robust.protocols import Protocol
from msa_jax.studies.folder import STUDY
from msa_jax.studies.grid import SEED
from msa_jax.training import pretrained
from msa_jax.training.best import load_best

ALL = "all"
_TRAIN = "give folders of finished runs, or of a study"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
      protocol: which.
      rates: in place of the published ones.
      each: measure every modality alone too.
      compat: lose what the public code does.
      split: "train", "valid" or "test".
      source: a labelled feature file or store in place of the run's own data.
    """

    protocol: Protocol
    rates: tuple[float, ...] = ()
    each: bool = False
    compat: bool = False
    split: str = "test"
    source: pathlib.Path | None = None

    def curves(self) -> list[tuple[str, tuple[str, ...]]]:
        """Names of the curves, and the modalities that are changed in each."""
        alone = [(m, (m,)) for m in MODALITIES] if self.each and self.protocol.rates else []
        return [(ALL, MODALITIES), *alone]


@dataclasses.dataclass(frozen=True)
class Row:
    """The seeds of one model: S runs.

    Attributes:
      label: what they have in common.
      seeds: their names.
      keys: the metrics.
      curves: of every seed, in the order of :meth:`Asked.curves`.
    """

    label: str
    seeds: tuple[str, ...]
    keys: tuple[str, ...]
    curves: tuple[tuple[Curve, ...], ...]

    def scores(self, curve: int, point: int, key: str) -> np.ndarray:
        """A metric of every seed at one point, [S]."""
        return np.array([seed[curve].points[point].scores.get(key, math.nan) for seed in self.curves])

    def sums(self, curve: int, kind: str, key: str, count: int | None = None) -> dict[str, np.ndarray]:
        """What sums a curve up, or its first ``count`` points, by name, of every seed [S]."""
        curves = [seed[curve] for seed in self.curves]
        found = [summary(dataclasses.replace(c, points=c.points[:count]), kind, key) for c in curves]
        return {name: np.array([one[name] for one in found]) for name in found[0]}

    def defined(self, curve: int) -> int:
        """At how many of its first points all metrics of all seeds are defined."""
        scores = np.array(
            [
                [[point.scores.get(key, math.nan) for key in self.keys] for point in seed[curve].points]
                for seed in self.curves
            ]
        )
        whole = np.asarray(np.isfinite(scores).all(axis=(0, 2)))  # by point
        return int(np.argmin(whole)) if not whole.all() else len(whole)


def find_runs(folders: Sequence[pathlib.Path]) -> dict[str, dict[str, pathlib.Path]]:
    """The runs in the folders: label -> seed -> folder.

    A study's finished cells have its labels. Other runs are told apart by their configurations: those that
    differ in the seed alone are one model's.

    Raises:
      RunError: if a folder is neither a run's nor a study's, or two runs have the same label and seed.
    """
    found: dict[str, dict[str, pathlib.Path]] = {}
    for label, seed, folder in _labelled(folders):
        seeds = found.setdefault(label, {})
        if seed in seeds:
            raise RunError(f"{folder} and {seeds[seed]} are both {label} with seed {seed}; name one.")
        seeds[seed] = folder
    if not found:
        raise RunError(f"no cell of {', '.join(map(str, folders))} is finished; run the study first.")
    return found


def _labelled(folders: Sequence[pathlib.Path]) -> Iterator[tuple[str, str, pathlib.Path]]:
    plain: dict[str, list[tuple[str, str, pathlib.Path]]] = {}
    for folder in folders:
        if (folder / STUDY).exists():
            for name, cell in read_json(folder / STUDY, _TRAIN)["cells"].items():
                place = folder / "cells" / name
                if not (place / "result.json").exists():
                    LOGGER.warning("%s is not finished and left out.", name)
                    continue
                labels = {axis: label for axis, label in cell["labels"].items() if axis != SEED}
                yield ", ".join(labels.values()), str(cell["config"]["train"]["seed"]), place
            continue
        if not (folder / "config.json").exists():
            raise RunError(f"{folder} holds neither a run nor a study; {_TRAIN}.")
        config = read_json(folder / "config.json", _TRAIN)
        seed, name = str(config["train"].pop("seed", "")), config["model"].get("name", "model")
        plain.setdefault(name, []).append((json.dumps(config, sort_keys=True), seed, folder))
    for name, runs in plain.items():
        same = len({config for config, _, _ in runs}) == 1
        for _, seed, folder in runs:
            yield (name if same else folder.name), seed, folder


def measure_row(
    label: str, runs: Mapping[str, pathlib.Path], asked: Asked, progress: Callable[[], None]
) -> Row:
    """Measures the seeds of one model.

    Raises:
      MsaJaxError: for a protocol that the runs' data or models cannot have.
    """
    curves = []
    keys: tuple[str, ...] = ()
    for folder in runs.values():
        trained = Trained(folder)
        clips = _clips(trained, asked)
        changed = Changed(Program(trained), clips)

        def score(condition: protocols.Condition, trained=trained, clips=clips, changed=changed):
            prediction = changed.predict(condition.change)["M"]
            return trained.scores(clips, _without_rounding(prediction, trained.spec.label_range))

        measured = []
        for name, only in asked.curves():
            points = protocols.conditions(asked.protocol, changed.clips, asked.rates, only, asked.compat)
            measured.append(measure(name, points, changed.clips, score, progress))
        curves.append(tuple(measured))
        keys = _keys(trained.config, trained.model_spec)
    return Row(label, tuple(runs), keys, tuple(curves))


def _without_rounding(prediction: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scores [N] that differ by rounding alone as one number, so that they have no correlation.

    Clips of which all is lost may have been padded to other lengths, whose sums round otherwise.
    """
    if prediction.ndim > 1 or np.ptp(prediction) > 1e-6 * (limits[1] - limits[0]):
        return prediction
    return np.full_like(prediction, prediction[0])


def _keys(config: Config, spec: DatasetSpec) -> tuple[str, ...]:
    if config.model.task == "classification":
        return metrics.classification_keys(spec.class_names)
    return metrics.regression_keys(spec.metrics, spec.label_range)


def _clips(trained: Trained, asked: Asked) -> Split:
    """The labelled clips that are asked for."""
    if asked.source is not None:
        found, notes = trained.read(asked.source, asked.split, labelled=True)
        for note in notes:
            LOGGER.info("note: %s", note)
        return next(iter(found.values()))
    split = load_dataset(trained.config.data).splits.get(asked.split)
    if split is None or not len(split):
        raise ConfigError(
            f"the data of {trained.workdir} has no {asked.split} split; choose another --split."
        )
    return split


def check(runs: Mapping[str, Mapping[str, pathlib.Path]], asked: Asked) -> None:
    """Raises what the runs' configurations already tell, before any data is read.

    Raises:
      MsaJaxError: for a protocol that a run cannot have, or runs that are measured by different metrics.
    """
    keys: dict[tuple[str, ...], pathlib.Path] = {}
    for folder in (folder for seeds in runs.values() for folder in seeds.values()):
        best = load_best(folder)
        protocols.check(asked.protocol, asked.rates, pretrained.is_tuned(best.config.model))
        keys.setdefault(_keys(best.config, best.model_spec), folder)
    if len(keys) > 1:
        one, other, *_ = keys.values()
        raise ConfigError(f"{one} and {other} are measured by different metrics; ask for them one by one.")


def evaluations(asked: Asked, runs: int) -> int:
    """How many conditions are measured in so many runs."""
    points = len(protocols.SUBSETS) if not asked.protocol.rates else len(asked.rates or asked.protocol.rates)
    return runs * points * len(asked.curves())
