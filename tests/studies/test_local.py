"""The pool of processes: with workers that only pretend to train, and once with real ones."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from msa_jax.errors import Interrupted, RunError
from msa_jax.studies import local
from msa_jax.studies.jobs import Job, tasks
from msa_jax.studies.local import Pool, available_cores, free_memory
from msa_jax.studies.quick_compile import QUICK

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Trains nothing: a cell's name says what becomes of it.
PRETENDING = """
import json, os, pathlib, signal, sys, time
print(json.dumps({"backend": "BACKEND"}), flush=True)
memory = bytearray(MEMORY)
for line in sys.stdin:
    task = json.loads(line)
    for job in task:
        folder = pathlib.Path(job["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        if "dies" in job["name"]:
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "metrics.jsonl").write_text("{}\\n")
        (folder / "process").write_text(str(os.getpid()))
        (folder / "together").write_text(str(len(task)))
        time.sleep(60 if "slow" in job["name"] else 0.3)
        error = "no good." if "fails" in job["name"] else ""
        print(json.dumps({"name": job["name"], "error": error}), flush=True)
"""


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    def set_up(backend="cpu", memory=0):
        script = tmp_path / "worker.py"
        script.write_text(PRETENDING.replace("BACKEND", backend).replace("MEMORY", str(memory)))
        monkeypatch.setattr(local, "WORKER", (str(script),))

    set_up()
    return set_up


def config(seed, **train):
    return json.dumps({"train": {"seed": seed, **train}})


def jobs(folder, *names):
    """Cells of which no two are seeds of one configuration."""
    return [
        Job(name, config(1, name=name), folder / "cells" / name, folder / f"{name}.txt") for name in names
    ]


def pool(folder, *names, processes=0, watch=lambda _jobs, _ended: None):
    return Pool(jobs(folder, *names), processes, "auto", (), watch)


def processes_of(folder, names):
    return {(folder / "cells" / name / "process").read_text() for name in names}


def test_every_cell_ends_and_faults_stop_nothing(pretend, tmp_path):
    names = ("a", "b fails", "c dies", "d", "e dies", "f")
    ended = pool(tmp_path, *names, processes=2).run()
    assert set(ended) == set(names)
    assert {name: error for name, error in ended.items() if name in "adf"} == {"a": "", "d": "", "f": ""}
    assert ended["b fails"] == "no good."
    assert "signal 9" in ended["c dies"]
    assert "signal 9" in ended["e dies"]


def test_processes_are_used_again_and_no_more_than_asked_for(pretend, tmp_path):
    names = [f"cell{i}" for i in range(6)]
    pool(tmp_path, *names, processes=2).run()
    assert len(processes_of(tmp_path, names)) <= 2


def test_no_two_processes_compile_one_program(tmp_path):
    """Seeds of a configuration stay with the process that began it, as long as there is another one."""
    names = ("a1", "a2", "a3", "b1", "b2")
    cells = [Job(name, config(name[1], name=name[0]), tmp_path / name, tmp_path / "log") for name in names]
    begun = Pool(cells, 2, "auto", (), lambda _jobs, _ended: None)
    first, second = types.SimpleNamespace(task=()), types.SimpleNamespace(task=())
    begun.workers, begun.waiting = [first, second], [(cell,) for cell in cells]

    def given(worker):
        worker.task = begun.waiting.pop(begun._best_for(worker))
        return worker.task[0].name

    asked = (first, second, first, second, second)
    assert [given(worker) for worker in asked] == ["a1", "b1", "a2", "b2", "a3"]


def test_an_accelerator_has_one_process(pretend, tmp_path):
    pretend(backend="gpu")
    names = [f"cell{i}" for i in range(4)]
    pool(tmp_path, *names).run()
    assert len(processes_of(tmp_path, names)) == 1


@pytest.mark.skipif(len(available_cores()) < 2, reason="needs more than one core")
@pytest.mark.parametrize(("free", "processes"), [(2**40, 2), (2**20, 1)])
def test_memory_says_how_many_fit(pretend, tmp_path, monkeypatch, free, processes):
    monkeypatch.setattr(local, "free_memory", lambda: free)
    monkeypatch.setattr(local, "available_cores", lambda: available_cores()[:2])
    names = [f"cell{i}" for i in range(10)]
    pool(tmp_path, *names).run()
    assert len(processes_of(tmp_path, names)) == processes


def test_a_signal_ends_all_processes(pretend, tmp_path):
    begun = pool(tmp_path, "slow1", "slow2", "slow3", processes=2)
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="the same command goes on") as raised:
        begun.run()
    assert raised.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert all(worker.process.poll() is not None for worker in begun.workers)


def test_what_is_under_way_is_shown(pretend, tmp_path):
    seen = []
    pool(
        tmp_path,
        "a",
        "b",
        processes=1,
        watch=lambda now, ended: seen.append(([j.name for j in now], dict(ended))),
    ).run()
    assert (["b"], {"a": ""}) in seen
    assert seen[-1] == ([], {"a": "", "b": ""})


def test_the_machine_is_measured():
    assert available_cores()
    if pathlib.Path("/proc/meminfo").exists():
        assert 2**20 < free_memory() < 2**50


@pytest.mark.parametrize(
    ("how", "backend", "sizes"),
    [
        ("auto", "cpu", [1, 1, 1, 1, 1]),
        ("auto", "gpu", [2, 1, 1, 1]),
        ("vmap", "cpu", [2, 1, 1, 1]),
        ("processes", "gpu", [1, 1, 1, 1, 1]),
    ],
)
def test_seeds_of_one_configuration_share_a_program_where_it_pays(how, backend, sizes, tmp_path):
    """The fourth is the first by another name; the fifth has another setting."""
    configs = [config(1), config(2), config(2, epochs=3), config(1), config(3, epochs=4)]
    cells = [Job(str(i), text, tmp_path / str(i), tmp_path / "log") for i, text in enumerate(configs)]
    found = tasks(cells, how, backend)
    assert [len(task) for task in found] == sizes
    assert sorted(job.name for task in found for job in task) == [str(i) for i in range(5)]


def test_the_cells_of_a_task_end_one_by_one_and_together(pretend, tmp_path):
    cells = [
        Job(name, config(i), tmp_path / "cells" / name, tmp_path / "log")
        for i, name in enumerate(("a", "b fails", "c"))
    ]
    cells += [Job("e", config(9, epochs=2), tmp_path / "cells" / "e", tmp_path / "log")]
    assert Pool(cells, 1, "vmap", (), lambda *_: None).run() == {
        "a": "", "b fails": "no good.", "c": "", "e": "",
    }  # fmt: skip
    together = {job.name: (job.folder / "together").read_text() for job in cells}
    assert together == {"a": "3", "b fails": "3", "c": "3", "e": "1"}


def test_a_process_that_cannot_start_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "WORKER", ("-c", "raise SystemExit(7)"))
    with pytest.raises(RunError, match=r"ended at its start \(exit code 7\)"):
        pool(tmp_path, "a", "b").run()


STUDY = """
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds

def get_study(argument):
    cells = grid(data_sets("synthetic"), models("lf_dnn"), seeds(2), tiny=True, settings={"train.devices": 1})
    return Study("Two seeds", cells)
"""


def command(folder, *more):
    words = [
        sys.executable,
        "-m",
        "msa_jax",
        "study",
        f"--study={folder}/mine.py",
        f"--workdir={folder}/study",
        *more,
    ]
    environment = {**os.environ, "XLA_FLAGS": QUICK}  # one device
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tmp_path):
    (tmp_path / "mine.py").write_text(STUDY)
    first = command(tmp_path, "--processes=1")
    done = tmp_path / "study" / "cells" / "synthetic-lf_dnn-1111" / "result.json"
    for _ in range(600):
        if done.exists():
            break
        time.sleep(0.2)
    first.kill()
    first.communicate()
    written = done.stat().st_mtime_ns
    time.sleep(2)  # the worker sees that its study is gone, and saves
    second = command(tmp_path)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    results = sorted((tmp_path / "study" / "cells").glob("*/result.json"))
    assert [path.parent.name for path in results] == [f"synthetic-lf_dnn-{seed}" for seed in (1111, 1112)]
    assert done.stat().st_mtime_ns == written
    assert len({json.loads(path.read_text())["test"]["mae"] for path in results}) == 2
    assert "2 cells, 1 of them done" in said
