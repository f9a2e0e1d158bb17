"""``--profile``: a trace of steps that compile nothing."""

import gzip
import json

import pytest
from toy import squared_error
from toy_run import start

from msa_jax.errors import RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import loop, profiling

PLAIN = Objective(squared_error)


def traced(folder):
    """The names of what the trace in ``folder`` holds."""
    (path,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return {event.get("name", "") for event in events}


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [((), 4), (("train.epochs=1",), 3), (("train.batch_size=2", "train.chunk_steps=4"), 12)],
    ids=["the second epoch", "an only epoch after its first step", "no more than asked"],
)
def test_a_trace_of_steady_steps_is_written(monkeypatch, tmp_path, caplog, overrides, steps):
    caplog.set_level("INFO", "msa_jax")
    start(monkeypatch, tmp_path / "run", PLAIN, *overrides, profile=str(tmp_path / "new" / "trace"))
    names = traced(tmp_path / "new" / "trace")
    assert any("train_chunk" in name for name in names)
    assert not any("backend_compile" in name for name in names)
    said = [message for message in caplog.messages if message.startswith("profile: ")]
    assert len(said) == 1
    assert f"a trace of {steps} steps lies in {tmp_path / 'new' / 'trace'}; " in said[0]


def test_where_every_step_is_the_first_nothing_is_traced_and_that_is_said(monkeypatch, tmp_path, caplog):
    start(
        monkeypatch,
        tmp_path / "run",
        PLAIN,
        "train.epochs=1",
        "train.batch_size=30",
        profile=str(tmp_path / "t"),
    )
    assert not (tmp_path / "t").exists()
    assert "no trace was written" in caplog.text


def test_a_run_that_stops_closes_its_trace(monkeypatch, tmp_path):
    start(monkeypatch, tmp_path / "run", PLAIN, profile=str(tmp_path / "t"), stop_at=6)
    assert any("train_chunk" in name for name in traced(tmp_path / "t"))


def test_a_folder_that_cannot_be_is_told_before_data_is_read(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(loop, "check", lambda _: None)
    monkeypatch.setattr(loop, "load_dataset", lambda _: pytest.fail("data was read"))
    with pytest.raises(RunError, match=r"--profile=.*file/trace: .*file is no folder that can be written"):
        loop.train_and_evaluate(None, tmp_path / "run", str(tmp_path / "file" / "trace"))
    assert not (tmp_path / "run").exists()
    profiling.check_folder("")
