"""From clips to a store and to a score: the commands as a user has them, and what goes wrong on the way."""

import csv
import dataclasses
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import encoder_files
import numpy as np
import pytest
from media_files import pictures, tone, write_clip

import msa_jax
from msa_jax.commands import check_data, explain, extract, predict, report
from msa_jax.data import mmsa, store
from msa_jax.data.recipe import Part
from msa_jax.errors import ConfigError, DataError
from msa_jax.export import exporting
from msa_jax.media import pool
from msa_jax.media.clips import find
from msa_jax.media.extraction import Plan, encoder_sum
from msa_jax.media.folder import Folder
from msa_jax.media.fresh import plan_like, windows

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def write_clips(folder, count=8, seconds=0.8):
    """Tones with transcripts; the score follows the pitch."""
    rows = [["clip", "id", "transcript", "label", "split", "speaker"]]
    for k in range(count):
        name = f"clip {k}.wav"
        write_clip(folder / name, tone(seconds + 0.1 * (k % 3), pitch=150 + 60 * k))
        split = ("train", "valid", "test")[0 if k < count - 4 else 1 + k % 2]
        rows.append([name, f"c{k}", f"words of clip {k}", f"{k / count * 2 - 1:.2f}", split, f"s{k % 3}"])
    with open(folder / "clips.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A manifest, the folder that was extracted from it, and a run trained on that."""
    for package in ("av", "librosa"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("media")
    manifest = write_clips(folder)
    encoder_files.folder(folder / "encoder")
    assert extract.main([str(manifest), *options(folder, folder / "store")]) == 0
    config = msa_jax.config("mosi", "lf_dnn", tiny=True, data__path=str(folder / "store"))
    msa_jax.train(config, folder / "run")
    return folder


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def options(folder, out, *more):
    return [f"--out={out}", "--vision=none", f"--encoder={folder / 'encoder'}", "--jobs=2", *more]


@pytest.mark.extras
def test_the_store_holds_what_was_extracted_and_how(made):
    dataset = store.read(made / "store", verify=True)
    assert dataset.spec.counts == {"train": 4, "valid": 2, "test": 2}
    assert dataset.spec.label_range == (-1.0, 1.0)
    recipe = dataset.spec.recipe
    assert [recipe[m].extractor for m in ("text", "audio", "vision")] == ["bert", "librosa33", "none"]
    assert list(dataset.spec.modalities["audio"].groups) == ["zcr", "mfcc", "cqt"]
    train = dataset.splits["train"]
    assert train.ids.tolist() == ["c0", "c1", "c2", "c3"]
    assert train.lengths["vision"].tolist() == [0] * 4
    steps = [1 + int((0.8 + 0.1 * (k % 3)) * 22050) // 512 for k in range(4)]
    np.testing.assert_allclose(train.lengths["audio"], steps, atol=1)
    assert train.clip_columns["speaker"].tolist() == ["s0", "s1", "s2", "s0"]
    assert train.raw_text is not None
    assert train.raw_text[1] == "words of clip 1"
    assert train.media is not None
    assert train.media.tolist() == [str((made / f"clip {k}.wav").resolve()) for k in range(4)]
    assert not list((made / "store").glob(".[ms]*"))  # nothing half-written is left


@pytest.mark.extras
def test_a_clip_scores_as_its_features_do(made, tmp_path, capsys):
    run, store_ = made / "run", made / "store"
    known = msa_jax.load(run).predict(store_)
    wanted = float(known["M"][known["id"].tolist().index("c5")])
    (tmp_path / "c5.csv").write_text(f"clip,transcript\n{made / 'clip 5.wav'},words of clip 5\n")
    found = msa_jax.load(run).predict(tmp_path / "c5.csv")
    assert found["M"][0] == pytest.approx(wanted, abs=1e-5)
    out = tmp_path / "scores.csv"
    arguments = [f"--workdir={run}", f"--input={tmp_path / 'c5.csv'}", f"--out={out}"]
    assert predict.main([*arguments, "--window=60"]) == 0
    rows = table(out)
    assert (rows[0]["id"], rows[0]["start"], rows[0]["words"]) == ("clip 5", "0", "words of clip 5")
    assert float(rows[0]["score"]) == pytest.approx(wanted, abs=1e-5)
    plot = tmp_path / "curve.png"
    assert predict.main([*arguments, "--window=0.4", "--stride=0.2", f"--plot={plot}"]) == 0
    rows = table(out)
    np.testing.assert_allclose([float(row["start"]) for row in rows], [0, 0.2, 0.4, 0.6])
    assert plot.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


@pytest.mark.extras
def test_the_places_of_files_reach_the_page_of_clips_and_nothing_else(made, tmp_path, capsys):
    explorer = made / "run" / "explorer.html"
    report.main([f"--workdir={made / 'run'}"])
    assert explorer.read_text().count((made / "clip 5.wav").resolve().as_uri()) == 1
    assert "name the folder of the clips with --media" not in capsys.readouterr().out
    explorer.unlink()
    exporting.export([made / "run"], "safetensors", tmp_path / "export")
    written = [path for folder in (made / "run", tmp_path / "export") for path in folder.rglob("*")]
    written += [made / "store" / "spec.json", made / "store" / "manifest.json"]
    assert len(written) > 10
    for path in written:
        assert path.is_dir() or b".wav" not in path.read_bytes(), path


@pytest.mark.extras
def test_a_clip_that_fails_stops_no_other_from_being_explained(made, tmp_path, capfd):
    write_clip(tmp_path / "good.wav", tone(0.7))
    (tmp_path / "good.txt").write_text("words of clip")
    (tmp_path / "bad.wav").write_text("no sound")
    arguments = [f"--workdir={made / 'run'}", f"--input={tmp_path}"]
    assert explain.main(arguments) == 1
    said = capfd.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["good"]
    assert said.err.count("bad.wav is not a video or sound file") == 1
    assert predict.main(arguments) == 1
    said = capfd.readouterr()
    assert [row["id"] for row in csv.DictReader(said.out.splitlines())] == ["good"]
    assert said.err.count("bad.wav is not a video or sound file") == 1


@pytest.mark.extras
def test_what_is_done_is_not_done_again_and_what_failed_is_listed(made, tmp_path, capsys):
    manifest = write_clips(tmp_path, count=5)
    with manifest.open("a") as file:
        file.write("bad.wav,bad,words,0.5,train,s\n")
    (tmp_path / "bad.wav").write_text("no sound")
    out = tmp_path / "store"
    assert extract.main([str(manifest), *options(made, out)]) == 1
    (row,) = table(out / "failed.csv")
    assert row["clip"] == "bad"
    assert "is not a video or sound file" in row["reason"]
    assert sum(store.read(out).spec.counts.values()) == 5
    before = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    write_clip(tmp_path / "bad.wav", tone(0.5))
    write_clip(tmp_path / "clip 1.wav", tone(0.7, pitch=400))
    assert extract.main([str(manifest), *options(made, out, "--format=pickle")]) == 0
    assert "4 of 6 clips are done already." in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert sum(after[path] == when for path, when in before.items()) == 4
    assert not (out / "failed.csv").exists()
    dataset = store.read(out, verify=True)
    assert sum(dataset.spec.counts.values()) == 6
    splits, _ = mmsa.read(out / "features.pkl")
    for name, split in dataset.splits.items():
        np.testing.assert_array_equal(splits[name].values["audio"], split.values["audio"])
        np.testing.assert_array_equal(splits[name].lengths["audio"], split.lengths["audio"])
    with pytest.raises(DataError, match=r"holds features of another recipe \(audio: extractor none, trained"):
        extract.main([str(manifest), *options(made, out, "--audio=none")])


@pytest.mark.extras
def test_after_a_kill_the_same_command_goes_on(made, tmp_path):
    manifest = write_clips(tmp_path, count=30, seconds=4)
    out = tmp_path / "store"
    command = [sys.executable, "-m", "msa_jax", "extract", str(manifest), *options(made, out, "--jobs=1")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while len(list(out.glob("clips/*.npz"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(list(out.glob("clips/*.npz")))
    assert 2 <= done < 30
    assert not (out / "manifest.json").exists()
    with pytest.raises(DataError, match="is no store"):
        store.read(out)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert " of 30 clips are done already." in finished.stdout
    assert sum(store.read(out, verify=True).spec.counts.values()) == 30


@pytest.mark.extras
def test_a_model_takes_no_features_of_another_recipe(made, tmp_path, monkeypatch):
    trained = msa_jax.load(made / "run")
    audio = trained.spec.recipe["audio"]
    newer = dataclasses.replace(audio, packages={"librosa": "99.0.0"})
    monkeypatch.setattr("msa_jax.media.sound.part", lambda _: newer)
    with pytest.raises(DataError, match=r"librosa 99\.0\.0, trained with"):
        trained.predict(made / "clip 5.wav")
    spec = json.loads((made / "store" / "spec.json").read_text())
    spec["recipe"]["audio"]["arguments"]["rate"] = 16000
    other = tmp_path / "other"
    dataset = store.read(made / "store")
    recipe = {**dataset.spec.recipe, "audio": dataclasses.replace(audio, arguments={"rate": 16000})}
    store.write(dataclasses.replace(dataset, spec=dataclasses.replace(dataset.spec, recipe=recipe)), other)
    with pytest.raises(DataError, match="audio: rate 16000, trained with 22050"):
        trained.predict(other)


@pytest.mark.extras
def test_a_model_of_unknown_features_takes_no_clips(made, tmp_path):
    from feature_files import content, write

    path = write(tmp_path / "old.pkl", content())
    msa_jax.train(msa_jax.config("mosi", "lf_dnn", tiny=True, data__path=str(path)), tmp_path / "run")
    with pytest.raises(DataError, match="whose making is not recorded"):
        msa_jax.load(tmp_path / "run").predict(made / "clip 5.wav")


@pytest.mark.extras
def test_clips_without_labels_are_checked_and_not_trained_on(made, tmp_path, capsys):
    out = tmp_path / "store"
    assert extract.main([str(made / "clip 1.wav"), *options(made, out)]) == 0
    assert "has no transcript" in (out / "notes.csv").read_text()
    check_data.main([str(out)])
    assert "no labels" in capsys.readouterr().out
    with pytest.raises(DataError, match="has clips without labels"):
        msa_jax.train(msa_jax.config("mosi", "lf_dnn", tiny=True, data__path=str(out)), tmp_path / "run")


@pytest.mark.extras
def test_a_clip_with_nothing_in_it_fails_alone(made, tmp_path):
    write_clip(tmp_path / "a.wav", np.zeros(9000, np.int16))
    with pytest.raises(DataError, match="none of 1 clips could be extracted"):
        extract.main([str(tmp_path / "a.wav"), *options(made, tmp_path / "out")])
    assert "is silent from end to end" in (tmp_path / "out" / "failed.csv").read_text()
    write_clip(tmp_path / "b.mp4", frames=pictures(5))
    (tmp_path / "b.txt").write_text("words of clip")
    assert extract.main([str(tmp_path / "b.mp4"), *options(made, tmp_path / "out2")]) == 0
    assert "has no sound track" in (tmp_path / "out2" / "notes.csv").read_text()


WORKER = """
import os, signal, sys
from msa_jax.media import extraction, worker
def made(clip, *rest):
    if "kill" in clip.id: os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in clip.id:
        while True: pass
    if "fill" in clip.id: bytearray(1 << 40)
    if "odd" in clip.id: raise KeyError("x")
    class Nothing:
        def write(self, path): path.write_text("done")
    return Nothing()
extraction.extract = made
worker.main()
"""


def test_a_clip_that_ends_its_process_fails_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_WORKER", (sys.executable, "-c", WORKER))
    for name in ("a", "kill", "b", "hang", "fill", "odd", "c"):
        (tmp_path / f"{name}.wav").write_bytes(b"x")
    jobs = [(clip, tmp_path / f"{clip.id}.npz") for clip in find(tmp_path)]
    with pool.Pool(2, 4.0) as processes:
        reasons = {clip.id: reason for clip, reason in processes.all(jobs, Plan(), {}, tmp_path)}
    assert {name for name, reason in reasons.items() if not reason} == {"a", "b", "c"}
    assert f"ended the process that read it (signal {signal.SIGSEGV.value})" in reasons["kill"]
    assert "took more than 4 seconds" in reasons["hang"]
    assert "needs more than 8 GiB of memory" in reasons["fill"]
    assert "cannot be extracted (KeyError: 'x')" in reasons["odd"]
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--encoder=none", "--audio=none", "--vision=none"], "nothing is to be extracted"),
        (["--encoder=none", "--fps=1000"], "--fps=1000 is not between"),
        (["--encoder=none", "--asr=x"], "--asr makes transcripts"),
        (["--encoder=none", "--align=words"], "--align=words needs words"),
        (["--encoder=none", "--jobs=0"], "--jobs must be above 0"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(tmp_path, arguments, said):
    with pytest.raises(ConfigError, match=said):
        extract.main(["clips", f"--out={tmp_path / 'out'}", *arguments])
    assert not os.listdir(tmp_path)


@pytest.mark.extras
def test_a_broken_encoder_is_told_before_any_clip_is_read(made, tmp_path):
    encoder_files.folder(tmp_path / "encoder", {"hidden_size": 16})
    arguments = [f"--out={tmp_path / 'out'}", "--vision=none", f"--encoder={tmp_path / 'encoder'}"]
    with pytest.raises(DataError, match=r"does not fit the encoder of its config\.json"):
        extract.main([str(made / "clips.csv"), *arguments])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_kept(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    arguments = [f"--out={tmp_path / 'out'}", "--encoder=none", "--vision=openface", "--audio=none"]
    with pytest.raises(DataError, match="holds something else and is kept as it is"):
        extract.main([str(tmp_path / "a.wav"), *arguments])
    with pytest.raises(DataError, match="is a file"):
        extract.main([str(tmp_path / "a.wav"), f"--out={tmp_path / 'a.wav'}", *arguments[1:]])


def test_a_folder_keeps_the_clips_of_its_source(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(b"x")
    with Folder(tmp_path / "out", tmp_path / "one").held({}):
        pass
    Folder(tmp_path / "out", tmp_path / "one").check({})
    with pytest.raises(DataError, match=r"holds the clips of .*one and is kept as it is"):
        Folder(tmp_path / "out", tmp_path / "two").check({})


def test_a_speech_model_that_is_gone_is_only_missed(tmp_path, caplog):
    encoder = encoder_files.folder(tmp_path / "encoder")
    places = {"encoder": str(encoder), "asr": str(tmp_path / "gone")}
    text = Part("bert", files={"encoder": encoder_sum(encoder)}, provenance=places)
    trained = {"text": text, "audio": Part("none"), "vision": Part("none")}
    with caplog.at_level("INFO", "msa_jax"):
        plan, _ = plan_like(trained, "run", {})
    assert plan.asr is None
    assert "gone is not there any more" in caplog.text
    other = encoder_files.folder(
        tmp_path / "other", weights={k: x + 1 for k, x in encoder_files.theirs().items()}
    )
    with pytest.raises(DataError, match=r"the model in run was trained with text by bert; .* encoder"):
        plan_like(trained, "run", {"encoder": other})


def test_a_pickle_of_features_is_no_media(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ConfigError, match="--window is for media"):
        predict.main([f"--workdir={tmp_path}", f"--input={path}", "--window=3"])
    with pytest.raises(ConfigError, match="--plot goes with --window"):
        predict.main([f"--workdir={tmp_path}", f"--input={tmp_path / 'a.mp4'}", "--plot=a.png"])
    with pytest.raises(ConfigError, match="ends in none of"):
        predict.main([f"--workdir={tmp_path}", f"--input={tmp_path / 'a.mp4'}", "--window=1", "--plot=a.x"])


def test_windows_slide_over_steps_and_words():
    """Worked by hand: 3 s with a step every half second, and words at 0-1 and 2.2-3 s."""
    from msa_jax.media.clips import Clip
    from msa_jax.media.extraction import Features
    from msa_jax.media.fresh import Fresh
    from msa_jax.media.words import Word

    times = np.arange(7) / 2
    values = {"audio": times[:, None].astype(np.float32), "vision": np.zeros((0, 1), np.float32)}
    timed = (Word("so", 0.0, 1.0), Word("late", 2.2, 3.0))
    made = Features(values, {"audio": times, "vision": np.zeros(0)}, "so late", timed, True, ())
    whole = Fresh((Clip("a", pathlib.Path("a.wav")),), {"a": made}, {}, Plan(), {})
    parts, places = windows(whole, 1.5, 1.0)
    assert places == [("a", 0.0, 1.5), ("a", 1.0, 2.5), ("a", 2.0, 3.0)]
    steps = [parts.features[clip.id].values["audio"][:, 0].tolist() for clip in parts.clips]
    assert steps == [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    assert [parts.features[clip.id].transcript for clip in parts.clips] == ["so", "late", "late"]


@pytest.mark.extras
def test_a_server_scores_a_file_with_reasons_and_over_time(made, tmp_path):
    from msa_jax.serve.limits import Limits
    from msa_jax.serve.run_scorer import RunScorer

    path = tmp_path / "clip.wav"
    path.write_bytes((made / "clip 5.wav").read_bytes())
    (tmp_path / "clip.txt").write_text("words of clip 5")
    scorer = RunScorer(made / "run", Limits(media_seconds=2.0))
    try:
        answer = scorer.score_media(path, 0.5, 0.25)
        known = msa_jax.load(made / "run").predict(made / "store")
        wanted = float(known["M"][known["id"].tolist().index("c5")])
        assert answer["score"] == pytest.approx(wanted, abs=1e-5)
        assert answer["transcript"] == "words of clip 5"
        assert [point["start"] for point in answer["curve"]] == [0, 0.25, 0.5]
        moved = {(effect["modality"], effect["group"]) for effect in answer["moved_by"]}
        assert moved == {("audio", "zcr"), ("audio", "mfcc"), ("audio", "cqt")}
        parts = answer["parts"]
        assert sum(parts.values()) == pytest.approx(wanted - answer["nothing_known"], abs=1e-5)
        assert set(parts) == {"text", "audio", "vision"}
        assert [row["word"] for row in answer["words"]] == ["words", "of", "clip", "5"]
        write_clip(path, tone(3.0))
        with pytest.raises(DataError, match="plays 3 seconds, more than 2; cut it"):
            scorer.score_media(path, 0.5, 0.25)
    finally:
        scorer.close()
