"""How many operations the models of a study's rows need, counted once a row."""

import json
import pathlib
from collections.abc import Iterator

from msa_jax import configuration
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import MsaJaxError
from msa_jax.files import read_json
from msa_jax.messages import LOGGER
from msa_jax.studies.grid import Study
from msa_jax.studies.results import StudyResults
from msa_jax.training.run_folder import CONFIG, MODEL_SPEC


def count_operations(
    study: Study, results: StudyResults, cells: str | pathlib.Path
) -> dict[tuple[str, ...], int]:
    """Multiply-accumulates of one prediction at full length, by row.

    Args:
      study: as declared.
      results: of its finished cells.
      cells: the folder with their run folders.

    Returns:
      Row -> count; without the rows whose run cannot be read by this version, which is said.
    """
    found: dict[tuple[str, ...], int] = {}
    known: dict[tuple[str, str], int] = {}  # rows that differ in their training alone have one model
    for row in results.rows:
        try:
            config, spec = _read(next(_finished(study, results, row, pathlib.Path(cells))))
            key = configuration.to_json(config.model), spec.to_json()
            if key not in known:
                # Here, not at the top: it starts JAX, which a study without finished cells does not need.
                from msa_jax.summary import counting

                known[key] = counting.operations(config, spec)
            found[row] = known[key]
        except MsaJaxError as error:
            LOGGER.info("note: the operations of %s are not counted: %s", ", ".join(row), error)
    return found


def _finished(
    study: Study, results: StudyResults, row: tuple[str, ...], cells: pathlib.Path
) -> Iterator[pathlib.Path]:
    """The run folders of a row's finished cells."""
    return (cells / cell.name for cell in study.cells_of(row) if cell.name not in results.left_out)


def _read(folder: pathlib.Path) -> tuple[configuration.Config, DatasetSpec]:
    """The configuration of a run, and its data set as its model reads it."""
    advice = "train the run again"
    config = configuration.from_json(json.dumps(read_json(folder / CONFIG, advice)))
    return config, DatasetSpec.from_json(json.dumps(read_json(folder / MODEL_SPEC, advice)))
