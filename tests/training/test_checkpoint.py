"""Checkpoints come back whole, and damaged ones are noticed, kept and passed over."""

import errno
import json
import pathlib
import shutil

import jax
import numpy as np
import optax
import pytest
from toy import run_steps, toy_training

from msa_jax.errors import RunError
from msa_jax.training.checkpoint import Checkpoints, Progress, _seal, best_of, read_best, with_best


def trained(epochs):
    programs, state, source, plan = toy_training(optax.adam(1e-2), dropout=0.2, devices=2)
    return run_steps(programs, state, source, plan, epochs)[0]


def save_two(folder):
    """Saves steps 5 and 10 as checkpoints 1 and 2; returns copies of the states, as saving makes."""
    checkpoints = Checkpoints(folder)
    states = [trained(1), trained(2)]
    for number, state in enumerate(states, 1):
        progress = Progress(number, best_score=0.1 * number, best_epoch=number)
        progress.sums, progress.history = {"loss": 1 / 3}, [{"mae": np.pi}]
        checkpoints.save(state, best_of(state), progress)
    checkpoints.close()
    return states


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


def restore(folder):
    state = trained(0)
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(state, best_of(state))
    finally:
        checkpoints.close()


def test_the_newest_step_comes_back_exactly(tmp_path, caplog):
    states = save_two(tmp_path / "checkpoints")
    state, best, progress = restore(tmp_path / "checkpoints")
    assert_same(state, states[1])
    assert_same(best, best_of(states[1]))
    assert (progress.epoch, progress.best_score, progress.sums["loss"]) == (2, 0.2, 1 / 3)
    assert progress.history == [{"mae": np.pi}]
    assert caplog.messages == []
    assert state.params["Dense_0"]["kernel"].sharding.is_equivalent_to(
        states[1].params["Dense_0"]["kernel"].sharding, 2
    )


def test_an_empty_folder_is_a_fresh_start(tmp_path):
    assert restore(tmp_path / "checkpoints") is None


def biggest_file(step_folder):
    return max((f for f in step_folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def truncate(step_folder):
    file = biggest_file(step_folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(step_folder):
    file = biggest_file(step_folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))


def lose_files(step_folder):
    for file in list(step_folder.rglob("*")):
        if file.is_file() and "meta" not in str(file.relative_to(step_folder)):
            file.unlink()


def empty_meta(step_folder):
    for file in (step_folder / "meta").rglob("*"):
        if file.is_file():
            file.write_text("{}")


def change_a_digit(step_folder):
    """JSON stays JSON: another epoch."""
    path = step_folder / "meta" / "metadata"
    text = path.read_text()
    assert '"epoch": 2' in text
    path.write_text(text.replace('"epoch": 2', '"epoch": 7', 1))


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lose_files, empty_meta, change_a_digit])
def test_a_damaged_newest_step_falls_back_and_is_kept(tmp_path, damage, caplog):
    folder = tmp_path / "checkpoints"
    states = save_two(folder)
    damage(folder / "2")
    state, _, progress = restore(folder)
    assert_same(state, states[0])
    assert progress.epoch == 1
    said = [record.getMessage() for record in caplog.records if record.name == "msa_jax"]
    assert [message.split(" (")[0] for message in said] == ["checkpoint 2 is damaged"]
    assert (tmp_path / "checkpoints-damaged" / "2").is_dir()
    # The number is free again.
    checkpoints = Checkpoints(folder)
    checkpoints.save(states[1], best_of(states[1]), Progress(epoch=2))
    checkpoints.close()
    assert_same(restore(folder)[0], states[1])


def test_nothing_readable_is_an_error_and_nothing_is_lost(tmp_path):
    folder = tmp_path / "checkpoints"
    save_two(folder)
    truncate(folder / "1")
    truncate(folder / "2")
    with pytest.raises(RunError, match="no checkpoint under"):
        restore(folder)
    assert {p.name for p in (tmp_path / "checkpoints-damaged").iterdir()} == {"1", "2"}


def test_another_state_layout_is_named_and_nothing_moves(tmp_path):
    folder = tmp_path / "checkpoints"
    save_two(folder)
    other = toy_training(optax.sgd(0.1))[1]
    checkpoints = Checkpoints(folder)
    with pytest.raises(RunError, match="another version of msa_jax"):
        checkpoints.restore(other, best_of(other))
    checkpoints.close()
    assert {p.name for p in folder.iterdir()} == {"1", "2"}


def test_saving_the_same_step_again_keeps_the_newer_progress(tmp_path):
    state = trained(1)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, best_of(state), Progress(epoch=0, batch=3))
    checkpoints.save(state, best_of(state), Progress(epoch=1))
    checkpoints.close()
    assert restore(tmp_path / "checkpoints")[2] == Progress(epoch=1)


def test_a_kill_before_the_second_save_of_a_step_leaves_the_first(tmp_path, monkeypatch):
    """An epoch's end may come at the step of a save inside it; what is there stays until the new stands."""
    state = trained(1)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, best_of(state), Progress(batch=5))
    checkpoints._manager.wait_until_finished()

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(state, best_of(state), Progress(epoch=1))
    checkpoints.close()
    assert restore(tmp_path / "checkpoints")[2] == Progress(batch=5)


def test_at_every_moment_of_many_saves_a_whole_checkpoint_is_on_disk(tmp_path, monkeypatch):
    """Orbax removes old ones by itself: never before the new one has its final name."""
    folder, state, left = tmp_path / "checkpoints", trained(1), []
    remove = shutil.rmtree

    def watched(path, *rest, **named):
        if pathlib.Path(path).parent == folder:
            left.append({p.name for p in folder.iterdir() if p.name.isdecimal()} - {pathlib.Path(path).name})
        return remove(path, *rest, **named)

    monkeypatch.setattr(shutil, "rmtree", watched)
    checkpoints = Checkpoints(folder)
    for epoch in range(5):
        checkpoints.save(state, best_of(state), Progress(epoch=epoch))
    checkpoints.close()
    assert len(left) == 3
    assert all(left)
    assert {p.name for p in folder.iterdir()} == {"4", "5"}


def test_a_folder_whose_checkpoints_have_the_numbers_of_steps_goes_on(tmp_path):
    folder = tmp_path / "checkpoints"
    states = save_two(folder)
    (folder / "2").rename(folder / "10")
    (folder / "1").rename(folder / "5")
    assert_same(restore(folder)[0], states[1])
    checkpoints = Checkpoints(folder)
    checkpoints.save(states[0], best_of(states[0]), Progress(epoch=7))
    checkpoints.close()
    assert {p.name for p in folder.iterdir()} == {"10", "11"}
    assert restore(folder)[2].epoch == 7


def change_meta(folder, change):
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    change(meta["progress"])
    meta["seal"] = _seal(meta)
    path.write_text(json.dumps(meta))


def test_checkpoints_of_versions_without_a_seal_are_read(tmp_path):
    folder = tmp_path / "checkpoints"
    states = save_two(folder)
    path = folder / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["seal"]
    path.write_text(json.dumps(meta))
    assert_same(restore(folder)[0], states[1])
    assert_same(read_best(folder)[0]["params"], states[1].params)


def save_and_close(checkpoints, state):
    checkpoints.save(state, best_of(state), Progress(epoch=1))
    checkpoints.close()


def test_a_save_that_fails_in_the_background_is_one_sentence(tmp_path, capfd, caplog):
    """The folder goes while Orbax writes: whatever its threads meet, there is no traceback."""
    folder = tmp_path / "checkpoints"
    state = trained(1)
    checkpoints = Checkpoints(folder)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full)
        patch.setattr("os.rename", full)
        with pytest.raises(RunError, match=r"cannot write a checkpoint to .*; make room, run again"):
            save_and_close(checkpoints, state)
    assert "Traceback" not in capfd.readouterr().err
    assert caplog.messages == []


def test_a_field_that_a_later_version_recorded_is_no_damage(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    states = save_two(folder)
    change_meta(folder / "2", lambda progress: progress.update(invented_later=[1]))
    state, _, progress = restore(folder)
    assert_same(state, states[1])
    assert progress.epoch == 2
    assert caplog.messages == []


def test_what_is_set_aside_twice_is_kept_twice(tmp_path):
    folder = tmp_path / "checkpoints"
    for _ in range(2):
        state = trained(1)
        checkpoints = Checkpoints(folder)
        for epoch in (1, 2):
            checkpoints.save(state, best_of(state), Progress(epoch=epoch))
        checkpoints.close()
        newest = max(int(p.name) for p in folder.iterdir())
        (folder / str(newest)).rename(folder / "9")
        truncate(folder / "9")
        restore(folder)
    assert {p.name for p in (tmp_path / "checkpoints-damaged").iterdir()} == {"9", "9-1"}


def test_the_best_model_is_read_without_the_training_state(tmp_path):
    states = save_two(tmp_path / "checkpoints")
    best, progress = read_best(tmp_path / "checkpoints")
    assert_same(best["params"], states[1].params)
    assert progress.epoch == 2


def test_the_best_model_is_a_copy_that_outlives_training():
    programs, state, source, plan = toy_training(optax.adam(1e-2))
    best = best_of(state)
    before = jax.tree.map(np.array, best)
    state, _ = run_steps(programs, state, source, plan, 1)
    assert_same(best, before)
    assert_same(with_best(state, best).params, before["params"])
