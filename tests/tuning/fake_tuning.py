"""A tuning whose trials only pretend to train, so that what is around them can be tested in no time."""

import csv
import pathlib

import pytest

from msa_jax.data.dataset import Dataset
from msa_jax.tuning import run

CONFIG = "configs/synthetic.py:lf_dnn,tiny"
SPACE = """
from msa_jax.tuning.space import Number, OneOf, Space, Whole

def get_space(argument):
    rates = Number(1e-4, 1e-2, log=True)
    widths = OneOf((8, 4), (16, 8))
    return Space({"train.learning_rate": rates, "model.text_out, model.post_fusion_dim": widths,
                  "train.accumulate": Whole(1, 4)})
"""


def score_of(settings):
    """Best at the lowest rate."""
    return settings["train.learning_rate"] * 100 + settings["train.accumulate"] / 1000


class Fake:
    """Stands in for the training: notes each trial that it is given, and gives what ``outcome`` says.

    Args:
      folder: of the test; the space file is written into it.
      outcome: (trial, monitor's name) -> validation score; may raise.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, outcome=None):
        self.space = folder / "mine.py"
        self.space.write_text(SPACE)
        self.workdir = folder / "tuning"
        self.outcome = outcome or (lambda trial, _monitor: score_of(trial.settings))
        self.trained: list[tuple[int, dict]] = []
        self.opened = 0
        monkeypatch.setattr(run, "train_trial", self.train)
        monkeypatch.setattr(run, "load_dataset", self.open)

    def open(self, _data) -> Dataset:
        self.opened += 1
        return Dataset(None, {})  # type: ignore[arg-type]  (nobody looks into it)

    def train(self, trial, base, _folder):
        self.trained.append((trial.number, dict(trial.settings)))
        value = self.outcome(trial, base.train.monitor)
        return {"valid": {base.train.monitor: value}, "best_epoch": 2, "seconds": 1.5}

    def tune(self, *overrides, trials=6, seed=7, workdir=None):
        return run.tune(CONFIG, str(self.space), workdir or self.workdir, overrides, trials, seed)

    def rows(self) -> list[dict]:
        with open(self.workdir / "trials.csv") as file:
            return list(csv.DictReader(file))
