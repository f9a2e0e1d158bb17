"""Metrics of a finished run on another labelled file."""

import json
import pathlib
import pickle

import feature_files
import numpy as np
import pytest

import msa_jax
from msa_jax.commands import evaluate
from msa_jax.configuration import load
from msa_jax.errors import DataError
from msa_jax.training.loop import train_and_evaluate

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")

#: The same clips in all splits, to be learned by heart, so that scores differ by as much as labels do: where
#: they hardly differ, a correlation magnifies rounding, by a hundred and more.
CONTENT = {
    name: feature_files.section(np.random.default_rng(0), name, 6) for name in ("train", "valid", "test")
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder, data file and result.json's content of a trained run, by task."""
    base, made = tmp_path_factory.mktemp("runs"), {}

    def of_task(task: str):
        if task not in made:
            data = feature_files.write(base / f"{task}.pkl", CONTENT)
            settings = [
                f"data.path={data}",
                "train.epochs=10",
                "train.learning_rate=0.1",
                "train.weight_decay=0",
                "train.monitor=loss",
            ]
            config = load(f"{CONFIG}:lf_dnn,tiny,task={task}", settings)
            made[task] = base / task, data, train_and_evaluate(config, base / task)
        return made[task]

    return of_task


def write(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_on_its_own_data_a_run_has_the_figures_of_its_result(run, task, capsys):
    folder, data, result = run(task)
    capsys.readouterr()  # what training said
    evaluate.main([f"--workdir={folder}", f"--input={data}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"train", "valid", "test"}
    for split in ("valid", "test"):
        expected = {k: v for k, v in result[split].items() if not k.startswith("loss")}
        assert set(found[split]) == set(expected)
        for key, value in expected.items():
            known = value if value is not None and np.isfinite(value) else None
            assert found[split][key] == (known if known is None else pytest.approx(known, abs=1e-6))


def test_the_table_and_one_split(run, capsys):
    folder, data, _ = run("regression")
    capsys.readouterr()
    evaluate.main([f"--workdir={folder}", f"--input={data}", "--split=test"])
    out = capsys.readouterr().out
    assert "acc2_has0" in out
    assert "valid" not in out


def test_features_are_those_that_the_run_left_for_its_clips(run):
    folder, data, _ = run("regression")
    trained = msa_jax.load(folder)
    splits, _ = trained.read(data, "test")
    found = trained.features(splits["test"])
    with np.load(folder / "features.npz") as left:
        np.testing.assert_allclose(found["fusion"], left["fusion"], atol=1e-6)
    assert {name: x.shape[0] for name, x in found.items()} == dict.fromkeys(
        ("text", "audio", "vision", "fusion"), 6
    )
    assert all(x.ndim == 2 for x in found.values())


def test_clips_without_labels_are_one_sentence(run, tmp_path):
    part = {k: v for k, v in CONTENT["test"].items() if "_labels" not in k}
    for task, says in (("regression", "no scores"), ("classification", "no class labels")):
        folder, _, _ = run(task)
        with pytest.raises(DataError, match=says):
            msa_jax.load(folder).evaluate(write(tmp_path / "clips.pkl", part))


def test_python_predicts_files_and_arrays_alike(run):
    folder, data, _ = run("regression")
    model, part = msa_jax.load(folder), CONTENT["test"]
    by_file = model.predict(data)
    last = np.isin(by_file["id"], part["id"])
    steps = {m: part[f"{m}_lengths"] for m in ("audio", "vision")}
    steps["text"] = part["text_bert"][:, 1].sum(axis=1).astype(int)
    clips = {m: [x[:n] for x, n in zip(part[m], counts, strict=True)] for m, counts in steps.items()}
    by_arrays = model.predict(**clips)
    assert type(by_arrays["M"]) is np.ndarray
    np.testing.assert_allclose(by_arrays["M"], by_file["M"][last], atol=1e-6)
    with pytest.raises(DataError, match="not both"):
        model.predict()
    with pytest.raises(DataError, match="not both"):
        model.predict(data, text=clips["text"])
