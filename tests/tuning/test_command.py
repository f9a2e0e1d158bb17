"""The command, with real processes: a killed tuning goes on, and two share what is left."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from msa_jax.commands import main
from msa_jax.errors import ConfigError, DataError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPACE = """
from msa_jax.tuning.space import Number, Space

def get_space(argument):
    return Space({"model.post_dropout": Number(0, 0.5)})
"""


def start(folder):
    words = [sys.executable, "-m", "msa_jax", "tune", "--config=configs/synthetic.py:lf_dnn,tiny"]
    words += [f"--space={folder}/mine.py", f"--workdir={folder}/tuning", "--trials=3", "--seeds=1"]
    words += ["--config.train.epochs=12", "--config.train.patience=0", "--config.train.devices=1"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(path, process):
    for _ in range(1500):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    pytest.fail(f"{path} was not written")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_killed_tuning_goes_on_and_two_processes_share_what_is_left(tmp_path):
    (tmp_path / "mine.py").write_text(SPACE)
    trials = tmp_path / "tuning" / "trials"
    first = start(tmp_path)
    wait_for(trials / "0001" / "best", first)  # the second trial has finished an epoch
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = (trials / "0000" / "result.json").stat().st_mtime_ns
    epochs = len((trials / "0001" / "metrics.jsonl").read_text().splitlines())
    assert epochs < 12, "the trial was over before it was killed"
    said = [process.communicate(timeout=600)[0] for process in [start(tmp_path), start(tmp_path)]]
    assert (trials / "0000" / "result.json").stat().st_mtime_ns == done
    with open(tmp_path / "tuning" / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert len({row["model.post_dropout"] for row in rows}) == 3
    assert sum("trial 1 was left" in text for text in said) == 1
    for number in range(3):
        assert "test" not in json.loads((trials / f"{number:04d}" / "result.json").read_text())
    best = json.loads((tmp_path / "tuning" / "best.json").read_text())
    assert best["score"] == min(float(row["valid loss"]) for row in rows)
    (cell,) = (tmp_path / "tuning" / "study" / "cells").iterdir()
    assert "test" in json.loads((cell / "result.json").read_text())
    assert (
        json.loads((cell / "config.json").read_text())["model"]["post_dropout"]
        == (best["settings"]["model.post_dropout"])
    )
    assert any("table:" in text for text in said)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--seeds=-1"], ConfigError, "--seeds=-1 must be at least 0"),
        (["--trials=0"], ConfigError, "--trials=0 must be at least 1"),
        (["--config.train.epoch=3"], ConfigError, "there is no such key"),
        (["--trails=3"], ConfigError, "Did you mean '--trials'"),
        ([], DataError, "no data given for mosi"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(tmp_path, words, error, message):
    usual = ["--config=configs/mosi.py:tfn", "--space=configs/spaces/tfn.py"]
    with pytest.raises(error, match=message):
        main(["tune", *usual, f"--workdir={tmp_path}/tuning", "--compile-cache=off", *words])
    assert not (tmp_path / "tuning").exists()
