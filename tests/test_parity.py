"""Every golden file whose model is here, and the command that compares them."""

import json
import pathlib

import numpy as np
import parity
import parity_blocks
import parity_models
import pytest
from conftest import GOLDEN, small_tiles
from parity_errors import Errors

from msa_jax.weights.peers import PEERS


def model_of(path: pathlib.Path) -> str:
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["meta"]))["model"]


FILES = {path.name: model_of(path) for path in sorted(GOLDEN.glob("*_a.npz"))}
READY = [f for f, m in FILES.items() if parity_models.our_name(m) in PEERS or m in parity_blocks.BLOCKS]


@pytest.mark.parametrize("name", [f for f in READY if parity_models.our_name(FILES[f]) in PEERS])
def test_outputs_are_equal(name):
    errors = parity.check(GOLDEN / name, outputs_only=True)
    assert not errors.over(), {k: errors.scaled[k] for k in errors.over()}
    outputs = {k for k in errors.arrays if k.startswith("out/") and "/aligned_" not in k}
    assert outputs
    assert outputs <= errors.scaled.keys()


@pytest.mark.parametrize("name", READY)
def test_everything_in_the_file_is_equal(name):
    errors = parity.check(GOLDEN / name)
    assert not errors.over(), {k: errors.scaled[k] for k in errors.over()}
    kinds = ("out/", "loss", "grad", "train/out", "train/loss", "train/grad", "out1/")
    expected = {k for k in errors.arrays if k.startswith(kinds)}
    expected |= {k for k in errors.arrays if k.startswith("train/state_after") and "num_batches" not in k}
    assert expected <= errors.scaled.keys()


@pytest.mark.parametrize("name", [f for f in READY if FILES[f].lower() in ("mult", "tetfn")])
def test_attention_in_tiles_is_equal_too(name):
    """The golden clips are too short for tiles, which is what a CPU computes real ones in."""
    with small_tiles(steps=24, weights=24 * 24) as traced:
        errors = parity.check(GOLDEN / name)
    assert not errors.over(), {k: errors.scaled[k] for k in errors.over()}
    assert set(traced) == {"_forward_in_tiles", "_backward_in_tiles"}


def test_the_command_prints_the_errors_and_fails_on_one_over(tmp_path, capsys):
    good = GOLDEN / "lf_dnn_a.npz"
    with np.load(good, allow_pickle=False) as file:
        arrays = dict(file)
    arrays["out/M"] = arrays["out/M"] + 2e-5 * np.abs(arrays["out/M"]).max()
    bad = tmp_path / "bad.npz"
    np.savez(bad, **arrays)
    assert parity.main([str(good), str(bad), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report[str(good)]["ok"]
    assert report[str(bad)]["over"] == ["out/M"]
    assert 1 < report[str(bad)]["largest"]["out"] < 3
    assert parity.main([str(good)]) == 0


def test_the_tolerance_is_the_written_one():
    errors = Errors({"out/x": np.array([4.0]), "grad/a": np.array([1e-9]), "grad/b": np.array([-2.0])})
    errors.compare("out/x", [4.0 + 3.9e-5])
    errors.compare_gradient("grad/a", [2.1e-7], [1e-9])  # floor: 1e-2 of the largest gradient, 2
    assert errors.scaled["out/x"] == pytest.approx(0.975)
    assert errors.over() == ["grad/a"]
    errors.compare("out/x", [np.nan])
    errors.compare("out/x", [[4.0]])
    assert errors.largest()["out"] == np.inf
