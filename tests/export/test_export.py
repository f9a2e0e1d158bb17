"""The export command: what it writes runs elsewhere, and it leaves nothing where something is wrong."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import random_run

import msa_jax
from msa_jax.commands import export
from msa_jax.errors import MsaJaxError, RunError
from msa_jax.export import checking, exporting, onnx, program, stablehlo

#: Runs a script in a Python in which our package and Flax cannot be imported.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('msa_jax', 'flax', 'optax'):
            raise ImportError(name + ' is refused')
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Gives a run of LF-DNN with random weights from a seed."""
    base = tmp_path_factory.mktemp("runs")

    def run(seed: int = 1, *overrides: str) -> pathlib.Path:
        folder = base / "-".join([str(seed), *overrides]).replace("/", "_")
        return folder if folder.exists() else random_run.make(folder, "lf_dnn", *overrides, seed=seed)

    return run


def arguments(
    form: str, out: pathlib.Path, *workdirs: pathlib.Path, combine: str = "predictions"
) -> list[str]:
    return [*(f"--workdir={w}" for w in workdirs), f"--format={form}", f"--out={out}", f"--combine={combine}"]


def alone(*words) -> str:
    """What a script prints where our package is not there; its folder is imported from."""
    script = pathlib.Path(words[0])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(script.parent)!r})\n{ALONE}"]
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def clips_file(path: pathlib.Path, clips) -> pathlib.Path:
    lengths = {f"{m}_lengths": n for m, n in clips.lengths.items()}
    np.savez(path, allow_pickle=False, **clips.values, **lengths)
    return path


def test_a_program_runs_with_jax_alone(runs, tmp_path, capsys):
    assert export.main(arguments("stablehlo", tmp_path / "out", runs())) == 0
    said = capsys.readouterr().out
    assert "on random clips" in said
    assert "on real clips" in said
    trained = msa_jax.load(runs())
    clips = checking.random_clips(trained, 3)
    file = clips_file(tmp_path / "clips.npz", clips)
    header, *rows = alone(tmp_path / "out" / "run.py", file).splitlines()
    assert header == "M"
    np.testing.assert_allclose(np.array(rows, float), trained.predict(clips)["M"], atol=1e-5)


@pytest.mark.parametrize("form", ["stablehlo", pytest.param("onnx", marks=pytest.mark.extras)])
def test_a_program_reads_clips_without_a_modality_as_the_run_does(runs, tmp_path, form):
    if form == "onnx":
        pytest.importorskip("jax2onnx")
        pytest.importorskip("onnxruntime")
    folder = runs(
        1, "train.corrupt=modalities", "train.corrupt_modalities=('audio',)", "train.placeholder=learned"
    )
    exporting.export([folder], form, tmp_path / "out")
    spec = json.loads((tmp_path / "out" / "spec.json").read_text())
    assert spec["preprocessing"]["may_lack"] == ["audio"]
    trained = msa_jax.load(folder)
    clips = checking.random_clips(trained, 3)
    silent = dataclasses.replace(clips, lengths={**clips.lengths, "audio": np.zeros(3, np.int32)})
    read = {"stablehlo": stablehlo, "onnx": onnx}[form].read(tmp_path / "out")
    written = checking.scorer(program.build([trained]), read)(silent)["M"]
    np.testing.assert_allclose(written, trained.predict(silent)["M"], atol=1e-5)
    assert np.abs(written - trained.predict(clips)["M"]).max() > 1e-4
    with pytest.raises(MsaJaxError, match="have no audio"):
        msa_jax.load(runs()).predict(silent)


def test_spec_and_card_say_what_went_in(runs, tmp_path):
    export.main(arguments("safetensors", tmp_path / "out", runs()))
    spec = json.loads((tmp_path / "out" / "spec.json").read_text())
    trained = msa_jax.load(runs())
    scaling = spec["preprocessing"]
    assert (scaling["feature_norm"], scaling["reduction"]) == ("zscore_train", "mean")
    for constant in ("mean", "std"):
        expected = np.asarray(getattr(trained.model_spec.modalities["audio"], constant), np.float32)
        np.testing.assert_array_equal(np.asarray(scaling[constant]["audio"], np.float32), expected)
    assert scaling["groups"]["audio"]
    assert [r["name"] for r in spec["inputs"]] == [
        "text",
        "text_lengths",
        "audio",
        "audio_lengths",
        "vision",
        "vision_lengths",
    ]
    assert spec["inputs"][0]["shape"] == ["batch", "text_steps", 768]
    assert [r["name"] for r in spec["outputs"]] == ["M"]
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    for part in ("## Data", "## Results", "## Limits", "## Licence", "says nothing about people"):
        assert part in card


def test_orbax_reads_weights_without_us(runs, tmp_path):
    export.main(arguments("orbax", tmp_path / "out", runs()))
    script = tmp_path / "read.py"
    script.write_text(
        "import sys, numpy as np, orbax.checkpoint as ocp\n"
        "tree = ocp.StandardCheckpointer().restore(sys.argv[1])\n"
        "print(float(np.sum(tree['params']['post_fusion']['linear_1']['kernel'])))\n"
    )
    found = float(alone(script, tmp_path / "out" / "checkpoint"))
    kernel = np.asarray(msa_jax.load(runs()).params["post_fusion"]["linear_1"]["kernel"])
    assert found == pytest.approx(kernel.sum().item(), rel=1e-6)


def test_several_runs_answer_with_their_mean(runs, tmp_path):
    folders = [runs(1), runs(2), runs(3)]
    exporting.export(folders, "stablehlo", tmp_path / "out")
    loaded = program.load_runs(folders)
    clips = checking.random_clips(loaded[0], 4)
    single = [run.predict(clips)["M"] for run in loaded]
    written = checking.scorer(program.build(loaded), stablehlo.read(tmp_path / "out"))(clips)["M"]
    np.testing.assert_allclose(written, np.mean(single, axis=0), atol=1e-5)
    assert np.abs(written - single[0]).max() > 1e-3


def test_weights_of_several_runs_are_averaged(runs, tmp_path):
    folders = [runs(1), runs(2)]
    export.main(arguments("safetensors", tmp_path / "out", *folders, combine="average"))
    found = checking_variables(tmp_path / "out")
    one, two = (np.asarray(msa_jax.load(f).params["post_fusion"]["linear_1"]["kernel"]) for f in folders)
    np.testing.assert_allclose(found, (one + two) / 2, rtol=1e-6)
    assert json.loads((tmp_path / "out" / "spec.json").read_text())["seeds"] == [1, 2]


def checking_variables(folder):
    from msa_jax.export.safetensors import load_safetensors

    return load_safetensors(folder)[0]["params"]["post_fusion"]["linear_1"]["kernel"]


@pytest.mark.parametrize(
    ("form", "combine", "other", "says"),
    [
        ("stablehlo", "predictions", (2, "model.post_fusion_dim=5"), "model.post_fusion_dim"),
        ("safetensors", "predictions", (2,), "--combine=average"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(runs, tmp_path, form, combine, other, says):
    with pytest.raises(RunError, match=says):
        export.main(arguments(form, tmp_path / "out", runs(1), runs(*other), combine=combine))
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_an_error_and_leaves_nothing(runs, tmp_path, monkeypatch):
    read = stablehlo.read

    def wrong(folder):
        run = read(folder)
        return lambda inputs: {task: y + 2e-4 for task, y in run(inputs).items()}

    monkeypatch.setattr(stablehlo, "read", wrong)
    with pytest.raises(RunError, match=r"differs from the run's by 0\.0002"):
        export.main(arguments("stablehlo", tmp_path / "out", runs()))
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_sentence(runs, tmp_path):
    with pytest.raises(MsaJaxError, match="give the --workdir of a run"):
        export.main(arguments("orbax", tmp_path / "out", tmp_path / "no run"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(MsaJaxError, match="exists already"):
        export.main(arguments("orbax", tmp_path / "out", runs()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_onnx_takes_the_nearest_form_that_works(runs, tmp_path, monkeypatch, capsys):
    """With a stand-in for the converter, which can do nothing but fixed steps."""

    def write(made, folder):
        if made.steps["text"] == "text_steps":
            raise NotImplementedError("a free number of steps")
        stablehlo.write(made, folder)

    for name, function in (("require", lambda: None), ("write", write), ("read", stablehlo.read)):
        monkeypatch.setattr(onnx, name, function)
    export.main(arguments("onnx", tmp_path / "out", runs()))
    assert "a free number of steps" in capsys.readouterr().err
    spec = json.loads((tmp_path / "out" / "spec.json").read_text())
    assert spec["inputs"][0]["shape"] == ["batch", 9, 768]
    assert "the number of steps is fixed" in spec["note"]
    assert "a free number of steps" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_onnx_without_its_extra_says_what_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(RunError, match=r"pip install 'msa_jax\[onnx\]'"):
        export.main(arguments("onnx", tmp_path / "out", runs()))
    assert list(tmp_path.iterdir()) == []
