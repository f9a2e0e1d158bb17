"""Tables of single clips: what is picked, what is shown, and what is refused."""

import csv
import dataclasses
import html
import json
import pathlib
import re

import fake_run
import feature_files
import numpy as np
import pytest
from page_reader import CHROMIUM, MEASURE, Page, browse

from msa_jax import configuration
from msa_jax.commands import cases as command
from msa_jax.errors import RunError
from msa_jax.reports import cases
from msa_jax.reports.run import Run, read_run

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "sims.py")


def run_of(label, predictions, logits=None, limits=(-1.0, 1.0), classes=()):
    """A run of these labels and heads, without a folder."""
    spec = dataclasses.replace(fake_run.spec("sims", "sims"), label_range=limits)
    return Run(
        config={"data": {}, "model": {"task": "classification" if classes else "regression"}, "train": {}},
        spec=spec,
        class_names=classes,
        history=[],
        result={},
        ids=tuple("abcdefgh"[: len(label)]),
        label=np.array(label, float),
        predictions={head: np.array(scores, float) for head, scores in predictions.items()},
        logits=None if logits is None else np.array(logits, float),
        fusion=np.zeros((len(label), 2)),
    )


LABEL = [0.5, -0.5, 0.0, 0.2, -0.2]
A = run_of(LABEL, {"M": [-0.1, -0.5, 0.9, -0.6, 0.0], "T": [0.1] * 5, "V": [0.1, 0.2, 0.4, 0.3, -0.9]})
B = run_of(LABEL, {"M": [0.4, 0.5, 0.0, 0.1, -0.3]})


def picked(*runs, **how):
    return [case.id for case in cases.pick(runs, ["first", "second"][: len(runs)], **how).rows]


def test_the_largest_errors_come_first():
    # Errors of A: 0.6, 0, 0.9, 0.8, 0.2.
    assert picked(A, count=3) == ["c", "d", "a"]
    assert picked(A, B, count=9) == ["c", "d", "a", "e", "b"]
    assert picked(B, A, count=1) == ["b"]


def test_the_widest_disagreement_between_modalities_comes_first():
    # The heads T and V are 0, 0.1, 0.3, 0.2 and 1 apart; M is no modality.
    assert picked(A, rule="disagreement") == ["e", "c", "d", "b", "a"]


def test_what_b_gets_right_and_a_wrong_goes_by_sign():
    # The label of c has no sign, and A is right on b and on e, where neither its 0 nor the label is above 0.
    assert picked(A, B, rule="b_right_a_wrong") == ["d", "a"]
    assert picked(A, B, rule="b_right_a_wrong", count=1) == ["d"]
    assert picked(B, A, rule="b_right_a_wrong") == ["b"]


def test_classes_go_by_the_probability_of_the_true_one():
    names = ("no", "maybe", "yes")
    logits = [[2.0, 0, 0], [0, 0, 1.0], [0, 5.0, 0]]
    a = run_of([0, 1, 1], {"M": [0, 2, 1], "T": [0, 1, 2], "A": [0, 1, 1]}, logits, classes=names)
    b = run_of([0, 1, 1], {"M": [0, 1, 1]}, [[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]], classes=names)
    found = cases.pick([a, b], ["a", "b"], rule="b_right_a_wrong")
    (case,) = found.rows
    assert (case.id, case.label) == ("b", "maybe")
    assert case.sides[0].answers == ("yes", "maybe", "maybe")
    assert case.sides[0].error == pytest.approx(1 - 1 / (2 + np.e))
    assert picked(a, rule="error") == ["b", "a", "c"]
    assert picked(a, rule="disagreement", count=1) == ["c"]


def test_every_head_and_the_error_are_shown():
    found = cases.pick([A, B], ["first", "second"], ids=["d"])
    header, rows = cases.as_rows(found, ".2f")
    assert header == ["id", "label", "A_M", "A_T", "A_V", "A_error", "B_M", "B_error"]
    assert rows == [["d", "0.20", "-0.60", "0.10", "0.30", "0.80", "0.10", "0.10"]]


def test_clips_by_name_come_in_their_order():
    assert picked(A, ids=["e", "a"], count=1) == ["e", "a"]


@pytest.mark.parametrize(
    ("runs", "how", "said"),
    [
        ([A], {"ids": ["a", "aa"]}, r"the test split has no clip 'aa'. Did you mean 'a'"),
        ([A], {"count": 0}, "k=0 clips are none; ask for 1 or more"),
        ([A], {"rule": "errror"}, r"no rule 'errror'.*Did you mean 'error'"),
        ([A], {"rule": "b_right_a_wrong"}, "compares two runs; name a second one"),
        ([B], {"rule": "disagreement"}, "a head for each modality.*first has none"),
        ([A, run_of(LABEL[:4], {"M": LABEL[:4]})], {}, "first and second were tested on different clips"),
        ([A, run_of([0.1] * 5, {"M": LABEL})], {}, "tested on different clips"),
        ([A, run_of([0] * 5, {"M": [0] * 5}, [[1, 0]] * 5, classes=("x", "y"))], {}, "not predict the same"),
        (
            [run_of([1, 2], {"M": [1, 2]}, limits=(1.0, 5.0))] * 2,
            {"rule": "b_right_a_wrong"},
            "the sign of scores, and those of second, 1 to 5, have none",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(runs, how, said):
    with pytest.raises(RunError, match=said) as error:
        picked(*runs, **how)
    assert "\n" not in str(error.value)


def hostile(folder):
    """A finished run on a file whose ids and transcripts are formulas, tags and control characters."""
    content = feature_files.content()
    test = content["test"]
    test["id"] = ["=1+1", "-3g5yAC$_$4", "<script>x</script>", "d"]
    test["raw_text"] = ["@SUM(A1)", "two\nlines \x1b[31mred", "<b>&amp; [red]x", "+好"]
    data = feature_files.write(folder / "data.pkl", content)
    run = fake_run.write(folder / "run", clips=4)
    config = configuration.load(f"{CONFIG}:lf_dnn", [f"data.path={data}"])
    (run / "config.json").write_text(configuration.to_json(config))
    rows = (run / "predictions.csv").read_text().splitlines()
    for k, name in enumerate(test["id"]):
        rows = [row.replace(f"video_{k}$_$1", name) for row in rows]
    (run / "predictions.csv").write_text("\n".join(rows) + "\n")
    return run


def test_transcripts_come_from_the_data(tmp_path):
    (case,) = cases.pick([read_run(hostile(tmp_path))], ["run"], ids=["d"]).rows
    assert case.transcript == "+好"
    (tmp_path / "data.pkl").unlink()
    found = cases.pick([read_run(tmp_path / "run")], ["run"], ids=["d"])
    assert not found.has_transcripts
    assert re.fullmatch("Transcripts are left out: there is no .*data.pkl: .*", found.notes[0])


def test_other_data_in_its_place_gives_no_transcripts(tmp_path):
    run = hostile(tmp_path)
    feature_files.write(tmp_path / "data.pkl", feature_files.content())
    found = cases.pick([read_run(run)], ["run"])
    assert "has other test clips than the run was tested on" in found.notes[0]
    assert not found.has_transcripts


def test_a_spreadsheet_takes_nothing_for_a_formula(tmp_path):
    found = cases.pick([read_run(hostile(tmp_path))], ["run"])
    cases.write_csv(found, tmp_path / "cases.csv", "make room")
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["id"] for row in rows} == {"'=1+1", "'-3g5yAC$_$4", "<script>x</script>", "d"}
    assert {row["transcript"] for row in rows} == {
        "'@SUM(A1)", "two lines [31mred", "<b>&amp; [red]x", "'+好",
    }  # fmt: skip
    run = read_run(tmp_path / "run")
    by_id = dict(zip(run.ids, run.predictions["M"], strict=True))
    assert float(rows[0]["A_M"]) == pytest.approx(by_id[rows[0]["id"].removeprefix("'")], rel=1e-8)


def test_the_page_shows_hostile_text_as_text(tmp_path):
    found = cases.pick([read_run(hostile(tmp_path))], ["<i>run"])
    cases.write_page(found, tmp_path / "cases.html", "<b>title", "make room")
    text = (tmp_path / "cases.html").read_text()
    parsed = Page(text)
    assert not {"script", "b", "i"} & {tag for tag, _ in parsed.elements}
    for shown in ("<script>x</script>", "<b>&amp; [red]x", "<i>run", "<b>title"):
        assert shown in parsed.text
    assert "http" not in text


def test_the_command_prints_and_writes(tmp_path, capsys):
    run = hostile(tmp_path)
    out, page = tmp_path / "cases.csv", tmp_path / "cases.html"
    command.main([str(run), "--k=2", f"--out={out}", f"--page={page}"])
    said = capsys.readouterr()
    assert "The largest errors of A: 2 of 4 test clips." in " ".join(said.out.split())
    assert "\x1b" not in said.out
    assert len(out.read_text().splitlines()) == 3
    assert "<table" in page.read_text()
    assert "wrote" in said.err
    command.main([str(run), "--ids=-3g5yAC$_$4, d", "--quiet"])
    said = capsys.readouterr()
    assert "[red]x" not in said.out
    assert said.out.count("lines") == 1
    assert not said.err


def test_two_runs_stand_beside_each_other(tmp_path, capsys):
    a, b = (fake_run.write(tmp_path / name) for name in "ab")
    text = (b / "predictions.csv").read_text().splitlines()
    right = [",".join([*row.split(",")[:3], row.split(",")[2], *row.split(",")[4:]]) for row in text[1:]]
    (b / "predictions.csv").write_text("\n".join([text[0], *right]) + "\n")
    command.main([str(a), str(b), "--rule=b_right_a_wrong", f"--out={tmp_path / 'x.csv'}"])
    run = read_run(a)
    wrong = (run.label != 0) & ((run.predictions["M"] > 0) != (run.label > 0))
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert 0 < len(rows) == min(20, wrong.sum())
    assert {row["id"] for row in rows} <= {run.ids[k] for k in np.flatnonzero(wrong)}
    gaps = [float(row["A_error"]) for row in rows]
    assert gaps == sorted(gaps, reverse=True)
    assert "note: Transcripts are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ids=x", "--rule=error"], "--ids and --rule both say which clips"),
        (["--out={run}/predictions.csv"], "--out=.* would be written over a file of"),
        (["--page={run}"], "--page=.* is no place for a file"),
        (["--ids=nobody"], "no clip 'nobody'"),
        (["{run}/nowhere"], "config.json is missing: a report needs the folder of a finished run"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, arguments, said):
    run = fake_run.write(tmp_path / "run")
    with pytest.raises(RunError, match=said):
        command.main([str(run), *(a.format(run=run) for a in arguments)])
    assert json.loads((run / "result.json").read_text())


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_a_phone_scrolls_the_table_and_not_the_page(tmp_path):
    run = read_run(hostile(tmp_path))
    cases.write_page(cases.pick([run, run], ["x" * 60, "b"]), tmp_path / "cases.html", "Cases", "make room")
    text = (tmp_path / "cases.html").read_text()
    for content, fits in ((text, True), (text.replace('class="scroll"', ""), False)):
        (tmp_path / "wide.html").write_text(MEASURE.format(page=html.escape(content, quote=True)))
        dom, complaints = browse(tmp_path / "wide.html", tmp_path / "profile")
        found = re.search(r"<output>(\d+)", dom)
        assert found, dom[:500]
        assert not complaints
        assert (int(found[1]) <= 360) == fits
