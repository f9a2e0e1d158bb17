"""``msa-jax robustness``: files, several runs as one row, studies, and mistakes."""

import csv
import dataclasses
import json
import shutil
import xml.etree.ElementTree as ET

import encoder_files
import feature_files
import numpy as np
import pytest
import random_run

from msa_jax.commands import main
from msa_jax.configuration import load
from msa_jax.data.opening import load_dataset
from msa_jax.errors import ConfigError, MsaJaxError, RunError
from msa_jax.explain.changed import Changed, Program
from msa_jax.inference import Trained
from msa_jax.robust.protocols import conditions, protocol_of
from msa_jax.training import pretrained
from msa_jax.training.best import load_best


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust")
    return [random_run.make(folder / f"run{seed}", "lf_dnn", seed=seed) for seed in (1, 2)]


def test_a_run_gets_its_curves(runs, capfd):
    main(["robustness", f"--workdir={runs[0]}", "--protocol=frames", "--rates=1,0,0.5", "--each"])
    folder = runs[0] / "robustness" / "frames"
    rows = list(csv.DictReader((folder / "robustness.csv").read_text().splitlines()))
    assert [(row["changed"], row["condition"]) for row in rows[:4]] == [
        ("all", "0"), ("all", "0.5"), ("all", "1"), ("text", "0"),
    ]  # fmt: skip
    assert len(rows) == 12
    assert len({row["mae"] for row in rows if row["rate"] == "0"}) == 1
    assert rows[2]["lost_audio"] == "1"
    page = (folder / "robustness.md").read_text()
    assert "## lf\\_dnn, all modalities" in page
    assert "| area / range |" in page
    assert "over the rates 0, 0.5, 1 (AUILC" in page
    assert r"\begin{table*}" in (folder / "robustness.tex").read_text()
    assert "lf_dnn, all modalities" in capfd.readouterr().out


def test_seeds_are_one_row_with_its_deviation(runs, tmp_path):
    folders = list(map(str, runs))
    main(["robustness", "--workdir", *folders, "--protocol=subsets", f"--out={tmp_path / 'out'}"])
    page = (tmp_path / "out" / "robustness.md").read_text()
    assert "Mean ± standard deviation over 2 seeds." in page
    assert "| text+audio |" in page
    assert "| mean |" in page
    rows = list(csv.DictReader((tmp_path / "out" / "robustness.csv").read_text().splitlines()))
    assert {(row["model"], row["seed"]) for row in rows} == {("lf_dnn", "1"), ("lf_dnn", "2")}
    assert not (tmp_path / "out" / "robustness.svg").exists()  # there are no rates


@pytest.mark.parametrize(("protocol", "axis"), [("frames", "rate"), ("noise", "signal over noise, dB")])
def test_several_seeds_are_a_band_in_the_picture(runs, tmp_path, protocol, axis):
    folders = list(map(str, runs))
    main(["robustness", "--workdir", *folders, f"--protocol={protocol}", f"--out={tmp_path / 'out'}"])
    text = (tmp_path / "out" / "robustness.svg").read_text()
    ET.fromstring(text)
    assert "FillBetweenPolyCollection" in text
    assert f"<!-- {axis} -->" in text
    assert "<!-- lf_dnn -->" in text


def test_a_study_has_a_row_per_model(runs, tmp_path):
    study = tmp_path / "study"
    cells = {}
    for number, run in enumerate(runs):
        shutil.copytree(run, study / "cells" / f"cell{number}")
        (study / "cells" / f"cell{number}" / "result.json").write_text("{}")
        config = json.loads((run / "config.json").read_text())
        cells[f"cell{number}"] = {"labels": {"model": f"model {number}", "seed": "1"}, "config": config}
    cells["cell9"] = {"labels": {"model": "model 9", "seed": "1"}, "config": config}
    (study / "study.json").write_text(json.dumps({"study": "x", "cells": cells}))
    main(["robustness", f"--workdir={study}", "--protocol=gcnet", "--rates=0,0.5"])
    page = (study / "robustness" / "gcnet" / "robustness.md").read_text()
    assert "## All modalities: mean" in page
    assert "| model 1 |" in page
    assert "model 9" not in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol=fram"], "there is no protocol 'fram'"),
        (["--protocol=frames", "--rates=0,2"], "the rate 2 is not between 0 and 1"),
        (["--protocol=frames", "--rates=0,x"], "--rates=0,x is not a list of numbers"),
        (["--protocol=tfrnet"], "tfrnet replaces words by the encoder's unknown token"),
        (["--protocol=frames", "--input=nothing.pkl"], "nothing.pkl"),
    ],
)
def test_mistakes_are_one_sentence(runs, arguments, sentence):
    with pytest.raises(MsaJaxError, match=sentence):
        main(["robustness", f"--workdir={runs[0]}", *arguments])


def test_folders_that_do_not_go_together_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="name one with --out"):
        main(["robustness", "--workdir", str(runs[0]), str(runs[1]), "--protocol=frames"])
    with pytest.raises(RunError, match="holds neither a run nor a study"):
        main(["robustness", f"--workdir={tmp_path}", "--protocol=frames"])
    with pytest.raises(RunError, match="are both lf_dnn with seed 1; name one"):
        main(["robustness", "--workdir", str(runs[0]), str(runs[0]), "--protocol=frames"])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run that encodes its text itself, on a file with token ids; the encoder's unknown token is 1."""
    folder = tmp_path_factory.mktemp("tuned")
    encoder = encoder_files.folder(folder / "bert")
    content = feature_files.content()
    for part in content.values():
        part["text_bert"][:, 0] %= encoder_files.SIZES["vocab_size"]
    data = feature_files.write(folder / "data.pkl", content)
    settings = [f"data.path={data}", f"model.encoder.folder={encoder}", "train.devices=1", "data.buckets=1"]
    config = pretrained.with_sizes(load(f"{random_run.CONFIGS / 'mosi.py'}:self_mm,tiny", settings))
    random_run.write(folder / "run", config, load_dataset(config.data))
    (folder / "run" / "tokenizer").mkdir()
    (folder / "run" / "tokenizer" / "vocab.txt").write_text("\n".join(encoder_files.WORDS))
    return folder / "run"


def test_words_become_the_unknown_token(tuned):
    """What is predicted at rate 1 is what the clips say with all words but the ends unknown."""
    trained = Trained(tuned)
    clips = load_dataset(trained.config.data).splits["test"]
    changed = Changed(Program(trained), clips)
    points = conditions(protocol_of("tfrnet"), changed.clips, [0.0, 1.0])
    whole, lost = (changed.predict(point.change)["M"] for point in points)
    np.testing.assert_allclose(whole, trained.predict(clips)["M"], atol=1e-5)
    tokens, last = np.array(clips.tokens), np.asarray(clips.tokens)[:, 1].sum(axis=1) - 1
    place = np.arange(tokens.shape[2])
    tokens[:, 0] = np.where((place > 0) & (place < last[:, None]), 1, tokens[:, 0])
    zeros = {m: np.zeros_like(np.asarray(clips.values[m])) for m in ("audio", "vision")}
    assert not trained.preprocess.scale  # so that stored zeros are zeros as the model reads them
    silent = dataclasses.replace(clips, values={**clips.values, **zeros}, tokens=tokens)
    np.testing.assert_allclose(lost, trained.predict(silent)["M"], atol=1e-5)
    assert np.abs(whole - lost).max() > 1e-3
    assert changed.program.traces == 1


def test_a_protocol_of_words_runs_on_such_a_run(tuned):
    main(["robustness", f"--workdir={tuned}", "--protocol=tfrnet", "--rates=0,1", "--compat"])
    page = (tuned / "robustness" / "tfrnet" / "robustness.md").read_text()
    assert "words the unknown token" in page
    assert "By the public code's arithmetic" in page


def test_reasons_of_such_a_run_have_words_and_add_up(tuned, capsys):
    data = load_best(tuned).config.data.path
    capsys.readouterr()
    main(["explain", f"--workdir={tuned}", f"--input={data}", "--split=test", "--quiet"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines
    for line in lines:
        gained = line["score"] - line["nothing_known"]
        assert sum(line["modalities"].values()) == pytest.approx(gained, abs=1e-5)
        assert all(word["word"] for word in line["words"])
        assert all(word["steps"][0] >= 1 for word in line["words"])
