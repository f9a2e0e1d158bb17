"""A wheel of the repository trains and scores on every Python that the package names, far from its checkout.

Takes what pip finds for each Python, as a user's installation does, and so needs a package index.
"""

import csv
import io
import math
import os
import pathlib
import pickle
import shutil
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: What a wheel is made of.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "msa_jax", "configs")
VERSIONS = ("3.11", "3.12", "3.13")
#: Prints where the interpreter is, once it is sure that environments can be made with it.
PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.'); print(sys.executable)"


def run(command: list[str], folder: pathlib.Path, **more: str) -> str:
    """What the command prints; nothing of this process's Python is in its environment."""
    own = ("PYTHON", "XLA_FLAGS", "VIRTUAL_ENV", "COV_", "PYTEST")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)} | more
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def interpreter(version: str, folder: pathlib.Path) -> str:
    """The path of a Python of this version, asked of itself; skips where there is none.

    A file named python3.12 is not enough: pyenv's runs only where it is told the version.
    """
    if found := shutil.which(f"python{version}"):
        environment = os.environ | {"PYENV_VERSION": version}
        done = subprocess.run(
            [found, "-c", PROBE], cwd=folder, capture_output=True, text=True, timeout=60, env=environment
        )
        if done.returncode == 0 and done.stdout.split()[0] == version:
            return done.stdout.split("\n")[1]
    pytest.skip(f"no python{version} on this machine that makes environments")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """The wheel, built from a copy, since building leaves files in the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    python = interpreter("3.11", folder)
    run([python, "-m", "venv", "env"], folder)
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip"]
    run([*pip, "wheel", "--quiet", "--no-deps", "-w", "made", str(source)], folder)
    [made] = (folder / "made").glob("msa_jax-*.whl")
    return made


def clips(path: pathlib.Path) -> pathlib.Path:
    """Three unlabelled clips with CH-SIMS's columns, which the generated data has, too."""
    rng = np.random.default_rng(0)
    steps = {"text": (9, 768), "audio": (12, 33), "vision": (10, 709)}
    content = {m: rng.normal(size=(3, *shape)).astype(np.float32) for m, shape in steps.items()}
    content |= {"id": ["one", "two", "three"], "audio_lengths": [12, 5, 1], "vision_lengths": [10, 4, 10]}
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_an_installed_wheel_trains_and_scores_in_an_empty_folder(version, tmp_path, wheel):
    python = interpreter(version, tmp_path)
    run([python, "-m", "venv", "env"], tmp_path)
    tools, empty = tmp_path / "env" / "bin", tmp_path / "empty"
    empty.mkdir()
    # Without compiling what is never imported, half of the time.
    run([str(tools / "python"), "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)], empty)
    place = run([str(tools / "python"), "-c", "import msa_jax; print(msa_jax.__file__)"], empty)
    assert pathlib.Path(place).is_relative_to(tmp_path / "env")

    program = str(tools / "msa-jax")
    # What is right for this Python's JAX, which the tests' own may not be.
    flags = "from msa_jax.studies.quick_compile import QUICK; print(QUICK)"
    quick = {"XLA_FLAGS": run([str(tools / "python"), "-c", flags], empty).strip()}
    said = run([program, "train", "--config=configs/synthetic.py:tiny", "--workdir=first"], empty, **quick)
    assert "report: first/report.html" in said
    assert [path.name for path in empty.iterdir()] == ["first"]
    asked = clips(tmp_path / "clips.pkl")
    rows = list(csv.DictReader(io.StringIO(run(
        [program, "predict", "--workdir=first", f"--input={asked}"], empty, **quick
    ))))  # fmt: skip
    assert [row["id"] for row in rows] == ["one", "two", "three"]
    assert all(math.isfinite(float(row["score"])) for row in rows)
    assert len({row["score"] for row in rows}) == 3
