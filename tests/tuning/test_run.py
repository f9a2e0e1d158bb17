"""A tuning as a whole, with trials that only pretend to train: what is drawn, counted, kept and refused."""

import errno
import importlib.util
import json
import logging
import sys

import pytest
from fake_tuning import CONFIG, SPACE, Fake, score_of

from msa_jax.errors import ConfigError, DataError, RunError
from msa_jax.studies.grid import checked
from msa_jax.tuning import run
from msa_jax.tuning.folder import Lock, TuningFolder

has_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


def test_the_best_trial_wins_and_all_are_listed(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    best = fake.tune("train.epochs=3", trials=15)
    assert [number for number, _ in fake.trained] == list(range(15))
    scores = [score_of(settings) for _, settings in fake.trained]
    assert len(set(scores)) == 15
    number = scores.index(min(scores))
    assert json.loads((fake.workdir / "best.json").read_text()) == best
    assert best["config"] == CONFIG
    assert best["trial"] == number
    assert best["settings"] == fake.trained[number][1]
    assert (best["monitor"], best["score"], best["best_epoch"]) == ("loss", min(scores), 2)
    assert best["trials"] == {"complete": 15, "pruned": 0, "failed": 0}
    rows = fake.rows()
    assert [int(row["trial"]) for row in rows] == list(range(15))
    assert [float(row["valid loss"]) for row in rows] == scores
    assert [float(row["train.learning_rate"]) for row in rows] == [
        settings["train.learning_rate"] for _, settings in fake.trained
    ]
    assert {(row["model.text_out"], row["model.post_fusion_dim"]) for row in rows} == {
        ("8", "4"),
        ("16", "8"),
    }
    assert best["overrides"][0] == "--config.train.epochs=3"
    assert f"--config.train.learning_rate={best['settings']['train.learning_rate']}" in best["overrides"]


def test_draws_lie_within_the_space_and_have_four_digits(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.tune(trials=12)
    for _, settings in fake.trained:
        rate = settings["train.learning_rate"]
        assert 1e-4 <= rate <= 1e-2
        assert float(f"{rate:.4g}") == rate
        assert settings["train.accumulate"] in (1, 2, 3, 4)


def test_a_score_of_which_more_is_better_is_maximised(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    best = fake.tune("train.monitor=corr")
    assert best["score"] == max(score_of(settings) for _, settings in fake.trained)


def test_what_is_done_is_kept_and_draws_go_on_as_if_never_stopped(monkeypatch, tmp_path):
    """More than the ten trials that are drawn blindly, so that what is known of the others counts too."""
    whole = Fake(monkeypatch, tmp_path)
    whole.tune(trials=14, workdir=tmp_path / "whole")
    parts = Fake(monkeypatch, tmp_path)
    for trials in (4, 12, 12, 14):
        parts.tune(trials=trials)
    assert parts.trained == whole.trained


def test_another_seed_draws_others(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.tune(trials=2)
    fake.tune(trials=2, seed=8, workdir=tmp_path / "other")
    assert fake.trained[:2] != fake.trained[2:]


def test_a_trial_that_fails_is_told_and_stops_nothing(monkeypatch, tmp_path, caplog):
    def outcome(trial, _monitor):
        if trial.number == 1:
            raise RunError("the loss is not finite.")
        if trial.number == 2:
            raise ZeroDivisionError("ours")
        return float(trial.number)

    fake = Fake(monkeypatch, tmp_path, outcome)
    with caplog.at_level(logging.INFO, "msa_jax"):
        best = fake.tune(trials=5)
    assert [row["state"] for row in fake.rows()] == ["complete", "failed", "failed", "complete", "complete"]
    assert [row["error"] for row in fake.rows()][1:3] == [
        "the loss is not finite.",
        "ZeroDivisionError: ours",
    ]
    assert best["trial"] == 0
    assert best["trials"] == {"complete": 3, "pruned": 0, "failed": 2}
    assert "trial 1 failed: the loss is not finite." in caplog.text
    assert "Traceback" in caplog.text
    fake.tune(trials=5)
    assert len(fake.trained) == 5, "a failed trial counts, and is not repeated"


def test_where_every_trial_fails_the_first_reason_is_given(monkeypatch, tmp_path):
    def outcome(_trial, _monitor):
        raise DataError("no tokens; add them.")

    fake = Fake(monkeypatch, tmp_path, outcome)
    with pytest.raises(RunError, match=r"none of the 2 trials came to its end; the first .*: no tokens; add"):
        fake.tune(trials=2)
    assert not (fake.workdir / "best.json").exists()


def test_a_trial_that_was_left_is_gone_on_with(monkeypatch, tmp_path):
    def killed_in_the_third(trial, _monitor):
        if trial.number == 2:
            trial.handle.report(0.5, 1)
            raise KeyboardInterrupt
        return score_of(trial.settings)

    first = Fake(monkeypatch, tmp_path, killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        first.tune(trials=4)
    assert [row["state"] for row in first.rows()] == ["complete", "complete"]  # written before it began
    epochs = []
    second = Fake(
        monkeypatch, tmp_path, lambda trial, _: epochs.append(trial.epochs) or score_of(trial.settings)
    )
    best = second.tune(trials=4)
    assert [number for number, _ in second.trained] == [2, 3]
    assert second.trained[0] == first.trained[2]
    assert epochs == [1, 0]
    assert best["trials"] == {"complete": 4, "pruned": 0, "failed": 0}


@has_locks
def test_processes_share_the_trials_and_the_last_one_finds_the_best(monkeypatch, tmp_path, caplog):
    """While this process trains trial 1, another comes, trains what is left, and leaves trial 1 alone."""

    def outcome(trial, _monitor):
        if trial.number == 1:
            with caplog.at_level(logging.INFO, "msa_jax"):
                assert fake.tune(trials=5) is None
            assert "other processes are still at work" in caplog.text
            assert not (fake.workdir / "best.json").exists()
            assert [row["state"] for row in fake.rows()].count("running") == 1
        return score_of(trial.settings)

    fake = Fake(monkeypatch, tmp_path, outcome)
    best = fake.tune(trials=5)
    assert [number for number, _ in fake.trained] == [0, 1, 2, 3, 4]
    assert len({str(settings) for _, settings in fake.trained}) == 5
    assert best["trials"] == {"complete": 5, "pruned": 0, "failed": 0}


@has_locks
def test_only_one_process_ends_a_tuning(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.tune(trials=2)
    (fake.workdir / "best.json").unlink()
    with TuningFolder(fake.workdir).lock("end"):
        assert fake.tune(trials=2) is None
    assert not (fake.workdir / "best.json").exists()
    assert fake.tune(trials=2) is not None


@pytest.mark.parametrize(
    ("overrides", "change", "message"),
    [
        ([], {"trials": 0}, "--trials=0 must be at least 1"),
        ([], {"seed": -1}, "--seed=-1 must be at least 0"),
        (["train.watch_test=true"], {}, "looks at the test split in every epoch, which a tuning never does"),
        (["train.epochs=0"], {}, "train.epochs=0 must be a whole number of at least 1"),
        (["train.learning_rate=1"], {}, "has no effect; leave one out"),
    ],
)
def test_settings_are_checked_before_data_is_read_or_a_folder_made(
    monkeypatch, tmp_path, overrides, change, message
):
    fake = Fake(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=message):
        fake.tune(*overrides, **change)
    assert (fake.opened, fake.workdir.exists()) == (0, False)


def test_an_unknown_setting_of_the_space_names_the_nearest(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.space.write_text(SPACE.replace("train.accumulate", "train.acumulate"))
    with pytest.raises(ConfigError, match=r"train.acumulate: there is no such key\. Did you mean 'train.acc"):
        fake.tune()
    assert (fake.opened, fake.workdir.exists()) == (0, False)


def test_data_that_cannot_be_read_is_no_failed_trial(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)

    def missing(_data):
        raise DataError("there is no file.")

    monkeypatch.setattr(run, "load_dataset", missing)
    with pytest.raises(DataError, match="there is no file"):
        fake.tune()
    assert not fake.workdir.exists()


def test_without_optuna_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "optuna" else found(n, *a))
    with pytest.raises(ConfigError, match=r"^tuning needs Optuna: pip install 'msa_jax\[tune\]'\.$"):
        Fake(monkeypatch, tmp_path).tune()


def test_a_folder_of_something_else_is_refused(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    for file, kind in (("config.json", "run"), ("study.json", "study")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file).write_text("{}")
        with pytest.raises(RunError, match=f"is the folder of a {kind}; choose another --workdir"):
            fake.tune(workdir=tmp_path / kind)
        assert [path.name for path in (tmp_path / kind).iterdir()] == [file]
    with pytest.raises(RunError, match="cannot make"):
        fake.tune(workdir=fake.space / "below")


def test_a_folder_of_another_tuning_is_refused(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.tune(trials=2)
    for overrides, change, told in (
        (["train.batch_size=4"], {}, "train.batch_size: 8 -> 4"),
        (["train.epochs=3"], {}, "train.epochs: 2 -> 3"),
        ([], {"seed": 8}, "seed: 7 -> 8"),
    ):
        with pytest.raises(RunError, match=f"belongs to another tuning; (.|\n)*{told}"):
            fake.tune(*overrides, **change)
    fake.space.write_text(SPACE.replace("Whole(1, 4)", "Whole(1, 5)"))
    with pytest.raises(RunError, match=r"belongs to another tuning; (.|\n)*space:"):
        fake.tune()
    fake.space.write_text(SPACE)
    assert len(fake.trained) == 2
    fake.tune("data.path=elsewhere", "train.devices=1", trials=3)
    assert len(fake.trained) == 3, "where data lies and how to compute may change"


def test_a_journal_that_ends_in_a_broken_line_is_mended(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    fake.tune(trials=3)
    journal = TuningFolder(fake.workdir).journal
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker')
    best = fake.tune(trials=5)
    assert journal.read_bytes().startswith(whole)
    assert [number for number, _ in fake.trained] == [0, 1, 2, 3, 4]
    assert best["trials"]["complete"] == 5
    for line in journal.read_text().splitlines():
        json.loads(line)


@has_locks
def test_a_lock_is_held_once(tmp_path):
    mine, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert mine.acquire()
    assert not other.acquire(wait=False)
    mine.release()
    assert other.acquire(wait=False)
    other.release()


@has_locks
def test_a_file_system_without_locks_is_told_once(monkeypatch, tmp_path, caplog):
    def refuse(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("msa_jax.tuning.folder.fcntl.flock", refuse)
    with caplog.at_level(logging.WARNING, "msa_jax"):
        for _ in range(3):
            with Lock(tmp_path / "lock"):
                pass
    assert [record.message for record in caplog.records] == [
        f"{tmp_path} cannot hold locks (No locks available): only one process may work at this tuning."
    ]


def test_the_winner_is_trained_with_several_seeds(monkeypatch, tmp_path):
    fake = Fake(monkeypatch, tmp_path)
    best = fake.tune("train.seed=3", "train.epochs=4", trials=3)
    seen = {}

    def declared(study, name, workdir, overrides, execution):
        seen.update(study=study, name=name, workdir=workdir, overrides=overrides)
        return {"cell": "why"}

    monkeypatch.setattr(run, "run_declared", declared)
    assert run.retrain(best, tmp_path / "study", count=3) == {"cell": "why"}
    configs = [config for _, config in checked(seen["study"]).values()]
    assert [config.train.seed for config in configs] == [1111, 1112, 1113]
    for config in configs:
        assert config.train.epochs == 4
        assert config.train.learning_rate == best["settings"]["train.learning_rate"]
        assert config.model.text_out == best["settings"]["model.text_out"]
        assert config.model.name == "lf_dnn"
    assert seen["study"].rows() == [("synthetic", "lf_dnn, tiny")]


def test_the_winner_is_shown_with_its_command(monkeypatch, tmp_path, caplog):
    fake = Fake(monkeypatch, tmp_path)
    best = fake.tune(trials=2)
    with caplog.at_level(logging.INFO, "msa_jax"):
        run.show(best)
    assert f"best: trial {best['trial']}, valid loss {best['score']:.4f} in epoch 2" in caplog.text
    assert f"msa-jax train --config={CONFIG} --config.train.learning_rate=" in caplog.text
