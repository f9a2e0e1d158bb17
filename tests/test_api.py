"""What Python offers without a command line."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import msa_jax
from msa_jax.configuration import load
from msa_jax.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def test_a_configuration_from_python_is_that_of_the_command_line():
    made = msa_jax.config("sims", "mult", fg="vision", tiny=True, train__seed=3, **{"train.learning_rate": 1})
    overrides = ["train.seed=3", "train.learning_rate=1"]
    assert made == load(str(ROOT / "configs" / "sims.py") + ":mult,tiny,fg=vision", overrides)
    assert type(made.train.learning_rate) is float
    assert msa_jax.config("mosi", data__path=Path("clips.pkl")).data.path == "clips.pkl"
    assert msa_jax.config("synthetic", data__synthetic__counts=[4, 3, 2]).data.synthetic.counts == (4, 3, 2)


@pytest.mark.parametrize(
    ("data", "overrides", "says"),
    [
        ("mos", {}, "did you mean 'configs/mosi.py'"),
        ("mosi", {"train__lr": 1}, "train.learning_rate"),
        ("mosi", {"train__seed": "three"}, "train.seed='three' is not a whole number"),
        ("mosi", {"train__tensorboard": 1}, "train.tensorboard=1 is not true or false"),
        ("mosi", {"preset": "mosii"}, "did you mean 'mosi'"),
        ("mosi", {"train": 1}, "is a block"),
    ],
)
def test_mistakes_are_one_sentence(data, overrides, says):
    with pytest.raises(ConfigError, match=f"(?i){says}"):
        msa_jax.config(data, "lf_dnn", **overrides)


def test_a_run_from_python_leaves_its_report(tmp_path):
    config = msa_jax.config(
        "synthetic",
        "lf_dnn",
        tiny=True,
        train__epochs=1,
        train__devices=1,
        **{"data.synthetic.counts": (12, 5, 5), "data.synthetic.lengths": (9, 12, 10)},
    )
    result = msa_jax.train(config, tmp_path / "run")
    assert {"test", "valid", "best_epoch", "parameters"} <= set(result)
    assert (tmp_path / "run" / "report.html").is_file()
    assert msa_jax.load(tmp_path / "run").config == config


def test_every_public_name_is_there():
    assert msa_jax.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in ("commands.train", "inference", "configuration", "training.loop"):
        importlib.import_module(f"msa_jax.{name}")  # none of which may take the place of a function
    assert all(callable(getattr(msa_jax, name)) for name in ("config", "load", "train"))
    assert (ROOT / "msa_jax" / "py.typed").exists()


def test_a_wheel_would_hold_every_package_and_the_configurations():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "msa_jax").rglob("*.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    shipped = {"msa_jax.shipped.configs": "configs"}
    shipped |= {f"msa_jax.shipped.configs.{kind}": f"configs/{kind}" for kind in ("spaces", "studies")}
    assert set(settings["packages"]) == found | set(shipped)
    assert settings["package-dir"] == shipped


def test_shipped_configurations_are_found_from_any_folder(tmp_path):
    words = ["summarize", "--config=configs/mosi.py:lf_dnn,tiny", "--count=thop", "--json"]
    command = [sys.executable, "-m", "msa_jax", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"model": "lf_dnn"' in done.stdout
