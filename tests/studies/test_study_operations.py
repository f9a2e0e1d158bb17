"""Operations of a study's rows: of real configurations, counted once a model."""

import logging
import pathlib

import fake_study
import pytest

from msa_jax import configuration
from msa_jax.data import opening
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds, values
from msa_jax.studies.operations import count_operations
from msa_jax.studies.results import read_results
from msa_jax.summary import counting

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
STUDY = Study(
    "sizes",
    grid(data_sets("mosi"), models("lf_dnn", "tfn"), values("train.learning_rate", 0.1, 0.2), seeds(2)),
)


@pytest.fixture
def cells(tmp_path):
    """Finished cells whose configurations and descriptions are real ones."""
    for cell in STUDY.cells:
        folder = fake_study.write_cell(tmp_path, cell)
        config = configuration.load(f"{CONFIG}:{cell.labels['model']},tiny")
        (folder / "config.json").write_text(configuration.to_json(config))
        (folder / "model_spec.json").write_text(opening.expected_spec(config).to_json())
    return tmp_path


def test_rows_of_one_model_are_counted_once(cells, monkeypatch):
    counted, count = [], counting.operations
    monkeypatch.setattr(
        counting, "operations", lambda config, spec: counted.append(config.model.name) or count(config, spec)
    )
    found = count_operations(STUDY, read_results(STUDY, cells), cells)
    assert set(found) == set(STUDY.rows())
    assert counted == ["lf_dnn", "tfn"]
    config = configuration.load(f"{CONFIG}:lf_dnn,tiny")
    spec = opening.expected_spec(config)
    # The LSTM of the text alone: 50 steps of 768 inputs, four gates.
    hidden = config.model.text_hidden
    least = spec.modalities["text"].length * 4 * hidden * (spec.modalities["text"].width + hidden)
    assert least < found["mosi", "lf_dnn", "0.1"] < 1.1 * least
    assert found["mosi", "lf_dnn", "0.1"] == found["mosi", "lf_dnn", "0.2"] < found["mosi", "tfn", "0.1"]


def test_what_cannot_be_counted_is_left_out_and_told(cells, caplog):
    for folder in cells.glob("mosi-lf_dnn-*"):
        (folder / "model_spec.json").unlink()
    for folder in cells.glob("mosi-tfn-*"):
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"tfn"', '"nothing"'))
    caplog.set_level(logging.INFO)
    assert count_operations(STUDY, read_results(STUDY, cells), cells) == {}
    assert "the operations of mosi, lf_dnn, 0.1 are not counted: " in caplog.text
    assert "model_spec.json cannot be read" in caplog.text
    assert "'nothing' is unknown" in caplog.text
