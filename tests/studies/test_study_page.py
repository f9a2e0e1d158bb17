"""The page of a study, made of cells that nobody trained."""

import html
import re
import sys

import fake_study
import numpy as np
import pytest
from page_reader import CHROMIUM, MEASURE, Page, browse

from msa_jax import metrics
from msa_jax.errors import RunError
from msa_jax.studies import pairs, run
from msa_jax.studies.bootstrap import Bootstrap
from msa_jax.studies.folder import StudyFolder
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds, variants, words
from msa_jax.studies.layout import NONE
from msa_jax.studies.page import write_page
from msa_jax.studies.results import read_results
from msa_jax.studies.statistics import compare

FG = {"base": "", "-fg": "fg=both"}
#: Rows get better in this order; the last one is a base.
NOISE = {
    ("lmf", "base"): 4.0,
    ("lmf", "-fg"): 3.0,
    ("lf_dnn", "base"): 2.0,
    ("lf_dnn", "-fg"): 1.5,
    ("tfn", "-fg"): 1.2,
    ("tfn", "base"): 1.0,
}
EVIL = "<script>alert('x')</script>&\"'{{ 7*7 }}"


def declared(*axes, **about):
    title = about.pop("title", "A study")
    return Study(title, grid(data_sets(*about.pop("data", ("mosi",))), *axes, seeds(2)), **about)


def write_cells(study, folder, **kind):
    """Finished run folders for all cells; the second seed of a row is trained for an epoch less."""
    for number, cell in enumerate(study.cells):
        noise = NOISE.get(cell.row[1:], 1.0)
        fake_study.write_cell(folder / "cells", cell, epochs=3 - number % 2, noise=noise, **kind)


def written(study, folder, operations=None):
    results = read_results(study, folder / "cells")
    statistics = compare(study, results, Bootstrap(50))
    text = write_page(study, results, statistics, folder, operations or {}).read_text()
    return Page(text), text


STUDY = declared(
    models("lf_dnn", "tfn", "lmf"),
    words(FG),
    title="Three models",
    base={"variant": "base"},
    targets={("mosi", "tfn", "base"): {"mae": 0.901, "acc2_non0": 0.808}},
    source="Zadeh et al.",
    note="Only a try.",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_cells(STUDY, folder)
    (folder / "cells" / STUDY.cells[-1].name / "result.json").unlink()
    return *written(STUDY, folder, {("mosi", "tfn", "base"): 1234567}), folder


def test_the_page_needs_nothing_but_itself(made):
    parsed, text, _ = made
    links = parsed.attributes("href") + parsed.attributes("src") + re.findall(r"url\(([^)]*)\)", text)
    assert links
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert [tag for tag, _ in parsed.elements if tag in ("script", "iframe", "object", "embed", "base")] == [
        "script"
    ]
    assert "@import" not in text
    assert not re.search(r"fetch|XMLHttp|import\(", text)


def test_ids_are_unique_and_all_references_resolve(made):
    parsed, text, _ = made
    ids = parsed.attributes("id")
    assert len(ids) == len(set(ids))
    used = [link[1:] for link in parsed.attributes("href") if link.startswith("#")]
    used += re.findall(r"url\(#([^)]*)\)", text) + parsed.attributes("aria-labelledby")
    assert set(used) <= set(ids)


def test_the_table_has_the_papers_columns_with_the_printed_figures_beside(made):
    parsed, _, folder = made
    head, *rows = parsed.tables[0]
    assert head == [
        "model", "variant", "Acc-2 has0/non0", "printed", "F1 has0/non0", "Acc-7", "MAE", "printed", "Corr",
        "parameters", "operations per clip", "seconds",
    ]  # fmt: skip
    assert [row[:2] for row in rows][:4] == [
        ["lf_dnn", "base (base)"], ["lf_dnn", "-fg"], ["tfn", "base (base)"], ["tfn", "-fg"],
    ]  # fmt: skip
    assert rows[-1][1] == "-fg (1 seed)"
    tfn = rows[2]
    assert (tfn[3], tfn[7]) == (f"{NONE} / 80.80", "0.901")
    assert tfn[9:] == ["1,234", "1,234,567", "12"]
    assert rows[0][10] == NONE
    mae = read_results(STUDY, folder / "cells").rows["mosi", "tfn", "base"].metrics["mae"]
    assert re.sub("†.*", "", tfn[6]) == f"{mae.mean():.3f} ± {mae.std(ddof=1):.3f}"


def test_every_figure_can_be_sorted_by_what_is_not_rounded(made):
    parsed, text, folder = made
    values = [float(v) for v in parsed.attributes("data-value")]
    rows = read_results(STUDY, folder / "cells").rows
    for row in rows.values():
        assert float(row.metrics["mae"].mean()) in values
    assert 0.901 in values
    assert 'data-value="None"' not in text
    assert 'data-value="nan"' not in text


def test_best_and_second_best_are_marked(made):
    _, text, folder = made
    maes = sorted(row.metrics["mae"].mean() for row in read_results(STUDY, folder / "cells").rows.values())
    assert re.search(rf"<strong>{maes[0]:.3f} ", text)
    assert re.search(rf"<u>{maes[1]:.3f} ", text)


def test_notes_say_what_is_missing_and_what_marks_mean(made):
    parsed, _, _ = made
    for said in (
        "11 of 12 cells are finished",
        "Not finished and left out: mosi-lmf-fg-1112",
        "† differs from the row with variant base",
        "the second best underlined",
        "the figures of Zadeh et al.",
        "Operations could not be counted for mosi, lf_dnn, base",
        "Only a try.",
    ):
        assert said in parsed.text, said


def test_a_figure_for_each_row_and_each_metric(made):
    parsed, _, _ = made
    labels = [a["aria-label"] for tag, a in parsed.elements if tag == "svg"]
    assert all(a["role"] == "img" for tag, a in parsed.elements if tag == "svg")
    curves = [label for label in labels if "by epoch" in label]
    assert len(curves) == 6
    assert "Losses and validation MAE of lf_dnn, base by epoch" in curves
    differences = [label for label in labels if "differences of 3 rows" in label]
    assert len(differences) == 7
    assert "Average ranks of 3 choices of model" in labels
    assert "Seeds 1111, 1112: 3, 2 epochs, kept 3, 3." in parsed.text
    assert "the mean of the seeds that were still trained" in parsed.text


def test_confusion_is_counted_over_all_seeds_by_the_true_class(made):
    parsed, _, folder = made
    row = read_results(STUDY, folder / "cells").rows["mosi", "lf_dnn", "base"]
    counts = sum(metrics.confusion_matrices("mosi", p, row.label)[7] for p in row.predictions["M"])
    table = next(t for t in parsed.tables if t[0][0] == "" and len(t[0]) == 8)
    assert table[0][1:] == ["-3", "-2", "-1", "0", "1", "2", "3"]
    for cells, found in zip(table[1:], counts, strict=True):
        total = found.sum()
        assert cells[1:] == [f"{100 * n / total:.0f}" if total else NONE for n in found]
    assert "lf_dnn, base (20 clips, 2 seeds)" in parsed.text


def test_cases_and_maps_say_what_they_lack(made):
    parsed, _, _ = made
    assert "Transcripts are left out: the run does not say where its data lies." in parsed.text
    assert "Features of single modalities of tfn, base are left out" in parsed.text
    assert "Fused features of tfn, base are left out: a map needs 10 clips with different" in parsed.text
    heads = [t[0] for t in parsed.tables if t[0][0] == "clip"]
    assert heads == [["clip", "label", "A: tfn, base", "B: tfn, -fg"]]


def test_the_best_row_stands_behind_its_base(tmp_path):
    write_cells(STUDY, tmp_path)
    rows = list(read_results(STUDY, tmp_path / "cells").rows.values())

    def labels_of(*left):
        return [row.labels[1:] for row in pairs.chosen(STUDY, [r for r in rows if r.labels[1:] in left])]

    assert labels_of(*NOISE) == [("tfn", "base"), ("tfn", "-fg")]  # the best is a base
    assert labels_of(("lf_dnn", "base"), ("lf_dnn", "-fg")) == [("lf_dnn", "base"), ("lf_dnn", "-fg")]
    assert labels_of(("lf_dnn", "-fg"), ("tfn", "-fg")) == [("tfn", "-fg")]  # its base is not there
    assert labels_of() == []


def test_fused_features_are_mapped_without_the_data(tmp_path):
    study = declared(models("tfn", "lmf"), base={"model": "tfn"})
    write_cells(study, tmp_path)
    for folder in (tmp_path / "cells").iterdir():
        fusion = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
        np.savez(folder / "features.npz", fusion=fusion, label=np.zeros(20))
    first, second = (written(study, tmp_path)[1] for _ in range(2))
    assert first == second
    assert first.count('aria-label="Map of fused features of ') == 2


def test_hostile_names_are_only_shown(tmp_path):
    study = declared(
        variants({EVIL: {}, "other": {}}), base={"variant": "other"}, title=EVIL, note=EVIL, source=EVIL
    )
    write_cells(study, tmp_path)
    for folder in (tmp_path / "cells").iterdir():
        text = (folder / "predictions.csv").read_text().replace("clip_", "<script>_")
        (folder / "predictions.csv").write_text(text)
    parsed, text = written(study, tmp_path)
    assert sum(tag == "script" for tag, _ in parsed.elements) == 1
    assert text.lower().count("<script") == 1
    assert parsed.text.count(EVIL) >= 3  # title, heading, table
    assert not {name for _, attributes in parsed.elements for name in attributes if name.startswith("on")}


@pytest.mark.parametrize("kind", [{"classify": True}, {"metric_set": "plain"}])
def test_other_kinds_of_answers_have_their_page(tmp_path, kind):
    study = declared(models("tfn", "lmf"), base={"model": "tfn"})
    write_cells(study, tmp_path, **kind)
    parsed, text = written(study, tmp_path)
    confusion = [t for t in parsed.tables if t[0][0] == ""]
    if "classify" in kind:
        assert [t[0][1:] for t in confusion] == [["negative", "neutral", "positive"]] * 2
        assert "Losses and validation Acc-3 of tfn by epoch" in text
    else:
        assert not confusion
        assert 'id="confusion"' not in text
    assert not re.search(r"\b(nan|None)\b", parsed.text)


def test_a_study_of_one_row_has_no_comparisons(tmp_path):
    study = declared(models("tfn"))
    write_cells(study, tmp_path)
    parsed, text = written(study, tmp_path)
    assert 'id="differences"' not in text
    assert 'id="ranks"' not in text
    assert "The largest errors of A: 10 of 20 test clips." in parsed.text


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    write_cells(study := declared(models("tfn")), tmp_path)
    (tmp_path / ".study.html.tmp").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*study.html"):
        written(study, tmp_path)


def test_the_study_writes_its_page_or_says_what_that_needs(tmp_path, monkeypatch, caplog):
    write_cells(study := declared(models("tfn")), tmp_path / "s")
    folder = StudyFolder(tmp_path / "s", "mine.py")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        run.write(study, folder, "off")
    assert "no study.html: it needs more packages; pip install scikit-learn" in caplog.text
    assert (folder.path / "table.md").exists()
    assert not (folder.path / "study.html").exists()
    run.write(study, folder, "off")
    assert (folder.path / "study.html").exists()


@pytest.fixture
def large(tmp_path):
    """Eleven rows of five seeds, some with long names."""
    names = {f"variant {k} {'x' * (4 * k)}": {} for k in range(11)}
    study = Study("Many", grid(data_sets("mosi"), variants(names), seeds(5)), base={"variant": "variant 0"})
    for number, cell in enumerate(study.cells):
        folder = fake_study.write_cell(tmp_path / "cells", cell, clips=686, epochs=30 + number % 7)
        fusion = np.random.default_rng(number).normal(size=(686, 16)).astype(np.float32)
        np.savez(folder / "features.npz", fusion=fusion, label=np.zeros(686))
    return study, tmp_path


def test_a_large_study_has_a_page_of_bearable_size(large):
    _, text = written(*large)
    assert text.count("by epoch") == 11
    assert len(text.encode()) < 4_000_000


SORT = """<!DOCTYPE html><body><iframe style="width:390px;height:900px" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inner = document.querySelector("iframe").contentDocument;
  const table = inner.querySelector("table.results"), found = [];
  const say = () => found.push([...table.tBodies[0].rows].map(r => r.cells[0].textContent
    + r.cells[1].textContent).join());
  const heads = [...table.tHead.rows[0].cells], mae = heads.find(h => h.textContent === "MAE");
  say();
  for (const head of [mae, mae, heads[0]]) {{ head.querySelector("button").click(); say(); }}
  found.push(heads.map(h => h.getAttribute("aria-sort")).filter(Boolean).join());
  document.body.innerHTML = "<output>" + found.join(";") + "</output>";
}};</script></body>"""


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_a_click_sorts_the_table(made, tmp_path):
    _, text, folder = made
    wrapped = tmp_path / "sort.html"
    wrapped.write_text(SORT.format(page=html.escape(text, quote=True)))
    dom, complaints = browse(wrapped, tmp_path / "profile")
    assert not complaints
    found = re.search(r"<output>(.*?)</output>", dom)
    assert found, dom[:500]
    start, down, up, by_name, state = found[1].split(";")
    rows = read_results(STUDY, folder / "cells").rows
    order = sorted(rows, key=lambda row: rows[row].metrics["mae"].mean())

    def begins(text):
        return [re.sub(r" \(.*", "", name) for name in text.split(",")]

    assert begins(start) == ["".join(row[1:]) for row in rows]
    assert begins(down) == ["".join(row[1:]) for row in order]
    assert begins(up) == begins(down)[::-1]
    assert [name[:3] for name in begins(by_name)] == ["lf_", "lf_", "lmf", "lmf", "tfn", "tfn"]
    assert state == "ascending"


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_a_phone_scrolls_tables_and_never_the_page(made, tmp_path):
    wide = tmp_path / "wide.html"
    for content, fits in ((made[1], True), (made[1].replace('class="scroll"', ""), False)):
        wide.write_text(MEASURE.format(page=html.escape(content, quote=True)))
        dom, complaints = browse(wide, tmp_path / "profile")
        found = re.search(r"<output>(\d+)", dom)
        assert found, dom[:500]
        assert not complaints
        assert (int(found[1]) <= 360) == fits


def test_figures_name_what_differs_between_rows():
    """A label that all rows have says nothing; a setting's bare value does not say of what."""
    from msa_jax.studies.layout import Line, Table
    from msa_jax.studies.page import _plain_name

    rows = [("mosi", "ufen_mtfn", "1"), ("mosi", "ufen_mtfn", "2")]
    lines = tuple(Line(row, row[1:], (), (), 1, None, 0.0) for row in rows)
    table = Table("mosi", ("model", "model.n_layers"), (), lines)
    assert [_plain_name(row, table) for row in rows] == ["n_layers 1", "n_layers 2"]
    alone = Table("mosi", ("model", "model.n_layers"), (), lines[:1])
    assert _plain_name(rows[0], alone) == "ufen_mtfn, n_layers 1"
