import html
import itertools
import json
import pathlib
import re
import subprocess
import sys

import fake_run
import numpy as np
import pytest
from page_reader import CHROMIUM, MEASURE, Page, browse

from msa_jax import errors, metrics
from msa_jax.commands import report
from msa_jax.errors import RunError
from msa_jax.reports import page, run
from msa_jax.training import watched

NONE = "\N{EN DASH}"  # what a table shows where there is no figure


def written(folder, **kwargs):
    """Writes a fake run and its report; returns the parsed page and its text."""
    text = page.write_report(fake_run.write(folder, **kwargs)).read_text()
    return Page(text), text


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return written(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def mosi(tmp_path_factory):
    return written(tmp_path_factory.mktemp("mosi"), name="mosi", metric_set="mosi")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_page_needs_nothing_but_itself(synthetic, mosi):
    for parsed, text in (synthetic, mosi):
        links = parsed.attributes("href") + parsed.attributes("src") + re.findall(r"url\(([^)]*)\)", text)
        assert links
        assert all(link.startswith(("#", "data:,")) for link in links)
        assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in parsed.elements}
        assert "@import" not in text


def test_ids_are_unique_on_the_page_and_all_references_resolve(synthetic, mosi):
    for parsed, text in (synthetic, mosi):
        ids = parsed.attributes("id")
        assert len(ids) == len(set(ids))
        used = [link[1:] for link in parsed.attributes("href") if link.startswith("#")]
        used += re.findall(r"url\(#([^)]*)\)", text) + parsed.attributes("aria-labelledby")
        assert set(used) <= set(ids)


def test_the_page_can_be_read_out(synthetic):
    parsed, text = synthetic
    assert text.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in parsed.elements
    assert all(
        attributes.get("scope") in ("row", "col") for tag, attributes in parsed.elements if tag == "th"
    )
    pictures = [attributes for tag, attributes in parsed.elements if tag == "svg"]
    assert len(pictures) == 5
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    headings = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_score_table_of_mosi_stands_beside_the_paper(mosi, tmp_path):
    parsed, _ = mosi
    head, *rows = parsed.tables[0]
    assert head == ["metric", "test", "validation", "this model in Cai et al. 2025"]
    result = json.loads(
        (fake_run.write(tmp_path, name="mosi", metric_set="mosi") / "result.json").read_text()
    )
    shown = {row[0]: row[1:] for row in rows}
    assert len(shown) == len(metrics.REGRESSION_KEYS["mosi"])
    assert shown["Acc-2 Has0"] == [f"{100 * result['test']['acc2_has0']:.2f} %"] * 2 + ["85.20 %"]
    assert shown["MAE"] == [f"{result['test']['mae']:.3f}"] * 2 + ["0.728"]
    assert shown["Acc-5"][2] == NONE
    assert "frozen text features is not expected to reach" in parsed.text
    assert "SYNTHETIC" not in parsed.text
    assert "best reachable" not in parsed.text.lower()


def test_the_best_test_epoch_has_a_column_that_says_what_it_is_where_it_was_watched(mosi, tmp_path):
    assert watched.LABEL not in mosi[1]
    folder = fake_run.write(tmp_path, name="mosi", metric_set="mosi")
    block = {"label": watched.LABEL, "epoch": 2, "picked_by": "mae", "test": {"mae": 0.123}}
    change(folder / "result.json", best_test_epoch=block)
    parsed = Page(page.write_report(folder).read_text())
    head, *rows = parsed.tables[0]
    assert head[:4] == ["metric", "test", "validation", watched.LABEL]
    shown = {row[0]: row[3] for row in rows}
    assert (shown["MAE"], shown["Corr"]) == ("0.123", NONE)
    change(folder / "result.json", best_test_epoch={"epoch": 2})
    with pytest.raises(RunError, match=r"has no 'test' in 'best_test_epoch'"):
        page.write_report(folder)


def test_synthetic_runs_say_so_and_show_the_best_reachable(synthetic):
    parsed, _ = synthetic
    assert "SYNTHETIC" in parsed.text
    assert parsed.tables[0][0] == ["metric", "test", "validation", "best reachable, test"]
    shown = {row[0]: row[3] for row in parsed.tables[0][1:]}
    assert shown["MAE"] == "0.143"
    assert shown["Corr"] == "0.959"
    assert shown["Acc-2"] == NONE
    assert "not expected to reach" not in parsed.text


def test_confusion_tables_hold_the_counts_of_the_test_split(mosi, tmp_path):
    parsed, _ = mosi
    loaded = run.read_run(fake_run.write(tmp_path, name="mosi", metric_set="mosi"))
    matrices = metrics.confusion_matrices("mosi", loaded.predictions["M"], loaded.label)
    tables = {len(t[0]) - 1: t for t in parsed.tables if t[0][0] == ""}
    assert set(tables) == set(matrices) == {2, 3, 5, 7}
    for n, matrix in matrices.items():
        for row, counts in zip(tables[n][1:], matrix, strict=True):
            for cell, count in zip(row[1:], counts, strict=True):
                share = f"{100 * count / counts.sum():.0f} %" if counts.sum() else ""
                assert cell == f"{count}{share}"


def test_heads_are_compared_and_left_out_where_there_is_one(synthetic, tmp_path):
    parsed, _ = synthetic
    table = next(t for t in parsed.tables if t[0][0] == "head")
    loaded = run.read_run(fake_run.write(tmp_path))
    assert [row[0] for row in table[1:]] == [
        "final prediction", "text alone", "audio alone", "vision alone", "fusion head",
    ]  # fmt: skip
    scores = metrics.regression_metrics("sims", loaded.predictions["A"], loaded.label)
    assert table[3][1:] == [f"{100 * scores['acc2']:.2f} %", f"{scores['mae']:.3f}", f"{scores['corr']:.3f}"]

    path = tmp_path / "predictions.csv"
    assert list(run.read_run(tmp_path).predictions) == ["M", "A", "T", "V", "fusion"]
    rows = [line.split(",")[:4] for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    single = Page(page.write_report(tmp_path).read_text())
    assert all(t[0][0] != "head" for t in single.tables)


def test_data_and_configuration_are_listed(synthetic):
    parsed, _ = synthetic
    rows = [row for table in parsed.tables for row in table]
    assert ["vision", "709", "55", "2"] in rows
    assert ["AU", "3", "2-4"] in rows
    assert ["learning_rate", "0.005"] in rows
    assert ["groups.vision.AU", '"2-4"'] in rows
    assert ["groups.audio", "{}"] in rows
    assert "1,368 train, 456 valid, 457 test" in parsed.text
    assert "Best epoch 7 of 12, 1,234,567 parameters, 80.1 seconds, seed 1111" in " ".join(
        parsed.text.split()
    )


def test_the_same_run_gives_the_same_bytes_and_no_other_file(tmp_path):
    folder = fake_run.write(tmp_path / "run")
    before = {path.name for path in folder.iterdir()}
    first = page.write_report(folder).read_bytes()
    assert page.write_report(folder).read_bytes() == first
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_hostile_names_and_values_are_only_shown(tmp_path):
    evil = "<script>alert('x')</script>&\"'{{ 7*7 }}"
    folder = fake_run.write(tmp_path, name=evil)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["name"] = config["data"][evil] = config["train"]["seed"] = evil
    (folder / "config.json").write_text(json.dumps(config))
    spec = (folder / "spec.json").read_text().replace('"Gaze"', json.dumps(evil))
    (folder / "spec.json").write_text(spec)
    history = (folder / "metrics.jsonl").read_text().replace('"T"', json.dumps(evil))
    (folder / "metrics.jsonl").write_text(history)
    csv = (folder / "predictions.csv").read_text().replace("prediction_T", "prediction_<script>")
    (folder / "predictions.csv").write_text(csv.replace("video_", "<script>_"))
    text = page.write_report(folder).read_text()
    parsed = Page(text)
    assert not {"script"} & {tag for tag, _ in parsed.elements}
    assert parsed.text.count(evil) >= 4  # title, heading, configuration, column group
    assert "<script" not in text.lower()


def test_a_tiny_run_has_a_page(tmp_path):
    parsed, _ = written(tmp_path, clips=1, epochs=1)
    assert "There is no map of the fused features: it needs at least 10 clips" in parsed.text
    shown = {row[0]: row[1] for row in parsed.tables[0][1:]}
    assert shown["Corr"] == NONE  # one clip has no correlation
    assert "nan" not in parsed.text.lower()


def test_a_diverged_epoch_leaves_a_gap(tmp_path):
    folder = fake_run.write(tmp_path)
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    row = json.loads(rows[3])
    row["train"]["loss"], row["valid"]["loss"] = float("nan"), float("inf")
    del row["valid"]["mae"]
    rows[3] = json.dumps(row)
    (folder / "metrics.jsonl").write_text("\n".join(rows))
    assert page.write_report(folder).is_file()


FILES = ("config.json", "spec.json", "metrics.jsonl", "result.json", "predictions.csv", "features.npz")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    folder = fake_run.write(tmp_path)
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"{re.escape(name)} is missing: a report needs"):
        page.write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\x80", b"[]", b"{", b"split,id\n1,2\n"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    folder = fake_run.write(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(RunError) as error:
        page.write_report(folder)
    message = str(error.value)
    assert name in message
    assert "train the run again" in message
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_never_gives_a_traceback(tmp_path, name, share):
    folder = fake_run.write(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunError, match=re.escape(name)):
        page.write_report(folder)


def test_files_that_do_not_fit_each_other_are_refused(tmp_path):
    folder = fake_run.write(tmp_path)
    np.savez(folder / "features.npz", fusion=np.zeros((3, 4), np.float32), label=np.zeros(3))
    with pytest.raises(RunError, match=r"has 60 test clips and features.npz 3"):
        page.write_report(folder)


def test_wrong_contents_are_refused(tmp_path):
    folder = fake_run.write(tmp_path)
    change(folder / "result.json", test=None)
    with pytest.raises(RunError, match=r"result.json has no 'test'"):
        page.write_report(folder)
    fake_run.write(tmp_path)
    change(folder / "config.json", model="x")
    with pytest.raises(RunError, match=r"config.json has no block 'model'"):
        page.write_report(folder)
    fake_run.write(tmp_path)
    text = (folder / "predictions.csv").read_text()
    last = text.splitlines()[-1].split(",")
    (folder / "predictions.csv").write_text(
        text.replace(",".join(last), ",".join([*last[:3], "nan", *last[4:]]))
    )
    with pytest.raises(RunError, match="scores that are no numbers"):
        page.write_report(folder)


def test_the_command_writes_the_page_and_prints_its_place(tmp_path, capsys):
    folder = fake_run.write(tmp_path)
    report.main([f"--workdir={folder}"])
    places = capsys.readouterr().out.split()
    assert places == [str(folder / "explorer.html"), str(folder / "report.html")]


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", "--workdir", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        errors.run_command(report.main)
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert "Traceback" not in shown


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_the_browser_shows_the_page_without_complaint(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<p>x</p><script>missing()</script>")
    assert browse(broken, tmp_path / "profile")[1]  # the check itself works
    folder = fake_run.write(tmp_path / "run")
    dom, complaints = browse(page.write_report(folder), tmp_path / "profile")
    assert not complaints
    assert "SYNTHETIC" in dom


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
@pytest.mark.parametrize(("name", "metric_set"), [("mosi", "mosi"), ("x" * 80, "sims")])
def test_a_phone_needs_no_sideways_scrolling(tmp_path, name, metric_set):
    folder = fake_run.write(tmp_path / "run", name=name, metric_set=metric_set)
    config = json.loads((folder / "config.json").read_text())
    config["data"]["a_path"] = "/folder" * 30
    (folder / "config.json").write_text(json.dumps(config))
    text = page.write_report(folder).read_text()
    wide = tmp_path / "wide.html"
    for content, fits in (
        (text, True),
        (text.replace("<main>", '<main><p style="width:400px">x</p>'), False),
    ):
        wide.write_text(MEASURE.format(page=html.escape(content, quote=True)))
        dom, complaints = browse(wide, tmp_path / "profile")
        found = re.search(r"<output>(\d+) ?(.*?)</output>", dom)
        assert found, dom[:500]
        assert not complaints
        assert (int(found[1]) <= 360 and not found[2]) == fits, found[0]


def test_the_report_module_has_no_import_side_effects():
    script = "import sys, msa_jax.commands.report; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=pathlib.Path(__file__).parent)
