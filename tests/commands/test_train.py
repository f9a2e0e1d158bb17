"""``msa-jax train``: how much it says, several seeds, and folds."""

import csv
import json
import pathlib

import feature_files
import numpy as np
import pytest

from msa_jax import metrics
from msa_jax.commands import train
from msa_jax.errors import ConfigError, RunError
from msa_jax.reports import clips
from msa_jax.reports.run import read_run
from msa_jax.studies.quick_compile import QUICK

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "synthetic.py"
MOSI = CONFIG.with_name("mosi.py")
RUN = [
    f"--config={CONFIG}:lf_dnn,tiny", "--config.train.epochs=1", "--config.train.devices=1",
    "--config.data.buckets=1", "--compile-cache=off",
]  # fmt: skip


@pytest.mark.parametrize("flag", ["--quiet", "--verbose", None])
def test_how_much_is_said(tmp_path, capsys, flag):
    train.main([*RUN, f"--workdir={tmp_path}", *([flag] if flag else [])])
    out, err = capsys.readouterr()
    assert err == ""
    assert (tmp_path / "report.html").exists()
    assert ("debug: " in out) == (flag == "--verbose")
    if flag == "--quiet":
        assert out == ""
        return
    assert "epoch   1  train loss" in out
    assert "best reachable" in out  # the table
    assert f"report: {tmp_path / 'report.html'}" in out
    if flag == "--verbose":
        for words in (
            "1 device(s): cpu",
            "the features lie on the device",
            "padded steps",
            "up to 1 a chunk",
        ):
            assert words in out
        assert out.count("debug: compiling the training for clips of") == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["vmap", "processes"])
def test_several_seeds_are_a_study(tmp_path, capsys, monkeypatch, how):
    monkeypatch.setenv("XLA_FLAGS", QUICK)  # one device
    code = train.main([*RUN, "--seeds=2", f"--how={how}", "--config.train.seed=5", f"--workdir={tmp_path}"])
    assert code == 0, capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["data"], row["model"], row["seed"]) for row in rows] == [
        ("synthetic", "lf_dnn", "5"), ("synthetic", "lf_dnn", "6"),
    ]  # fmt: skip
    assert rows[0]["mae"] != rows[1]["mae"]
    logs = (tmp_path / "logs" / "synthetic-lf_dnn-6.txt").read_text()
    assert ("trained together with synthetic-lf_dnn-5" in logs) == (how == "vmap")
    for seed in (5, 6):
        run = tmp_path / "cells" / f"synthetic-lf_dnn-{seed}"
        assert json.loads((run / "config.json").read_text())["train"]["seed"] == seed


@pytest.mark.slow
def test_folds_and_seeds_of_a_block_are_a_study(tmp_path, capsys, monkeypatch):
    """Every clip is tested once, and the pooled row is measured on those predictions."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # one device
    block = feature_files.section(np.random.default_rng(0), "x", 24)
    block["id"] = [f"video{k % 8}$_${k}" for k in range(24)]
    path = feature_files.write(tmp_path / "block.pkl", block)
    of_data = [f"--config={MOSI}:lf_dnn,tiny", *RUN[1:], f"--config.data.path={path}"]
    code = train.main([*of_data, "--folds=3", "--seeds=2", "--how=processes", f"--workdir={tmp_path / 's'}"])
    assert code == 0, capsys.readouterr().out
    assert (tmp_path / "s" / "study.html").exists()
    rows = list(csv.DictReader((tmp_path / "s" / "table.csv").read_text().splitlines()))
    assert [(row["fold"], row["seed"]) for row in rows] == [
        (fold, seed) for fold in ("0", "1", "2", "pooled") for seed in ("1111", "1112")
    ]
    runs = [read_run(tmp_path / "s" / "cells" / f"mosi-lf_dnn-{fold}-1112") for fold in range(3)]
    assert sorted(clip for run in runs for clip in run.ids) == sorted(block["id"])
    label = np.concatenate([run.label for run in runs])
    expected = metrics.regression_metrics(
        "mosi", np.concatenate([run.predictions["M"] for run in runs]), label
    )
    assert {key: float(rows[7][key]) for key in expected} == expected
    tested = clips.tested_clips(runs[1])  # found again in the block, for cases and maps
    assert tested.ids.tolist() == list(runs[1].ids)
    cell = tmp_path / "s" / "cells" / "mosi-lf_dnn-1-1112"
    alone = [*of_data, "--config.data.split=by_group", "--config.data.folds=3", "--config.train.seed=1112"]
    train.main([*alone, "--config.data.fold=1", f"--workdir={cell}"])  # an ordinary run, which is done
    for other in ("data.fold=2", "data.split_seed=5"):
        with pytest.raises(RunError, match=f"holds a run with another config.json.*\n  .*{other[:7]}"):
            train.main([*alone, "--config.data.fold=1", f"--config.{other}", f"--workdir={cell}"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seeds=-1"], "at least 1"),
        (["--seeds=2", "--distributed"], "--distributed is for a single run"),
        (["--seeds=2", "--profile=there"], "--profile is for a single run"),
        (["--seeds=2", "--how=threads"], "one of auto, vmap, processes"),
        (["--folds=1"], "folds=1: at least 2"),
        (["--folds=3", "--seeds=-1"], "at least 1"),
        (["--folds=3", "--profile=there"], "leave out --seeds and --folds"),
        (["--folds=3", "--config.data.fold=1"], "data.fold is for a single run; --folds sets it"),
        (["--folds=3"], "generated clips have splits"),
        (
            ["--folds=3", "--config.data.source=file", "--config.data.split=stored"],
            "folds=3 needs data.split=by_group",
        ),
    ],
)
def test_what_seeds_do_not_go_with_is_one_sentence(tmp_path, flags, said):
    with pytest.raises(ConfigError, match=said):
        train.main([*RUN, *flags, f"--workdir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
