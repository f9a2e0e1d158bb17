"""The notebooks: run from end to end, without outputs, and with the package's own requirements."""

import ast
import pathlib
import sys
import tomllib

import feature_files
import nbclient
import nbformat
import numpy as np
import pytest

from msa_jax.studies.quick_compile import QUICK

ROOT = pathlib.Path(__file__).parents[2]
TRAINING, SCORING = ROOT / "launch" / "colab_tpu.ipynb", ROOT / "launch" / "colab_predict.ipynb"
NOTEBOOKS = (TRAINING, SCORING)


def tags(cell):
    return cell.metadata.get("tags", [])


def tagged(notebook, tag):
    [cell] = [cell for cell in notebook.cells if tag in tags(cell)]
    return cell


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel on this interpreter, with its files below ``tmp_path``, quick to compile."""
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    folder = tmp_path / "JUPYTER_DATA_DIR" / "kernels" / "python3"
    folder.mkdir(parents=True)
    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = str(command).replace("'", '"')
    (folder / "kernel.json").write_text(f'{{"argv": {words}, "display_name": "tests", "language": "python"}}')


def execute(path, settings):
    """Runs a notebook as Colab would, but for the Drive and the installation; returns what it shows."""
    notebook = nbformat.read(path, as_version=4)
    known = {
        target.id for node in ast.parse(tagged(notebook, "parameters").source).body for target in node.targets
    }
    assert set(settings) <= known
    cells = []
    for cell in notebook.cells:
        if not {"colab", "install"} & set(tags(cell)):
            cells.append(cell)
        if "parameters" in tags(cell):
            lines = [f"{name} = {str(value)!r}" for name, value in settings.items()]
            cells.append(nbformat.v4.new_code_cell("\n".join(lines)))
    notebook.cells = cells
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3").execute()
    shown = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in shown if output.output_type == "stream")
    return text, [output.data for output in shown if "data" in output]


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
def test_training_then_scoring(tmp_path):
    data = feature_files.write(tmp_path / "my clips.pkl", feature_files.content())
    runs = tmp_path / "runs"
    text, shown = execute(TRAINING, {"REPOSITORY": ROOT, "RUNS": runs, "DATA": data, "MODEL": "lf_dnn,tiny"})
    assert "CpuDevice" in text
    assert (runs / "synthetic-lf_dnn,tiny" / "result.json").exists()
    assert f"{runs / 'mosi-lf_dnn,tiny'}: " in text
    assert "acc2_has0" in text
    [report] = [data["text/html"] for data in shown if "text/html" in data]
    assert report.startswith("<iframe srcdoc=")
    assert "lf_dnn on" in report

    export = runs / "mosi-lf_dnn,tiny-export"
    scores = tmp_path / "scores.csv"
    names = {"REPOSITORY": ROOT, "EXPORT": export, "CLIPS": data, "SPLIT": "test", "SCORES": scores}
    text, shown = execute(SCORING, names)
    assert "4 clips, scores from" in text
    assert any("image/png" in data for data in shown)
    predictions = (runs / "mosi-lf_dnn,tiny" / "predictions.csv").read_text().splitlines()[1:]
    rows = [row.split(",") for row in predictions if row.startswith("test,")]
    answers = dict(line.split(",") for line in scores.read_text().splitlines()[1:])
    assert set(answers) == {row[1] for row in rows}
    for _, clip, _, score, *_ in rows:
        np.testing.assert_allclose(float(answers[clip]), float(score), atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
def test_a_command_that_fails_stops_the_notebook(tmp_path):
    with pytest.raises(nbclient.exceptions.CellExecutionError) as error:
        execute(TRAINING, {"REPOSITORY": ROOT, "RUNS": tmp_path, "MODEL": "no_such_model"})
    assert "msa_jax.main ended with code 2; the lines above say why" in str(error.value)
    assert not list(tmp_path.glob("synthetic*"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_installation_has_the_requirements_of_the_package(path):
    source = tagged(nbformat.read(path, as_version=4), "install").source
    pins = ast.literal_eval(source[source.index("[") : source.index("]\n") + 1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pins == project["dependencies"]
    assert "%pip install" in source
    assert "{pin}" in source


def test_colab_has_what_the_package_requires():
    """The versions that Colab ships lie within the package's bounds, so that nothing is replaced."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(requirement.split(">=") for requirement in project["dependencies"])
    lines = (ROOT / "launch" / "colab_versions.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(versions) & set(bounds) == {"flax", "jax", "numpy", "optax", "orbax-checkpoint"}
    for name in set(versions) & set(bounds):
        assert _numbers(versions[name]) >= _numbers(bounds[name]), name


def _numbers(version):
    return [int(part) for part in version.split(".")]
