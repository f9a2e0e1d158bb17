"""A study's folder: ``study.json``, ``cells/NAME/`` (run folders), ``logs/``, ``table.*``, ``study.html``."""

import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.errors import RunError
from msa_jax.files import as_json, read_json, write_whole
from msa_jax.studies.grid import Cell, Study
from msa_jax.training import changes

#: The file that makes a folder a study's.
STUDY = "study.json"


class StudyFolder:
    """The folder of one study, made if absent.

    Args:
      path: of the folder.
      name: of the study, as it was asked for: ``PATH.py:ARGUMENT``.

    Raises:
      RunError: if the folder belongs to another study or to a run, or cannot be made.
    """

    def __init__(self, path: str | pathlib.Path, name: str):
        self.path, self.name = pathlib.Path(path), name
        if (self.path / "config.json").exists():
            raise RunError(f"{self.path} is the folder of a run; choose another --workdir for the study.")
        self._recorded = self._read()
        try:
            for folder in (self.cells, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make {self.path}: {error.strerror}; choose another --workdir.") from error

    @property
    def cells(self) -> pathlib.Path:
        """Where the run folders are."""
        return self.path / "cells"

    @property
    def logs(self) -> pathlib.Path:
        """Where each cell's words are."""
        return self.path / "logs"

    def _read(self) -> dict[str, str]:
        """The cells that were declared last time: name -> configuration as JSON."""
        if not (self.path / STUDY).exists():
            return {}
        record = read_json(self.path / STUDY, "use another --workdir")
        if record.get("study") != self.name:
            raise RunError(
                f"{self.path} belongs to the study {record.get('study')}; use another --workdir for "
                f"{self.name}."
            )
        return {name: json.dumps(cell["config"]) for name, cell in record["cells"].items()}

    def declare(self, study: Study, cells: Mapping[str, tuple[Cell, Config]]) -> list[str]:
        """Records the study, and moves runs of other settings aside.

        Args:
          study: as declared.
          cells: see :func:`msa_jax.studies.grid.checked`.

        Returns:
          The names of the cells that are left to train.
        """
        left = []
        for name, (_, config) in cells.items():
            folder = self.cells / name
            same = name in self._recorded and not self._changed(name, config)
            if folder.exists() and not same and not self._goes_on(name, config):
                self._set_aside(name)
            if not (same and (folder / "result.json").exists()):
                left.append(name)
        record = {
            "study": self.name,
            "title": study.title,
            "axes": list(study.axes()),
            "base": dict(study.base),
            "cells": {name: _record(cell, config) for name, (cell, config) in cells.items()},
        }
        write_whole(self.path / STUDY, as_json(record, indent=1).encode())
        return left

    def _changed(self, name: str, config: Config) -> dict[str, Any]:
        return changes.between(configuration.from_json(self._recorded[name]), config)

    def _goes_on(self, name: str, config: Config) -> bool:
        """Whether a run can go on under settings that cannot change what it has trained so far."""
        if name not in self._recorded:
            return False
        old = configuration.from_json(self._recorded[name])
        return set(changes.between(old, config)) <= set(changes.FREE) and not changes.refused_epochs(
            old, config
        )

    def _set_aside(self, name: str) -> None:
        """Keeps a run of other settings under ``replaced/``: nothing that was trained is deleted."""
        aside = self.path / "replaced"
        aside.mkdir(exist_ok=True)
        places = (aside / (f"{name}-{copy}" if copy else name) for copy in itertools.count())
        (self.cells / name).rename(next(place for place in places if not place.exists()))


def _record(cell: Cell, config: Config) -> dict[str, Any]:
    return {"labels": dict(cell.labels), "config": json.loads(configuration.to_json(config))}
