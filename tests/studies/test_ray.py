"""Studies on a Ray cluster: two real nodes on this machine, one of which is killed."""

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from msa_jax.errors import ConfigError
from msa_jax.studies import ray_pool
from msa_jax.studies.quick_compile import QUICK
from msa_jax.studies.run import Execution

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDY = """
from msa_jax.studies.grid import Study, data_sets, grid, models, values

def get_study(argument):
    quick = {{"train.epochs": 4, "train.patience": 0}}
    rates, seeds = values("train.learning_rate", {rates}), values("train.seed", {seeds})
    cells = grid(data_sets("synthetic"), models("lf_dnn"), rates, seeds, tiny=True, settings=quick)
    return Study("Cells of a cluster", cells)
"""


@pytest.mark.parametrize(
    ("text", "resources"),
    [
        ("", {"CPU": 1}),
        ("CPU=4,GPU=0.5", {"CPU": 4, "GPU": 0.5}),
        ("TPU=4, memory=4e9", {"TPU": 4, "memory": 4e9}),
        ("accelerator_type:A100=0.01", {"accelerator_type:A100": 0.01}),
    ],
)
def test_resources_are_read(text, resources):
    assert ray_pool.read_resources(text) == resources


@pytest.mark.parametrize("text", ["CPU", "CPU=x", "=1", "CPU=-1", "CPU=1;GPU=1"])
def test_other_resources_are_one_sentence(text):
    with pytest.raises(ConfigError, match="write --resources=CPU=4,GPU=1"):
        ray_pool.read_resources(text)


def test_ray_gets_its_own_words():
    options = ray_pool._options({"CPU": 2, "GPU": 1, "TPU": 4})
    assert (options["num_cpus"], options["num_gpus"], options["resources"]) == (2, 1, {"TPU": 4})


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        (Execution(executor="slurm"), "one of local, ray"),
        (Execution(how="threads"), "one of auto, vmap, processes"),
        (Execution(processes=-1), "below 0"),
        (Execution(resources="CPU=1"), "add --executor=ray"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(execution, said):
    with pytest.raises(ConfigError, match=said):
        execution.check()


def test_without_ray_its_pip_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "msa_jax\[ray\]"'):
        Execution(executor="ray").check()


def study(folder, workdir, *more, **environment):
    words = [f"--study={folder}/mine.py", f"--workdir={folder / workdir}", *more]
    quick = {**os.environ, "XLA_FLAGS": QUICK, **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "msa_jax", "study", *words],
        cwd=ROOT,
        env=quick,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's word for a cluster that nobody reaches from outside: all of it stays on 127.0.0.1.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with subprocess.Popen(
        [sys.executable, str(pathlib.Path(__file__).with_name("ray_cluster.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK},
    ) as process:
        assert process.stdin
        assert process.stdout
        address = ""
        while "127.0.0.1:" not in address:
            address = process.stdout.readline()
            assert address, "the cluster ended"
        process.address = address.strip()  # pyright: ignore
        yield process
        process.stdin.close()


def figures(folder):
    """The table without what the clock says."""
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def wait_until(condition, process):
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.extras
def test_a_lost_node_costs_nothing_and_the_table_is_that_of_one_machine(cluster, tmp_path):
    (tmp_path / "mine.py").write_text(STUDY.format(rates="0.01, 0.003", seeds="1, 2, 3, 4, 5, 6"))
    running = study(tmp_path, "ray", "--executor=ray", RAY_ADDRESS=cluster.address)
    cells = tmp_path / "ray" / "cells"
    wait_until(lambda: len(list(cells.glob("*/result.json"))) >= 3, running)
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    said, _ = running.communicate(timeout=500)
    assert cluster.stdout.readline() == "killed\n"
    assert running.returncode == 0, said
    local = study(tmp_path, "local")
    told, _ = local.communicate(timeout=500)
    assert local.returncode == 0, told
    assert len(figures(tmp_path / "local")) == 12
    assert figures(tmp_path / "ray") == figures(tmp_path / "local")


@pytest.mark.extras
def test_a_study_that_is_stopped_saves_and_goes_on(cluster, tmp_path):
    (tmp_path / "mine.py").write_text(STUDY.format(rates="0.01, 0.003", seeds="1"))
    more = ("--executor=ray", "--config.train.epochs=4000")
    running = study(tmp_path, "ray", *more, RAY_ADDRESS=cluster.address)
    wait_until(lambda: list((tmp_path / "ray" / "cells").glob("*/metrics.jsonl")), running)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=200)
    assert running.returncode == 128 + signal.SIGTERM, said
    assert "the same command goes on" in said
    logs = "".join(path.read_text() for path in (tmp_path / "ray" / "logs").glob("*.txt"))
    assert "stopped and saved" in logs


@pytest.mark.extras
def test_no_cluster_is_one_sentence(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "mine.py").write_text(STUDY.format(rates="0.01, 0.003", seeds="1"))
    running = study(tmp_path, "ray", "--executor=ray", RAY_ADDRESS="127.0.0.1:9")
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 2, said
    assert "there is no Ray cluster at 127.0.0.1:9" in said
    assert "Traceback" not in said
