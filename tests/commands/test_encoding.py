"""Names that the terminal cannot show are printed as escapes, by every command."""

import io
import pathlib
import shutil
import sys

import feature_files
import numpy as np
import pytest

from msa_jax import commands
from msa_jax.errors import run_command

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD_RUN = ROOT / "tests" / "training" / "run_7c667cb"
CLIP = "视频_0001"


@pytest.fixture
def home(tmp_path):
    """A folder with a Chinese name that holds a run and a feature file with Chinese clip names and a NaN."""
    folder = tmp_path / "数据"
    shutil.copytree(OLD_RUN, folder / "运行")
    data = feature_files.content()
    for part in data.values():
        part["id"] = [f"{CLIP}{name}" for name in part["id"]]
        part["raw_text"] = ["你好"] * len(part["id"])
        part["audio"][0, 0, 0] = np.nan
    data["valid"]["id"][0] = data["test"]["id"][0]
    feature_files.write(folder / "特征.pkl", data)
    return folder


def run(monkeypatch, *words, encoding="cp1252"):
    """What a command prints where standard output and error are encoded so; (exit code, out, err)."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["msa-jax", *map(str, words)])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as ended:
            run_command(commands.main)
        texts = [stream.buffer.getvalue() for stream in streams]
    return ended.value.code, *texts


ESCAPED = b"\\u6570\\u636e"  # 数据


def test_check_data(monkeypatch, home):
    code, out, err = run(monkeypatch, "check-data", home / "特征.pkl")
    assert (code, err) == (0, b"")
    assert CLIP.encode("cp1252", "backslashreplace")[:6] in out.replace(b"\n", b"")


def test_convert(monkeypatch, home):
    code, out, err = run(monkeypatch, "convert", home / "特征.pkl", home / "转换")
    assert code == 0, err
    assert b"\\u" in out + err


def test_predict(monkeypatch, home):
    words = ("predict", f"--workdir={home / '运行'}", f"--input={home / '特征.pkl'}")
    code, out, err = run(monkeypatch, *words)
    assert code == 0
    assert CLIP in out.decode(), "the answer is a file of its own and always UTF-8"
    code, out, err = run(monkeypatch, *words, f"--out={home / '分数.csv'}")
    assert code == 0, err
    assert ESCAPED in err


def test_export(monkeypatch, home):
    words = ("export", f"--workdir={home / '运行'}", "--format=safetensors", f"--out={home / '导出'}")
    code, out, err = run(monkeypatch, *words)
    assert code == 0, err
    assert ESCAPED in (out + err).replace(b"\n", b"")


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config=configs/mosi.py", "--workdir={}/x", "--config.data.path={}/没有.pkl"),
        ("report", "--workdir={}/运行"),
        ("summarize", "--config={}/没有.py"),
        ("check-data", "{}/没有.pkl"),
        pytest.param(
            (
                "import-mmsa",
                "--model=mult",
                "--state={}/没有.pth",
                "--config=configs/mosi.py",
                "--workdir={}/x",
            ),
            marks=pytest.mark.extras,
        ),
    ],
    ids=lambda words: words[0],
)
def test_errors(monkeypatch, home, words):
    monkeypatch.chdir(ROOT)
    code, _, err = run(monkeypatch, *(word.format(home) for word in words))
    if words[0] == "import-mmsa" and b"[torch]" in err:
        pytest.skip("torch is not installed")
    assert code == 2
    assert ESCAPED in err
    assert b"Traceback" not in err
