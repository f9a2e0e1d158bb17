"""Trackers: they get every epoch once, one that breaks ends nothing, and a missing extra is told early."""

import importlib.util
import json
import pathlib
import sqlite3
import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from toy import squared_error
from toy_run import STEPS, metric_rows, start

from msa_jax.configuration import load
from msa_jax.errors import ConfigError
from msa_jax.models.objectives import Objective
from msa_jax.training import loop, trackers
from msa_jax.training.trackers import KINDS, Kind, chosen, scalars

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
PLAIN = Objective(squared_error)
#: Acts as trackio does, as far as we use it, and writes what it is told as JSON into TRACKIO_DIR.
STAND_IN = """
import json, os, pathlib, sys
FILE = pathlib.Path(os.environ["TRACKIO_DIR"]) / "told.json"
assert os.environ["HF_HUB_OFFLINE"] == "1" and "TRACKIO_SPACE_ID" not in os.environ
print("printed by trackio")
class Run:
    def __init__(self, told): self.told = told
    def log(self, values, step): self.told["rows"].append([step, values])
    def finish(self): FILE.write_text(json.dumps(self.told))
    def delete(self): FILE.unlink()
class Api:
    def runs(self, project):
        if not FILE.exists(): raise ValueError("no project")
        return [Run({})]
def init(project, name, config, **rest):
    assert not FILE.exists(), "the former rows are still there"
    return Run({"project": project, "name": name, "config": config, "rows": []})
"""


class Kept:
    """A tracker that keeps what it gets."""

    def __init__(self, _folder, _config, history):
        self.began, self.rows, self.closed = [row["epoch"] for row in history], [], 0

    def log(self, row):
        self.rows.append(json.loads(json.dumps(row)))

    def close(self):
        self.closed += 1


@pytest.fixture
def kept(monkeypatch):
    """Makes "kept" a tracker; the list of those that were started."""
    made = []

    def begin(*arguments):
        made.append(Kept(*arguments))
        return made[-1]

    monkeypatch.setitem(KINDS, "kept", Kind("json", "none", begin))
    return made


def test_every_epoch_is_logged_once_over_two_sittings(monkeypatch, tmp_path, kept):
    start(monkeypatch, tmp_path, PLAIN, "train.trackers=kept", stop_at=STEPS + 2)
    start(monkeypatch, tmp_path, PLAIN, "train.trackers=kept")
    assert [tracker.began for tracker in kept] == [[], [1]]
    assert [tracker.closed for tracker in kept] == [1, 1]
    assert kept[0].rows + kept[1].rows == metric_rows(tmp_path)


def test_a_tracker_that_breaks_is_given_up_and_nothing_else(monkeypatch, tmp_path, kept, caplog):
    def full(self, row):
        if row["epoch"] == 2:
            raise OSError("no space left")
        Kept.rows_seen.append(row["epoch"])

    monkeypatch.setattr(Kept, "log", full)
    monkeypatch.setattr(Kept, "rows_seen", [], raising=False)
    start(monkeypatch, tmp_path, PLAIN, "train.trackers=kept")
    assert len(metric_rows(tmp_path)) == 3
    assert Kept.rows_seen == [1]
    assert kept[0].closed == 1
    said = [record.getMessage() for record in caplog.records if record.name == "msa_jax"]
    assert said == ["kept gets no more of this run: no space left."]


def test_numbers_by_name():
    row = {"epoch": 3, "step": 9, "seconds": 1.5, "learning_rate": {"other": 0.1, "bert": 0.2}}
    row |= {"train": {"loss": 1.0}, "valid": {"f1_b.c": 0.5}, "step_seconds": 0.01, "gradient_norm": 2.0}
    assert scalars(row) == {
        "learning_rate/other": 0.1, "learning_rate/bert": 0.2, "train/loss": 1.0, "valid/f1_b.c": 0.5,
        "step_seconds": 0.01, "gradient_norm": 2.0,
    }  # fmt: skip


def shown_by_tensorboard(folder):
    """{(name, epoch): [values]} of all event files, in their order; a restart takes back what came after."""
    points = []
    for path in sorted(folder.glob("events*"), key=lambda p: p.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (size,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + size])
            place += 16 + size
            if event.session_log.status == SessionLog.START:
                points = [point for point in points if point[1] < event.step]
            points += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    found = {}
    for name, epoch, value in points:
        found.setdefault((name, epoch), []).append(value)
    return found


@pytest.mark.parametrize("key", ["train.tensorboard=true", "train.trackers=tensorboard"])
def test_tensorboard_shows_the_rows(monkeypatch, tmp_path, key):
    start(monkeypatch, tmp_path, PLAIN, key, stop_at=STEPS + 1)
    start(monkeypatch, tmp_path, PLAIN, key)
    expected = {
        (name, row["epoch"]): [pytest.approx(value, rel=1e-6)]
        for row in metric_rows(tmp_path)
        for name, value in scalars(row).items()
    }
    assert {("gradient_norm", 3), ("step_seconds", 1), ("learning_rate", 2)} <= expected.keys()
    assert shown_by_tensorboard(tmp_path / "tensorboard") == expected


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Puts a module in the place of trackio, here and in processes that are started; gives its file."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/elsewhere")
    (folder / "trackio.py").write_text(STAND_IN)
    return folder / "trackio.py"


def test_the_writer_of_trackio_gets_all_rows_again_when_a_run_goes_on(monkeypatch, tmp_path, stand_in):
    run = tmp_path / "run"
    for stop in (STEPS + 2, None):
        start(monkeypatch, run, PLAIN, "train.trackers=trackio", stop_at=stop)
    told = json.loads((run / "trackio" / "told.json").read_text())
    assert told["rows"] == [[row["epoch"], scalars(row)] for row in metric_rows(run)]
    assert (told["name"], told["config"]["train.batch_size"]) == ("run", 8)
    assert (run / "trackio" / "writer.log").read_text() == "printed by trackio\n"


def test_a_writer_that_ends_early_ends_no_training(monkeypatch, tmp_path, stand_in, caplog):
    stand_in.write_text("raise ImportError('half installed')")
    start(monkeypatch, tmp_path / "run", PLAIN, "train.trackers=trackio")
    assert len(metric_rows(tmp_path / "run")) == 3
    said = [record.getMessage() for record in caplog.records if record.name == "msa_jax"]
    assert len(said) == 1
    assert said[0].startswith("trackio gets no more of this run: its process ended with 1;")
    assert "half installed" in (tmp_path / "run" / "trackio" / "writer.log").read_text()


def test_trackio_itself(monkeypatch, tmp_path):
    """The real one, which the environment tells to go elsewhere, with a home that stays empty."""
    pytest.importorskip("trackio", reason="trackio is an extra: pip install 'msa_jax[track]'")
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    for name in ("HOME", "HF_HOME", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://localhost:1/?write_token=x")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    for stop in (STEPS + 2, None):
        start(monkeypatch, run, PLAIN, "train.trackers=trackio", stop_at=stop)
    assert list(home.rglob("*")) == []
    with sqlite3.connect(run / "trackio" / "msa_jax.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    database.close()
    assert [(step, json.loads(text)) for step, text in rows] == [
        (row["epoch"], scalars(row)) for row in metric_rows(run)
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.trackers=trackio"], r"train\.trackers=trackio needs .* pip install 'msa_jax\[track\]'"),
        (["train.trackers=tensorboard"], r"train\.trackers=tensorboard .* 'msa_jax\[tensorboard\]'"),
        (["train.tensorboard=true"], r"train\.tensorboard=True .* 'msa_jax\[tensorboard\]'"),
    ],
)
def test_a_missing_extra_is_one_sentence_before_data_is_read(monkeypatch, tmp_path, settings, words):
    monkeypatch.setattr(loop, "load_dataset", lambda _: pytest.fail("data was read"))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        trackers.importlib.util, "find_spec", lambda n: None if n in ("trackio", "tensorboardX") else real(n)
    )
    with pytest.raises(ConfigError, match=words) as caught:
        loop.train_and_evaluate(load(f"{CONFIG}:lf_dnn,tiny", settings), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_names_are_checked_and_may_be_several():
    with pytest.raises(
        ConfigError, match=r"^train\.trackers='tensorbord' must be names out of tensorboard, "
    ):
        loop.check(load(f"{CONFIG}:lf_dnn", ["train.trackers=tensorbord"]))
    config = load(f"{CONFIG}:lf_dnn", ["train.trackers=trackio, tensorboard", "train.tensorboard=true"])
    assert chosen(config.train) == ["tensorboard", "trackio"]
