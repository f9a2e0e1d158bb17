"""``msa-jax explain``: lines, words, pictures, and mistakes."""

import json
import re
import xml.etree.ElementTree as ET

import feature_files
import numpy as np
import pytest
import random_run

from msa_jax.commands import main
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError, DataError, RunError
from msa_jax.explain.reasons import Stretch
from msa_jax.explain.words import words_of
from msa_jax.inference import Trained
from msa_jax.reports import attention


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return random_run.make(tmp_path_factory.mktemp("explained") / "run", "mfn")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five clips as a file, two of them with names that no file may have."""
    split = random_run.dataset(0).splits["test"]
    part = {m: np.asarray(split.values[m]) for m in MODALITIES}
    part |= {f"{m}_lengths": split.lengths[m].tolist() for m in ("audio", "vision")}
    part["id"] = ["a", "b/c", "b\\c", "d", "e"]
    path = tmp_path_factory.mktemp("clips") / "clips.pkl"
    feature_files.write(path, {"test": part})
    return path


def test_every_clip_gets_a_line_and_a_picture(run, clips, tmp_path):
    places = [f"--out={tmp_path / 'why.jsonl'}", f"--pictures={tmp_path / 'why'}"]
    main(["explain", f"--workdir={run}", f"--input={clips}", *places])
    lines = [json.loads(line) for line in (tmp_path / "why.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", "b/c", "b\\c", "d", "e"]
    scores = Trained(run).predict(clips)["M"]
    for line, score in zip(lines, scores, strict=True):
        assert line["score"] == pytest.approx(float(score), abs=1e-5)
        parts = sum(line["modalities"].values())
        assert parts == pytest.approx(line["score"] - line["nothing_known"], abs=1e-5)
        assert set(line["groups"]) == {"audio", "vision"}
        assert line["words"][0]["steps"] == [0, 1]
        assert line["stands_in"] == "training mean"
    names = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert names == ["a.svg", "b_c.svg", "b_c_.svg", "d.svg", "e.svg"]
    for name in names:
        assert ET.fromstring((tmp_path / "why" / name).read_bytes()).tag.endswith("svg")


def test_some_clips_alone(run, clips, capsys):
    main(["explain", f"--workdir={run}", f"--input={clips}", "--clips=d, a", "--quiet"])
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["a", "d"]


def test_a_clip_that_cannot_be_read_stops_no_other(run, tmp_path, monkeypatch, capfd):
    from msa_jax.media import fresh

    split = random_run.dataset(0).splits["test"]
    failed = {"bad": "bad.mp4 is not a video or sound file."}
    monkeypatch.setattr(Trained, "plan", lambda *_: (fresh.Plan(), {}))
    monkeypatch.setattr(Trained, "split_of", lambda *_: split)
    monkeypatch.setattr(fresh, "extract", lambda *_: fresh.Fresh((), {}, failed, fresh.Plan(), {}))
    assert main(["explain", f"--workdir={run}", f"--input={tmp_path}"]) == 1
    said = capfd.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == split.ids.tolist()
    assert said.err.count("bad.mp4 is not a video or sound file.") == 1


def test_predict_says_why_too(run, clips, capfd):
    start = ["predict", f"--workdir={run}", f"--input={clips}", "--explain"]
    main([*start, "--format=jsonl", "--quiet"])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for line in lines:
        parts = line["reasons"]["modalities"].values()
        assert sum(parts) == pytest.approx(line["score"] - line["reasons"]["nothing_known"], abs=1e-5)
    with pytest.raises(ConfigError, match="--explain needs --format=jsonl"):
        main(start)


def test_attention_comes_with_lines_and_pictures(clips, tmp_path):
    run = random_run.make(tmp_path / "run", "tmt")
    places = [f"--out={tmp_path / 'why.jsonl'}", f"--pictures={tmp_path / 'why'}", "--clips=a,b/c"]
    for _ in range(2):  # the pictures' folder may be there
        main(["explain", f"--workdir={run}", f"--input={clips}", "--attention", *places])
    lines = [json.loads(line) for line in (tmp_path / "why.jsonl").read_text().splitlines()]
    for line in lines:
        maps = {one["module"]: one for one in line["attention"]}
        weights = np.array(maps["encoder/attention_0"]["weights"])
        assert weights.shape == (12, 12 + sum(line["steps"].values()))
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=2e-3)
        np.testing.assert_array_equal(weights, np.round(weights, 4))
        assert maps["cross_specific/encoder/attention_0"]["queries"] == "specific tokens"
    names = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert names == ["a.attention.svg", "a.svg", "b_c.attention.svg", "b_c.svg"]
    for name in names:
        assert ET.fromstring((tmp_path / "why" / name).read_bytes()).tag.endswith("svg")


def test_maps_of_the_text_name_its_words():
    words = [{"word": "clips", "steps": [1, 3]}, {"word": "end", "steps": [3, 4]}]
    even = np.full((2, 5), 0.2)
    maps = [
        {"module": "own", "queries": "audio", "keys": "text", "weights": even.tolist()},
        {"module": "coarser", "queries": "text", "keys": "audio", "weights": even[:, :1]},
        {"module": "none", "queries": "audio", "keys": "text", "weights": np.zeros((0, 5))},
    ]
    svg = attention.picture({"id": "a", "steps": {"text": 5}, "words": words, "attention": maps}).decode()
    shown = [said.strip() for said in re.findall(r"<!--(.*?)-->", svg)]  # text is drawn, with itself beside
    assert shown.count("clips") == shown.count("end") == 1
    assert "coarser" in svg
    assert "none\n" not in svg


def test_classes_have_a_probability(tmp_path, clips, capsys):
    run = random_run.make(tmp_path / "run", "mfn,task=classification")
    main(["explain", f"--workdir={run}", f"--input={clips}", "--clips=a", "--quiet"])
    line = json.loads(capsys.readouterr().out)
    assert line["class"] in ("negative", "neutral", "positive")
    assert 1 / 3 <= line["probability"] <= 1


def test_mistakes_are_one_sentence(run, clips, tmp_path):
    start = ["explain", f"--workdir={run}", f"--input={clips}"]
    with pytest.raises(DataError, match="has no clip 'x'; name clips by their ids"):
        main([*start, "--clips=a,x"])
    with pytest.raises(ConfigError, match=r"\(mfn\) has no attention to show; leave out --attention"):
        main([*start, "--attention"])
    with pytest.raises(DataError, match=r"has neither vocab\.txt nor tokenizer\.json"):
        main([*start, f"--encoder={tmp_path}"])
    with pytest.raises(RunError):
        main(["explain", f"--workdir={tmp_path}", f"--input={clips}"])


def test_pieces_of_a_word_are_one_stretch(tmp_path):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "clip", "##s", "end"]
    (tmp_path / "vocab.txt").write_text("\n".join(names) + "\n")
    tokens = np.zeros((2, 3, 6), np.int32)
    tokens[:, 0, :5] = [names.index(name) for name in ("[CLS]", "clip", "##s", "end", "[SEP]")]
    tokens[:, 1, :5] = 1
    split = random_run.dataset(0).splits["test"]
    lengths = {**split.lengths, "text": np.array([5, 4])}
    clips = type(split)(split.ids[:2], split.values, lengths, {}, tokens=tokens)
    both = [Stretch(1, 3, "clips"), Stretch(3, 4, "end")]
    assert words_of(clips, tmp_path) == [both, None]
    spoken = type(split)(split.ids[:2], split.values, lengths, {}, raw_text=np.array(["Clips end", "clips"]))
    assert words_of(spoken, tmp_path) == [
        [Stretch(1, 3, "clips"), Stretch(3, 4, "end")],
        [Stretch(1, 3, "clips")],
    ]
