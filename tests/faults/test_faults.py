"""A small part of what ``benchmarks/faults.py`` does at length: nothing is lost, and nothing runs."""

import json
import os
import pathlib
import subprocess
import sys

import fault_damage
import fault_disk
import fault_files
import fault_jobs
import fault_kills
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def causes(trials):
    """How many trials there were, and what was lost."""
    trials = list(trials)
    return len(trials), [trial for trial in trials if trial.cause]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "convert", "export"])
def test_a_killed_command_loses_nothing(name):
    assert causes(fault_kills.campaign(fault_jobs.JOBS[name], 3, seed=0)) == (3, [])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_noticed_wherever_the_damage_is():
    assert causes(fault_damage.campaign(30, seed=0)) == (30, [])


@pytest.mark.parametrize("name", fault_files.TARGETS)
def test_a_changed_file_is_read_or_refused(name):
    found = fault_files.fuzz(name, 200, seed=0)
    assert (found["tried"], found["causes"]) == (200, [])
    assert found["grown_mib"] < fault_files.GROWTH


def test_the_judge_sees_what_is_wrong(tmp_path):
    """The campaigns' verdicts are worth something: other errors, half files and writes are lost."""

    def fails(_folder):
        raise ValueError("no sentence of ours")

    def writes(folder):
        (folder / "made").write_text("")

    (tmp_path / "half.json").write_text('{"a": ')
    (tmp_path / ".half.json.tmp").write_text('{"a": ')
    (tmp_path / "whole.csv").write_text("a,b\n1,2\n")
    sys.addaudithook(fault_files._watch)
    assert "ValueError at test_faults.py" in fault_files.judge(fault_files.Target(None, fails), tmp_path)
    assert "it ran something: open" in fault_files.judge(fault_files.Target(None, writes), tmp_path)
    (broken,) = fault_kills.half_written(tmp_path)
    assert broken.startswith("half.json")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    run = tmp_path_factory.mktemp("calm") / "run"
    code, said = fault_disk.train(run)
    assert code == 0, said
    return fault_jobs.outcome_of_run(run)


@pytest.mark.slow
def test_a_disk_that_fails_and_files_that_vanish_are_survived(calm, tmp_path):
    assert causes(fault_disk.dying_disks(tmp_path, calm, counts=(2,))) == (1, [])
    assert causes(fault_disk.removed_files(tmp_path, calm, names=("checkpoints/*",))) == (1, [])


@pytest.mark.slow
def test_a_full_disk_and_a_read_only_one_are_survived(calm, tmp_path):
    if not fault_disk.can_mount():
        pytest.skip("this user may not mount a file system")
    assert causes(fault_disk.full_disks(tmp_path, calm, sizes=(64, 320))) == (2, [])
    assert causes(fault_disk.read_only(tmp_path, calm)) == (2, [])


@pytest.mark.slow
def test_a_clock_put_back_and_two_runs_at_once_change_nothing(calm, tmp_path):
    assert causes(fault_disk.clocks(tmp_path, calm)) == (1, [])
    assert causes(fault_disk.two_runs(tmp_path, calm)) == (1, [])


@pytest.mark.slow
def test_the_table():
    command = [sys.executable, "benchmarks/faults.py", "--only=files", "--files=20", "--pickles=20"]
    said = subprocess.run([*command, "--json"], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)
    assert [row["kind"] for row in rows] == [f"files: {name}" for name in fault_files.TARGETS]
    assert all((row["tried"], row["survived"], row["lost"]) == (20, 20, 0) for row in rows)
