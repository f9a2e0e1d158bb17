"""A run that is stopped or killed, at any moment, ends as if nothing had happened."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from msa_jax.studies.quick_compile import QUICK

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Where a run stands and how it is saved is the same for all models; this one compiles in seconds.
MODEL = "lf_dnn"
EPOCHS = 12


def start(workdir, *overrides):
    command = [
        sys.executable,
        "-m",
        "msa_jax.main",
        f"--config=configs/synthetic.py:{MODEL},tiny",
        f"--workdir={workdir}",
    ]
    command += [
        f"--config.train.epochs={EPOCHS}",
        "--config.train.patience=0",
        "--config.train.checkpoint_steps=2",
        "--config.data.buckets=1",
        "--config.train.chunk_steps=2",
    ]
    # One device; compiles in a third of the time.
    environment = {**os.environ, "XLA_FLAGS": QUICK}
    return subprocess.Popen(
        [*command, *overrides],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    out, _ = process.communicate(timeout=900)
    return process.returncode, out


def outcome(workdir):
    """What must be bit-identical: predictions, the digest of the last checkpoint's arrays, the best model."""
    numbers = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    meta = json.loads((workdir / "checkpoints" / str(max(numbers)) / "meta" / "metadata").read_text())
    best = (workdir / "best" / "model.safetensors").read_bytes()
    return (workdir / "predictions.csv").read_bytes(), meta["digest"], best


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    code, out = finish(start(workdir))
    assert code == 0, out
    return workdir


def wait_for_checkpoint(process, workdir, number):
    """Until a checkpoint of at least this number is under way or there (False: the run ended first)."""
    while process.poll() is None:
        names = [p.name.split(".")[0] for p in (workdir / "checkpoints").glob("*")]
        if any(n.isdigit() and int(n) >= number for n in names):
            return True
        time.sleep(0.002)
    return False


def test_the_run_folder_is_complete(undisturbed):
    names = {p.name for p in undisturbed.iterdir()}
    assert names >= {
        "config.json", "spec.json", "metrics.jsonl", "result.json", "predictions.csv", "report.html",
    }  # fmt: skip
    rows = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == list(range(1, EPOCHS + 1))
    result = json.loads((undisturbed / "result.json").read_text())
    assert result.keys() >= {"test", "valid", "best_epoch", "seconds", "parameters"}
    best = min(rows, key=lambda r: r["valid"]["mae"])
    assert result["best_epoch"] == best["epoch"]
    assert result["valid"]["mae"] == pytest.approx(best["valid"]["mae"], rel=1e-6)


@pytest.mark.slow
def test_kills_at_several_moments_change_nothing(undisturbed, tmp_path):
    workdir, rng = tmp_path / "killed", random.Random(0)
    kills = 0
    for number in (1, 14, 28):  # of four an epoch
        process = start(workdir)
        if wait_for_checkpoint(process, workdir, number):
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert kills >= 2
    code, out = finish(start(workdir))
    assert code == 0, out
    assert "resuming at step" in out
    assert outcome(workdir) == outcome(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(undisturbed, tmp_path, number, expected):
    workdir = tmp_path / "stopped"
    process = start(workdir)
    assert wait_for_checkpoint(process, workdir, 3)
    process.send_signal(number)
    code, out = finish(process)
    assert code == expected, out
    assert "stopped and saved" in out
    assert "Traceback" not in out
    code, out = finish(start(workdir))
    assert code == 0, out
    assert outcome(workdir) == outcome(undisturbed)


def test_a_finished_run_is_not_trained_again(undisturbed):
    before = outcome(undisturbed)
    code, out = finish(start(undisturbed))
    assert code == 0, out
    assert "epoch   1" not in out
    assert outcome(undisturbed) == before


def test_another_configuration_is_refused_with_its_difference(undisturbed):
    before = outcome(undisturbed)
    code, out = finish(start(undisturbed, "--config.train.learning_rate=0.5"))
    assert code == 2
    assert "train.learning_rate" in out
    assert "-> 0.5" in out
    assert "Traceback" not in out
    assert outcome(undisturbed) == before
