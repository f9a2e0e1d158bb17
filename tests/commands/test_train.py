"""``msa-jax train``: how much it says, and several seeds."""

import csv
import json
import pathlib

import pytest
from quick_compile import QUICK

from msa_jax.commands import train
from msa_jax.errors import ConfigError

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "synthetic.py"
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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seeds=-1"], "at least 1"),
        (["--seeds=2", "--distributed"], "--distributed is for a single run"),
        (["--seeds=2", "--profile=there"], "--profile is for a single run"),
        (["--seeds=2", "--how=threads"], "one of auto, vmap, processes"),
    ],
)
def test_what_seeds_do_not_go_with_is_one_sentence(tmp_path, flags, said):
    with pytest.raises(ConfigError, match=said):
        train.main([*RUN, *flags, f"--workdir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
