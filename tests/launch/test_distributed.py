"""Two processes train through the command, are stopped, and end as one process does."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import msa_jax
from msa_jax import main
from msa_jax.errors import RunError
from msa_jax.studies.quick_compile import QUICK
from msa_jax.training import processes

ROOT = pathlib.Path(__file__).parents[2]
# Labels made while training and remembered for the next epoch, gradients added over batches, groups of
# parameters: what several processes could disagree on.
RUN = [
    f"--config={ROOT / 'configs/synthetic.py'}:self_mm,tiny",
    "--config.data.synthetic.counts=(24,8,8)",
    "--config.data.buckets=1",
    "--config.data.resident=never",
    "--config.train.epochs=4",
    "--config.train.accumulate=2",
    "--config.train.checkpoint_steps=1",
]


@contextlib.contextmanager
def two_processes(*arguments):
    """Yields two processes of one command, which end with the block at the latest."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    flags = QUICK  # one device each
    command = [sys.executable, "-m", "msa_jax.main", "--distributed", *arguments]
    with contextlib.ExitStack() as stack:
        started = []
        for number in ("0", "1"):
            environment = {**os.environ, **names, "JAX_PROCESS_ID": number, "XLA_FLAGS": flags}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, env=environment, cwd=ROOT, **pipes))
            stack.callback(process.kill)
            started.append(process)
        yield started


def ended(process):
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def wait_for_checkpoint(folder, process):
    while not any(path.name.isdecimal() for path in (folder / "checkpoints").glob("*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def parameters(folder):
    trained = msa_jax.load(folder)
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(trained.params)])


def scores(folder):
    rows = (folder / "predictions.csv").read_text().splitlines()[1:]
    return np.array([row.split(",")[3:] for row in rows], float)


@pytest.mark.slow
def test_stopped_runs_of_two_processes_end_as_one_process_does(tmp_path):
    whole, one, two = tmp_path / "whole", tmp_path / "one", tmp_path / "two"
    main.main([*RUN, f"--workdir={whole}"])
    with two_processes(*RUN, f"--workdir={two}") as (first, second):
        wait_for_checkpoint(two, first)
        second.send_signal(signal.SIGTERM)  # one of them: they agree on the step
        for code, _, err in (ended(first), ended(second)):
            assert code == 143, err
            assert err.splitlines()[-1].startswith("stopped and saved")
    assert not (two / "result.json").exists()
    # What two processes saved goes on with one process (of eight devices), and with two.
    shutil.copytree(two, one)
    main.main([*RUN, f"--workdir={one}"])
    with two_processes(*RUN, f"--workdir={two}") as running:
        (code, out, err), (other_code, other_out, other_err) = (ended(process) for process in running)
    assert (code, other_code) == (0, 0), err + other_err
    assert "resuming at step" in out
    assert "report: " in out
    assert [line for line in other_out.splitlines() if "Gloo" not in line] == []
    expected = parameters(whole)
    for folder in (one, two):
        np.testing.assert_allclose(parameters(folder), expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(scores(folder), scores(whole), atol=1e-5, rtol=0)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4
        best = [json.loads((f / "result.json").read_text())["best_epoch"] for f in (folder, whole)]
        assert best[0] == best[1]
    # Nothing is left over by the process that writes no results.
    assert {path.name for path in two.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_one_process_that_cannot_start_stops_the_other_with_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"of": "another run"}')  # only process 0 claims the folder
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)  # which has trained
    with two_processes(*RUN, f"--workdir={tmp_path}") as running:
        (code, _, err), (other_code, _, other_err) = (ended(process) for process in running)
    assert (code, other_code) == (2, 2), err + other_err
    assert "holds a run with another config.json" in err
    assert "process 0 cannot start; its own message says why." in other_err
    assert "Traceback" not in err + other_err


@pytest.fixture
def alone(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("JAX_COORD", "JAX_NUM_P", "JAX_PROCESS", "SLURM_", "TPU_")):
            monkeypatch.delenv(name)
    return monkeypatch


def three(*values):
    """The variables that name the processes, those that are given."""
    names = (processes.ADDRESS, processes.COUNT, processes.NUMBER)
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (three(None, "2", None), "JAX_NUM_PROCESSES set, JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID not"),
        (three("host", "2", "0"), "not HOST:PORT"),
        (three("host:1", "2", "2"), "counted from 0"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, "put srun before the command"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU_WORKER_ID= is none of them"),
    ],
)
def test_half_an_environment_is_one_sentence(alone, environment, message):
    for name, value in environment.items():
        alone.setenv(name, value)
    with pytest.raises(RunError, match=message) as error:
        processes.join()
    assert "\n" not in str(error.value)


def test_an_environment_that_says_nothing_is_one_sentence(alone, tmp_path):
    command = [sys.executable, "-m", "msa_jax.main", "--distributed", *RUN, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --distributed: nothing here tells of other processes")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_slurm_and_gke_environments_reach_jax(alone):
    """JAX makes of a cluster's variables what the launch scripts count on."""
    from jax._src.clusters import ClusterEnv

    alone.setenv("SLURM_JOB_ID", "5000")
    alone.setenv("SLURM_STEP_NODELIST", "node[07-09,12]")
    for name, value in {"NTASKS": "8", "PROCID": "5", "LOCALID": "1"}.items():
        alone.setenv(f"SLURM_{name}", value)
    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 1)
    assert found == ("node07:62344", 8, 5, [1])
