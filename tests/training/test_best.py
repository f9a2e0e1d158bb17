"""The best model as a file of its own: whole, in step with the run, and readable by versions to come."""

import json
import pathlib
import shutil

import jax
import numpy as np
import optax
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from toy import squared_error, toy_spec
from toy_run import metric_rows, start

import msa_jax
from msa_jax.configuration import load
from msa_jax.data.dataset import Split
from msa_jax.data.loader import stored_shape
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import RunError
from msa_jax.inference import Trained
from msa_jax.models.objectives import Objective
from msa_jax.training import loop, optim
from msa_jax.training.best import FILE, of_epoch, read_best, record_of, write_best
from msa_jax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: A run of two epochs, trained by the version at commit 7c667cb; the first was the better one.
OLD = pathlib.Path(__file__).parent / "run_7c667cb"
PLAIN = Objective(squared_error)
TREE = {
    "params": {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": np.float32(3)}},
    "batch_stats": {"norm": {"mean": np.zeros(2, np.float32)}},
}


def a_record():
    config = load(f"{ROOT}/configs/mosi.py", ["data.path=x.pkl"])
    return of_epoch(record_of(config, toy_spec(), toy_spec(), [(1, 2, 3), (4, 5, 6)]), 3, 0.5)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert (np.shape(x), x.dtype) == (np.shape(y), y.dtype)


def rewrite(folder, change):
    """Changes the record in the file and leaves the arrays."""
    with safe_open(folder / FILE, framework="numpy") as file:
        record = json.loads(file.metadata()["record"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(record)
    save_file(arrays, folder / FILE, metadata={"record": json.dumps(record)})


def test_what_was_written_is_read(tmp_path):
    write_best(tmp_path / "best", TREE, a_record())
    found = read_best(tmp_path / "best")
    assert_same({"params": found.params, "batch_stats": found.batch_stats}, TREE)
    assert (found.record["epoch"], found.record["score"], found.record["recipe"]) == (3, 0.5, {})
    assert found.record["versions"].keys() == {"msa_jax", "jax", "flax"}
    assert found.shapes == [(1, 2, 3), (4, 5, 6)]
    assert found.spec == found.model_spec == toy_spec()
    assert found.config.data.path == "x.pkl"
    assert [path.name for path in (tmp_path / "best").iterdir()] == [FILE]


def test_fields_of_later_versions_are_passed_over_and_a_score_may_be_none(tmp_path):
    write_best(tmp_path, TREE, of_epoch(a_record(), 1, float("nan")) | {"score": None})
    rewrite(tmp_path, lambda record: record.update(invented_later={"x": [1]}))
    found = read_best(tmp_path)
    assert found.record["invented_later"] == {"x": [1]}
    assert_same(found.params, TREE["params"])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def lose_the_record(path):
    save_file({"kernel": TREE["params"]["a"]["kernel"]}, path)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, lose_the_record])
def test_damage_is_one_sentence(tmp_path, damage):
    write_best(tmp_path, TREE, a_record())
    damage(tmp_path / FILE)
    with pytest.raises(RunError, match=r"model\.safetensors is damaged .*training command writes it again"):
        read_best(tmp_path)


def test_a_failed_write_leaves_the_one_before(tmp_path, monkeypatch):
    write_best(tmp_path, TREE, a_record())
    before = (tmp_path / FILE).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_best(tmp_path, TREE, of_epoch(a_record(), 4, 0.1))
    assert (tmp_path / FILE).read_bytes() == before


def test_every_better_epoch_is_written_behind_its_checkpoint(monkeypatch, tmp_path):
    order: list = []
    save = Checkpoints.save

    def saved(self, *rest):
        order.append("checkpoint")
        save(self, *rest)

    def written(folder, tree, record):
        order.append(record["epoch"])
        write_best(folder, tree, record)

    monkeypatch.setattr(Checkpoints, "save", saved)
    monkeypatch.setattr(loop, "write_best", written)
    done = start(monkeypatch, tmp_path, PLAIN, "train.checkpoint_steps=0")
    scores = [row["valid"]["mae"] for row in metric_rows(tmp_path)]
    kept = [n for n, score in enumerate(scores, 1) if score < min([*scores[: n - 1], np.inf])]
    assert [x for x in order if x != "checkpoint"] == kept
    assert all(order[order.index(epoch) - 1] == "checkpoint" for epoch in kept)
    found = read_best(tmp_path / "best")
    assert_same({"params": found.params, "batch_stats": found.batch_stats}, done.best)
    assert (found.record["epoch"], found.record["score"]) == (kept[-1], scores[kept[-1] - 1])
    assert found.shapes == done.setup.train_plan.shapes


def lost(folder):
    shutil.rmtree(folder)


def damaged(folder):
    flip_a_bit(folder / FILE)


def of_another_epoch(folder):
    tree = read_best(folder)
    params = jax.tree.map(lambda x: x + 1, tree.params)
    write_best(folder, {"params": params, "batch_stats": {}}, {**tree.record, "epoch": 99})


@pytest.mark.parametrize("fault", [lost, damaged, of_another_epoch])
def test_a_start_writes_it_again_where_it_does_not_fit_the_progress(monkeypatch, tmp_path, fault):
    done = start(monkeypatch, tmp_path, PLAIN)
    before = read_best(tmp_path / "best")
    fault(tmp_path / "best")
    start(monkeypatch, tmp_path, PLAIN)
    after = read_best(tmp_path / "best")
    assert_same(after.params, done.best["params"])
    assert after.record == before.record


def test_a_start_leaves_a_fitting_one_alone(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path, PLAIN)
    stamp = (tmp_path / "best" / FILE).stat().st_mtime_ns
    start(monkeypatch, tmp_path, PLAIN)
    assert (tmp_path / "best" / FILE).stat().st_mtime_ns == stamp


def test_inference_needs_nothing_else(monkeypatch, tmp_path):
    done = start(monkeypatch, tmp_path, PLAIN)
    for path in tmp_path.iterdir():
        if path.name != "best":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = msa_jax.load(tmp_path)
    assert_same(run.params, done.best["params"])
    assert run.shapes == done.setup.train_plan.shapes
    clips = done.dataset.splits["test"]
    np.testing.assert_allclose(run.predict(clips)["M"], done.evaluate("test")["predictions"]["M"], atol=1e-6)


def test_a_model_that_is_built_otherwise_is_told_by_its_first_difference(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path, PLAIN)
    found = read_best(tmp_path / "best")
    params = {**found.params, "Dense_0": {**found.params["Dense_0"], "bias": np.zeros(6, np.float32)}}
    write_best(tmp_path / "best", {"params": params, "batch_stats": {}}, found.record)
    with pytest.raises(RunError, match=r"Dense_0/bias is float32 \(6,\), but .* asks for float32 \(5,\)"):
        msa_jax.load(tmp_path)


def old_clips():
    stored = np.load(OLD / "expected.npz")
    values = {m: stored[f"values_{m}"] for m in MODALITIES}
    lengths = {m: stored[f"lengths_{m}"] for m in MODALITIES}
    return Split(np.arange(len(stored["score"])).astype(str), values, lengths, {}), stored["score"]


def assert_predicts_as_then(workdir):
    clips, score = old_clips()
    run = Trained(workdir)
    np.testing.assert_allclose(run.predict(clips)["M"], score, rtol=1e-4, atol=1e-7)
    assert run.shapes == [stored_shape(run.model_spec)]


def test_a_run_of_7c667cb_predicts_what_it_predicted_then(caplog):
    before = {p: p.read_bytes() for p in OLD.rglob("*") if p.is_file()}
    assert_predicts_as_then(OLD)
    assert caplog.messages == []
    assert {p: p.read_bytes() for p in OLD.rglob("*") if p.is_file()} == before


def test_it_is_read_whatever_became_of_optimiser_and_progress(monkeypatch, tmp_path):
    run = shutil.copytree(OLD, tmp_path / "run")
    path = run / "checkpoints" / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["progress"]["invented_later"] = 1
    path.write_text(json.dumps(meta))
    real = optim.build_optimizer

    def other(*arguments, **named):
        made = real(*arguments, **named)
        return made._replace(inner=optax.chain(made.inner, optax.trace(0.9)))

    monkeypatch.setattr(optim, "build_optimizer", other)
    assert_predicts_as_then(run)


def test_a_damaged_old_checkpoint_is_told(tmp_path, caplog):
    run = shutil.copytree(OLD, tmp_path / "run")
    flip_a_bit(max((run / "checkpoints" / "2" / "state" / "d").iterdir(), key=lambda p: p.stat().st_size))
    with pytest.raises(RunError, match="no model of a finished epoch"):
        Trained(run)
    assert [message.split(" of ")[0] for message in caplog.messages] == ["checkpoint 2"]
