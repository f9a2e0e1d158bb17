"""Two rows looked at closely, on runs that were trained: their maps need the best models and the data."""

import pathlib

import feature_files
import numpy as np
import pytest

from msa_jax.studies import pairs
from msa_jax.studies.grid import Study, checked, data_sets, grid, models, seeds
from msa_jax.studies.results import read_results
from msa_jax.training.loop import train_and_evaluate

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of a model with vectors of single modalities and one without, and its folder."""
    folder = tmp_path_factory.mktemp("study")
    content = feature_files.content()
    content["test"] = feature_files.section(np.random.default_rng(1), "test", 14)
    data = feature_files.write(folder / "data.pkl", content)
    settings = {"data.path": str(data), "train.epochs": 1, "train.devices": 1}
    axes = data_sets(CONFIG), models("ef_lstm", "lf_dnn"), seeds(1)
    study = Study("two", grid(*axes, tiny=True, settings=settings), base={"model": "ef_lstm"})
    for name, (_, config) in checked(study).items():
        train_and_evaluate(config, folder / "cells" / name)
    return study, folder


def looked_at(study, folder):
    results = read_results(study, folder / "cells")
    rows = {", ".join(labels[1:]): row for labels, row in results.rows.items()}
    return pairs.look_at(study, results, rows, folder / "cells", "part0")


def test_maps_of_all_stages_that_the_models_have(trained):
    pair = looked_at(*trained)
    assert [drawing.title for drawing in pair.maps] == [
        "Fused features: ef_lstm",
        "Fused features: lf_dnn",
        "Features of text: lf_dnn",
        "Features of audio: lf_dnn",
        "Features of vision: lf_dnn",
    ]
    assert pair.notes == ("ef_lstm: ef_lstm has no vector of text, audio, vision alone, so there is no map.",)
    assert "t-SNE of all 14 test clips by their true score, seed 1111." in pair.maps[0].caption
    assert len({drawing.svg for drawing in pair.maps}) == 5
    assert pair.cases is not None
    assert pair.cases.has_transcripts == bool(pair.cases.rows)


def test_data_that_moved_away_leaves_what_needs_no_data(trained):
    study, folder = trained
    (folder / "data.pkl").rename(folder / "moved.pkl")
    try:
        pair = looked_at(study, folder)
    finally:
        (folder / "moved.pkl").rename(folder / "data.pkl")
    assert [drawing.title.split(":")[0] for drawing in pair.maps] == ["Fused features"] * 2
    assert len(pair.notes) == 2
    assert all("left out: there is no " in note and "data.pkl" in note for note in pair.notes)
