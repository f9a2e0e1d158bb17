"""The predict command: the run's own numbers for its own clips, any clip by itself, and plain refusals."""

import csv
import io
import json
import pathlib
import pickle
import subprocess
import sys
from typing import Any

import encoder_files
import feature_files
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import msa_jax
from msa_jax import metrics
from msa_jax.commands import predict
from msa_jax.configuration import load
from msa_jax.data import unlabelled
from msa_jax.data.batch import example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES, THREE_CLASSES, DatasetSpec, ModalitySpec, edges_of
from msa_jax.errors import DataError, RunError
from msa_jax.training.adopt import adopt

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
KINDS = {
    "one vector per clip": ("lf_dnn", []),
    "aligned": ("mfn", []),
    "classification": ("lf_dnn,task=classification", ["train.monitor=loss"]),
    "compat, one vector": ("lf_dnn", ["model.compat=true"]),
    "compat, aligned": ("ef_lstm", ["model.compat=true"]),
    "encoder, unimodal scores": ("self_mm", []),
}
PLAIN, ENCODER = "one vector per clip", "encoder, unimodal scores"
#: Runs whose training clips lost modalities.
LENIENT = {
    "may lack sound": ("lf_dnn", ["train.corrupt=modalities", "train.corrupt_modalities=('audio',)"]),
    "may lack all, aligned": ("mfn", ["train.corrupt=modalities", "train.placeholder=learned"]),
}
WORDS = {word: number for number, word in enumerate(encoder_files.WORDS)}


def content() -> dict[str, Any]:
    """A file's content with the token ids that the small encoder's tokenizer gives."""
    data = feature_files.content()
    for part in data.values():
        part["raw_text"] = [f"words of clip {i}" for i in range(len(part["id"]))]
        for i, tokens in enumerate(part["text_bert"]):
            words = ["[CLS]", "words", "of", "clip", str(i), "[SEP]"]
            tokens[0], tokens[1] = [WORDS[word] for word in words], 1
    return data


def random_variables(model, spec):
    """Weights and statistics that are neither zero nor one."""
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes: Any = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32), dict(shapes))
    return drawn | {"batch_stats": jax.tree.map(np.abs, drawn.get("batch_stats", {}))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes the run of a kind of model when it is first asked for; gives its folder."""
    base = tmp_path_factory.mktemp("runs")
    data = feature_files.write(base / "data.pkl", content())
    made: dict[str, pathlib.Path] = {}

    def of_kind(kind: str) -> pathlib.Path:
        if kind not in made:
            model, overrides = (KINDS | LENIENT)[kind]
            if kind == ENCODER:
                overrides = [f"model.encoder.folder={encoder_files.folder(base / 'bert')}"]
            settings = [f"data.path={data}", "train.devices=1", "data.buckets=1", *overrides]
            config = load(f"{CONFIG}:{model},tiny", settings)
            adopt(config, base / kind, random_variables)
            made[kind] = base / kind
        return made[kind]

    return of_kind


@pytest.fixture(scope="module")
def trained(run):
    """The loaded models, which keep what they have compiled."""
    loaded: dict[str, Any] = {}

    def of_kind(kind: str):
        if kind not in loaded:
            loaded[kind] = msa_jax.load(run(kind))
        return loaded[kind]

    return of_kind


def printed(folder, path, *options, capsys) -> tuple[list[dict[str, str]], str]:
    """The rows that the command prints as CSV, and what it says besides."""
    capsys.readouterr()  # what making the run said
    predict.main([f"--workdir={folder}", f"--input={path}", *options])
    out, said = capsys.readouterr()
    return list(csv.DictReader(io.StringIO(out))), said


def columns(rows, *starts):
    keys = [key for key in rows[0] if key.startswith(starts)]
    return np.array([[float(row[key]) for key in keys] for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_run(run, tmp_path, capsys, kind):
    folder, data = run(kind), content()
    for part in data.values():
        for key in [key for key in part if "_labels" in key]:
            del part[key]
    rows, said = printed(folder, feature_files.write(tmp_path / "data.pkl", data), capsys=capsys)
    with (folder / "predictions.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert said == ""
    assert [(row["split"], row["id"]) for row in rows] == [(row["split"], row["id"]) for row in expected]
    if kind == "classification":
        powers = np.exp(columns(expected, "logit"))
        assert list(rows[0]) == ["split", "id", "class", *(f"probability_{c}" for c in THREE_CLASSES)]
        shares = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(columns(rows, "probability"), shares, atol=1e-6, rtol=0)
        assert [row["class"] for row in rows] == [THREE_CLASSES[int(row["prediction"])] for row in expected]
        return
    scores = columns(expected, "prediction")
    assert scores.shape[1] == (4 if kind == ENCODER else 1)
    assert scores[:, 0].std() > 1e-3
    np.testing.assert_allclose(columns(rows, "score"), scores, atol=1e-6, rtol=0)
    nearest = {-1: "negative", 0: "neutral", 1: "positive"}  # as Acc-3 of CMU-MOSI rounds
    numbers = [np.rint(np.clip(float(row["score"]), -1, 1)) for row in rows]
    assert [row["class"] for row in rows] == [nearest[number] for number in numbers]


def one_clip(part, row):
    """A clip of its real steps, without an axis for clips."""
    steps = {"text": int(part["text_bert"][row, 1].sum())}
    steps |= {m: part[f"{m}_lengths"][row] for m in ("audio", "vision")}
    clip = {m: part[m][row, :n] for m, n in steps.items()}
    return clip | {"text_bert": part["text_bert"][row, :, : steps["text"]]}


def scores(trained, data, tmp_path):
    """[N, tasks] for clips of whatever layout."""
    splits, _ = unlabelled.read(feature_files.write(tmp_path / "asked.pkl", data), needs_text=False)
    return np.stack([y for split in splits.values() for y in trained.predict(split).values()], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_by_itself_has_the_score_that_it_has_among_others(trained, tmp_path, kind):
    """Without its padding, too: where a model reads padding, as much is put back."""
    model, part = trained(kind), content()["test"]
    among = scores(model, part, tmp_path)[2]
    for clip in (one_clip(part, 2), {key: value[2:3] for key, value in part.items()}):
        np.testing.assert_allclose(scores(model, clip, tmp_path)[0], among, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["aligned", "classification", ENCODER])
def test_clips_longer_than_those_of_the_training(trained, tmp_path, kind):
    """Their companions do not matter, nor what lies behind their ends."""
    model, part, rng = trained(kind), content()["test"], np.random.default_rng(2)
    longer = {"id": part["id"], "audio_lengths": [30, 1, 17, 25], "vision_lengths": [21, 21, 8, 1]}
    for m, steps in (("text", 9), ("audio", 30), ("vision", 22)):
        longer[m] = rng.normal(size=(4, steps, feature_files.WIDTHS[m])).astype(np.float32)
    longer["text_bert"] = np.concatenate([part["text_bert"], part["text_bert"][:, :, 2:5]], axis=2)
    together = scores(model, longer, tmp_path)
    np.testing.assert_allclose(
        scores(model, one_clip(longer, 2), tmp_path)[0], together[2], atol=1e-6, rtol=0
    )


def test_longer_clips_than_a_model_can_read(trained, tmp_path):
    part = content()["test"]
    part["text"], part["text_bert"] = part["text"].repeat(2, axis=1), part["text_bert"].repeat(2, axis=2)
    with pytest.raises(
        DataError, match="texts of 12 steps are longer than the 6 that EF-LSTM was trained on"
    ):
        scores(trained("compat, aligned"), part, tmp_path)


def test_transcripts_stand_in_for_tokens(trained, tmp_path):
    model, part = trained(ENCODER), content()["test"]
    expected = scores(model, part, tmp_path)
    del part["text_bert"], part["text"]
    np.testing.assert_allclose(scores(model, part, tmp_path), expected, atol=1e-6, rtol=0)
    clip = {m: part[m][1, : part[f"{m}_lengths"][1]] for m in ("audio", "vision")}
    clip["raw_text"] = part["raw_text"][1]
    np.testing.assert_allclose(scores(model, clip, tmp_path)[0], expected[1], atol=1e-6, rtol=0)


def test_an_encoder_without_text_and_with_foreign_tokens(trained, tmp_path):
    model, part = trained(ENCODER), content()["test"]
    part["text_bert"][0, 0, 1] = 30
    with pytest.raises(DataError, match="the input holds token id 30"):
        scores(model, part, tmp_path)
    del part["text_bert"], part["raw_text"]
    with pytest.raises(DataError, match=r"no token ids \(text_bert\) or transcripts \(raw_text\); add them"):
        scores(model, part, tmp_path)


def test_a_wrong_width_names_modality_found_and_expected(trained, tmp_path):
    part = content()["test"]
    part["audio"] = part["audio"][:, :, :4]
    with pytest.raises(DataError, match=r"audio of these clips has 4 columns, but .* was trained on 5"):
        scores(trained(PLAIN), part, tmp_path)


def test_broken_values_are_counted_and_count_as_zero(run, tmp_path, capsys):
    part = content()["test"]
    part["audio_lengths"] = [9] * 4
    part["audio"][0, :2, 1] = 0
    path = feature_files.write(tmp_path / "data.pkl", {"test": part})
    expected, _ = printed(run(PLAIN), path, capsys=capsys)
    assert list(expected[0]) == ["id", "score", "class"]
    part["audio"][0, :2, 1] = [np.nan, -np.inf]
    feature_files.write(path, {"test": part})
    rows, said = printed(run(PLAIN), path, capsys=capsys)
    assert rows == expected
    assert said == "note: test audio: 1 NaN and 1 infinite values in 1 columns; they count as 0.\n"


def test_a_score_that_is_not_finite_has_no_class(run, tmp_path, capsys):
    """Under compat NaN reaches the model, as in the public code."""
    part = content()["test"]
    part["vision"][1, 0, 0] = np.nan
    path = feature_files.write(tmp_path / "data.pkl", part)
    rows, said = printed(run("compat, aligned"), path, capsys=capsys)
    assert (rows[1]["score"], rows[1]["class"]) == ("nan", "")
    assert np.isfinite(columns(rows, "score")[[0, 2, 3]]).all()
    assert said.endswith("in 1 columns.\nwarning: 1 clips have a score that is not finite.\n")


def rows_of(ids, **predictions):
    arrays = {task: np.array(y, np.float32) for task, y in predictions.items()}
    split = Split(np.array(ids), {}, {}, {})
    modalities = {m: ModalitySpec(1, 1) for m in MODALITIES}
    spec = DatasetSpec("mine", modalities, (-1.0, 1.0), "sims", class_edges=(-0.1, 0.1))
    return predict.answers(split, arrays, spec)


def scored(metric_set, scores, **fields):
    limit = 3.0 if metric_set == "mosi" else 1.0
    modalities = {m: ModalitySpec(1, 1) for m in MODALITIES}
    fields = {"class_edges": edges_of(metric_set, (-limit, limit))} | fields
    spec = DatasetSpec("mine", modalities, (-limit, limit), metric_set, **fields)
    split = Split(np.array([str(i) for i in range(len(scores))]), {}, {}, {})
    return predict.answers(split, {"M": np.array(scores, np.float32)}, spec)


@given(st.sampled_from(["mosi", "sims"]), st.lists(st.floats(-4, 4, width=32), min_size=1))
def test_what_is_called_neutral_is_what_acc3_counts_so(metric_set, scores):
    for row in scored(metric_set, scores):
        one = np.array([row["score"]])
        number = THREE_CLASSES.index(row["class"])
        assert metrics.confusion_matrices(metric_set, one, one)[3][number, number] == 1


def test_edges_of_earlier_runs_stay_and_scores_without_a_sign_have_no_class():
    assert [r["class"] for r in scored("sims", [-0.05, 0.0, 0.05], class_edges=(0.0, 0.0))] == list(
        THREE_CLASSES
    )
    assert list(scored("plain", [3.0], class_edges=None)[0]) == ["id", "score"]


def test_classes_with_names():
    spec = DatasetSpec(
        "mine", {m: ModalitySpec(1, 1) for m in MODALITIES}, (-1.0, 1.0), "sims", class_names=("glad", "sad")
    )
    rows = predict.answers(Split(np.array(["a"]), {}, {}, {}), {"M": np.array([[0.0, np.log(3)]])}, spec)
    assert rows == [
        {
            "id": "a",
            "class": "sad",
            "probability_glad": pytest.approx(0.25),
            "probability_sad": pytest.approx(0.75),
        }
    ]


def test_a_clip_without_sound_is_scored_by_a_run_that_was_trained_for_it_alone(
    run, trained, tmp_path, capsys
):
    clip = one_clip(content()["test"], 0)
    missing = {key: x for key, x in clip.items() if key != "audio"}
    found = []
    for silent in (clip | {"audio": clip["audio"][:0]}, missing):
        path = feature_files.write(tmp_path / "clip.pkl", silent)
        rows, said = printed(run("may lack sound"), path, capsys=capsys)
        assert said == ""
        found.append(float(rows[0]["score"]))
        with pytest.raises(DataError, match=r"have no audio .* was not trained for that; leave|key 'audio'"):
            trained(PLAIN).predict(path)
    path = feature_files.write(tmp_path / "clip.pkl", missing | {"adio": clip["audio"]})
    with pytest.raises(DataError, match="Did you mean 'adio'"):
        trained("may lack sound").predict(path)
    arrays = {m: clip[m] for m in ("text", "vision")}
    found.append(trained("may lack sound").predict(**arrays)["M"][0])
    lists = {m: [x, x] for m, x in arrays.items()}
    found += trained("may lack sound").predict(**lists, audio=[None, clip["audio"][:0]])["M"].tolist()
    np.testing.assert_allclose(found, found[0], atol=1e-6, rtol=0)
    with pytest.raises(DataError, match="1 of 1 clips have no vision"):
        trained("may lack sound").predict(text=clip["text"], audio=clip["audio"], vision=clip["vision"][:0])
    with pytest.raises(DataError, match="audio is missing"):
        trained(PLAIN).predict(**arrays)


def test_words_are_needed_where_the_others_are_put_to_their_steps(trained):
    model, clip = trained("may lack all, aligned"), one_clip(content()["test"], 0)
    assert model.may_lack == ("audio", "vision")
    assert np.isfinite(model.predict(text=clip["text"])["M"]).all()
    with pytest.raises(DataError, match="text is missing"):
        model.predict(audio=clip["audio"])


def test_a_run_whose_training_clips_lacked_a_modality_takes_such_clips(tmp_path):
    data = content()
    data["train"]["audio_lengths"][0] = 0
    path = feature_files.write(tmp_path / "data.pkl", data)
    adopt(load(f"{CONFIG}:lf_dnn,tiny", [f"data.path={path}"]), tmp_path / "run", random_variables)
    model, clip = msa_jax.load(tmp_path / "run"), one_clip(data["test"], 0)
    assert model.may_lack == ("audio",)
    assert np.isfinite(model.predict(text=clip["text"], vision=clip["vision"])["M"]).all()


def test_scores_and_formats():
    rows = rows_of("abcd", M=[-0.2, -0.05, 0.1, 1 / 3], T=[0, 1, 2, np.nan])
    assert [row["class"] for row in rows] == ["negative", "neutral", "neutral", "positive"]
    assert predict.as_csv(rows).splitlines()[0] == "id,score,class,score_T"
    assert predict.as_csv(rows).splitlines()[4] == "d,0.333333343,positive,nan"
    lines = [json.loads(line) for line in predict.as_jsonl(rows).splitlines()]
    assert lines[3] == {"id": "d", "score": 0.333333343, "class": "positive", "score_T": None}


def test_classes_and_their_probabilities():
    rows = rows_of("ab", M=[[0, np.log(2), 0], [np.nan, 0, 0]], A=[[3, 2, 1], [1, 2, 3]])
    assert (rows[0]["class"], rows[1]["class"], rows[0]["class_A"], rows[1]["class_A"]) == (
        *("neutral", None),
        *("negative", "positive"),
    )
    found = [rows[0][f"probability_{name}"] for name in THREE_CLASSES]
    np.testing.assert_allclose(found, [0.25, 0.5, 0.25], rtol=1e-6)


def test_strange_ids():
    ids = ["快乐, 1", 'say "no"', "two\nlines", "broken \udc80"]
    rows = rows_of(ids, M=[1, 1, 1, 1])
    text = predict.as_csv(rows).encode("utf-8", "backslashreplace").decode()
    assert [row["id"] for row in csv.DictReader(io.StringIO(text))] == [*ids[:3], r"broken \udc80"]
    lines = predict.as_jsonl(rows).encode("utf-8", "backslashreplace").decode().split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == ids


def test_out_is_written_whole_and_never_over_what_is_kept(run, tmp_path, capsys):
    folder = run(PLAIN)
    path = feature_files.write(tmp_path / "data.pkl", content()["test"])
    before = path.read_bytes()
    expected, _ = printed(folder, path, capsys=capsys)
    common = [f"--workdir={folder}", f"--input={path}"]
    predict.main([*common, f"--out={tmp_path / 'scores.csv'}"])
    assert capsys.readouterr().err == f"wrote {tmp_path / 'scores.csv'}: 4 clips\n"
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == expected
    for out, message in (
        (path, "over a file of"),
        (folder / "config.json", "over a file of"),
        (tmp_path, "no place for a file"),
        (tmp_path / "none" / "scores.csv", "no place for a file"),
    ):
        with pytest.raises(RunError, match=message):
            predict.main([*common, f"--out={out}"])
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.pkl", "scores.csv"]


def test_a_place_that_cannot_be_written_is_answered_with_what_chose_it(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    folder = run(PLAIN)  # while there is room for it
    monkeypatch.setattr("os.fsync", full)
    path = feature_files.write(tmp_path / "data.pkl", content())
    with pytest.raises(RunError, match=r"cannot write .*scores\.csv: No space left .*--out") as caught:
        predict.main([f"--workdir={folder}", f"--input={path}", f"--out={tmp_path / 'scores.csv'}"])
    assert "--workdir" not in str(caught.value)


def test_the_command_line(run, tmp_path):
    """Nothing but the answer is printed, and a mistake is one sentence."""
    words = [sys.executable, "-W", "error", "-m", "msa_jax", "predict", f"--workdir={run(PLAIN)}"]
    path = feature_files.write(tmp_path / "data.pkl", one_clip(content()["test"], 0))
    done = subprocess.run([*words, f"--input={path}"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("id,score,class\ndata,")
    path.write_bytes(pickle.dumps(print, protocol=4))
    done = subprocess.run([*words, f"--input={path}"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path} is refused: it tries to call 'builtins.print'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["one vector per clip", "aligned", ENCODER])
def test_few_programs_are_compiled_for_clips_of_any_length_and_number(run, tmp_path, kind):
    """A serving process compiles nothing in steady state."""
    model, part = msa_jax.load(run(kind)), content()["test"]
    for row in range(len(part["id"])):
        scores(model, one_clip(part, row), tmp_path)
    scores(model, part, tmp_path)
    known = model.traces
    assert known <= 3 * len(model.shapes), "one, two and four rows of every padded shape at most"
    for row in range(len(part["id"])):  # a step less of the text each time
        clip = one_clip(part, row)
        shorter = {"text": clip["text"][:-1], "text_bert": clip["text_bert"][:, :-1]}
        scores(model, clip | shorter, tmp_path)
    assert model.traces == known
    long, seen = {m: np.ones((60, feature_files.WIDTHS[m]), np.float32) for m in ("audio", "vision")}, []
    for steps in (30, 33, 40, 47):
        clip = {"text": part["text"][0], "text_bert": part["text_bert"][0]}
        scores(model, clip | {m: x[:steps] for m, x in long.items()}, tmp_path)
        seen.append(model.traces)
    assert len(set(seen)) <= 2, "longer clips share doubled shapes"
