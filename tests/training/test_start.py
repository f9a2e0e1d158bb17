"""What is found wrong before training, and how a start that fails or is stopped leaves things."""

import json
import math
import pathlib
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import squared_error
from toy_run import metric_rows, start

from msa_jax.configuration import flatten, load
from msa_jax.errors import ConfigError, DataError, Interrupted, MsaJaxError, RunError
from msa_jax.models.objectives import Objective
from msa_jax.training import checks, loop, trackers

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = f"{ROOT}/configs/synthetic.py:lf_dnn,tiny"
PLAIN = Objective(squared_error)
WRONG = [
    "train.seed=-1", "train.seed=2147483648", "train.seed=99999999999", "train.epochs=0",
    "train.batch_size=0", "train.eval_batch_size=-2", "train.learning_rate=-1", "train.learning_rate=nan",
    "train.learning_rate=inf", "train.weight_decay=nan", "train.clip_norm=inf", "train.clip_value=-1",
    "train.warmup_epochs=nan", "train.plateau_factor=nan", "train.plateau_patience=-1", "train.accumulate=0",
    "train.min_delta=nan", "train.patience=-1", "train.chunk_steps=-1", "train.checkpoint_steps=-1",
    "train.devices=-1", "train.devices=99", "train.optimizer=sgd", "train.schedule=linaer",
    "train.precision=float16", "train.monitor=mea", "data.source=web", "data.metrics=msoi",
    "data.feature_norm=zscore", "data.reduce=men", "data.resident=sometimes", "data.resident_gib=nan",
    "data.buckets=0", "data.label_range=(1,)", "data.label_range=(1,-1)", "data.label_range=(0,'x')",
    "data.synthetic.seed=-1", "data.synthetic.counts=(48,16)", "data.synthetic.counts=(48,16,0)",
    "data.synthetic.counts=(48,16,1.5)", "data.synthetic.lengths=(9,9)", "data.synthetic.lengths=(0,9,9)",
    "model.name=lf_dmm",
]  # fmt: skip


def contents(folder):
    return {p: p.is_file() and p.read_bytes() for p in folder.rglob("*")} if folder.exists() else None


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_value_is_named_before_data_is_read_or_a_folder_made(monkeypatch, tmp_path, override):
    monkeypatch.setattr(loop, "load_dataset", lambda _: pytest.fail("data was read"))
    with pytest.raises(ConfigError) as caught:
        loop.train_and_evaluate(load(CONFIG, [override]), tmp_path / "new" / "run")
    assert override.partition("=")[0] in str(caught.value)
    assert contents(tmp_path / "new") is None


@pytest.mark.parametrize("override", ["train.seed=1.5", "train.tensorboard=2", "data.buckets=many"])
def test_a_value_of_another_type_is_refused_by_the_command_line(override):
    with pytest.raises(ConfigError):
        load(CONFIG, [override])


ANYTHING = (st.none(), st.booleans(), st.integers(-3, 2**33), st.floats(), st.text(max_size=3))
VALUES = st.one_of(*ANYTHING, st.tuples(st.integers()))


@settings(max_examples=300)
@given(key=st.sampled_from(sorted(checks.RULES | checks.CHOICES)), value=VALUES)
def test_whatever_a_file_sets_is_right_or_refused_by_name(key, value):
    config = load(CONFIG).unlock()
    *blocks, last = key.split(".")
    inner = config
    for name in blocks:
        inner = inner[name]
    with inner.ignore_type():
        inner[last] = value
    refused = None
    try:
        checks.check_values(config.lock())
    except ConfigError as error:
        refused = str(error)
    if refused is None:
        assert value is not None
        assert not isinstance(value, float) or math.isfinite(value)
    else:
        assert refused.startswith(f"{key}=")


def test_every_setting_of_data_and_training_is_checked():
    unchecked = [
        key
        for key in flatten(load(CONFIG))
        if key.startswith(("data.", "train."))
        and not key.startswith(("data.groups.", "data.expected.", "train.groups."))
        and key not in {**checks.RULES, **checks.CHOICES, "train.monitor": 0, "data.published": 0}
    ]
    assert unchecked == []


def test_a_setting_that_is_not_there_is_named():
    config = load(CONFIG).unlock()
    del config.train.chunk_steps
    with pytest.raises(ConfigError, match=r"has no train\.chunk_steps"):
        checks.check_values(config)


def test_column_groups_are_checked_before_reading():
    config = load(CONFIG).unlock()
    config.data.groups.audio.update({"odd": "1-x"})
    with pytest.raises(DataError, match="not a column list"):
        checks.check_values(config)


def test_a_missing_extra_is_named_before_data_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "load_dataset", lambda _: pytest.fail("data was read"))
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"msa_jax\[tensorboard\]"):
        loop.train_and_evaluate(load(CONFIG, ["train.tensorboard=true"]), tmp_path / "run")
    assert contents(tmp_path / "run") is None


@pytest.mark.parametrize("there", [True, False], ids=["folder was there", "folder was made"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [(DataError("broken."), DataError), (signal.SIGINT, Interrupted), (signal.SIGTERM, Interrupted)],
    ids=["data", "SIGINT", "SIGTERM"],
)
def test_a_start_that_ends_early_leaves_folder_and_signals_as_they_were(
    monkeypatch, tmp_path, there, fault, kind
):
    def read(_):
        assert (tmp_path / "a" / "run" / ".lock").exists(), "the folder is held by now"
        if isinstance(fault, Exception):
            raise fault
        signal.raise_signal(fault)
        pytest.fail("it went on")

    if there:
        (tmp_path / "a" / "run").mkdir(parents=True)
        (tmp_path / "a" / "run" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(loop, "load_dataset", read)
    with pytest.raises(kind) as caught:
        loop.train_and_evaluate(load(CONFIG), tmp_path / "a" / "run")
    assert contents(tmp_path) == before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    if kind is Interrupted:
        assert caught.value.exit_code == 128 + fault


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_training_saves_and_leaves_with_its_code(monkeypatch, tmp_path, number):
    asked = loop.Loop._asked_to_stop

    def ask(self):
        if int(self.state.step) == 2:
            signal.raise_signal(number)
        return asked(self)

    monkeypatch.setattr(loop.Loop, "_asked_to_stop", ask)
    caught = []

    def remember(config, workdir, *more, real=loop.train_and_evaluate):
        try:
            return real(config, workdir, *more)
        except MsaJaxError as error:
            caught.append(error)
            raise

    monkeypatch.setattr(loop, "train_and_evaluate", remember)
    stopped = start(monkeypatch, tmp_path, PLAIN, "train.checkpoint_steps=0")
    assert caught[0].exit_code == 128 + number
    assert "stopped and saved" in str(caught[0])
    assert stopped.checkpoints.step == 2


def test_a_run_without_a_checkpoint_binds_nobody(monkeypatch, tmp_path):
    """A first epoch that broke advises another learning rate; the folder must take it."""

    def broken(outputs, batch, memory):
        value, parts = squared_error(outputs, batch, memory)
        return value * np.nan, parts

    with pytest.raises(RunError, match="there is no checkpoint yet"):
        start(monkeypatch, tmp_path, Objective(broken), "train.checkpoint_steps=0")
    start(monkeypatch, tmp_path, PLAIN, "train.learning_rate=0.01", "train.checkpoint_steps=0")
    assert len(metric_rows(tmp_path)) == 3
    assert json.loads((tmp_path / "config.json").read_text())["train"]["learning_rate"] == 0.01
