import csv
import dataclasses
import re

import fake_study
import numpy as np
import pytest

from msa_jax.errors import RunError
from msa_jax.studies import latex, markdown
from msa_jax.studies.bootstrap import Bootstrap
from msa_jax.studies.grid import Study, data_sets, grid, models, seeds, words
from msa_jax.studies.layout import NONE, Entry, figure, footnotes, lay_out
from msa_jax.studies.results import StudyResults
from msa_jax.studies.statistics import Statistics, compare
from msa_jax.studies.tables import differences_csv, seeds_csv, write_tables
from msa_jax.training.watched import LABEL as LABEL_OF_WATCHED

PLAN = Bootstrap(resamples=100)
LABEL = fake_study.labels_of("mosi", 50)


def noisy(noise, seed, count=5, metric_set="mosi"):
    label = fake_study.labels_of(metric_set, 50)
    return label + np.random.default_rng(seed).normal(0, noise, (count, 50))


def made(*names, targets=None, data=("mosi",), **changes):
    """A study of models, its results with ever more noise, and their statistics."""
    study = Study(
        "Table 3: A & B",
        grid(data_sets(*data), models(*names), seeds(5)),
        base={"model": names[0]},
        targets=targets or {},
        source="Cai et al. 2025",
    )
    rows = {}
    for d in data:
        kind = "sims" if d == "sims" else "mosi"
        label = fake_study.labels_of(kind, 50)
        for k, name in enumerate(names):
            rows[d, name] = fake_study.row((d, name), noisy(0.5 + k, k, metric_set=kind), label, kind)
    rows |= changes.get("rows", {})
    results = StudyResults(rows, {})
    return study, results, compare(study, results, PLAN)


def test_the_columns_of_the_papers():
    study, results, statistics = made("tfn", "lmf", data=("mosi", "sims"))
    mosi, sims = lay_out(study, results, statistics)
    assert [column.title for column in mosi.columns] == [
        "Acc-2 has0/non0", "F1 has0/non0", "Acc-7", "MAE", "Corr",
    ]  # fmt: skip
    assert [column.title for column in sims.columns] == ["Acc-2", "F1", "Acc-3", "Acc-5", "MAE", "Corr"]
    assert (mosi.data, sims.data) == ("mosi", "sims")
    assert mosi.axes == sims.axes == ("model",)


def test_other_kinds_have_their_own_keys():
    plain = fake_study.row(("mosi", "tfn"), noisy(1, 0), LABEL, "plain")
    logits = np.random.default_rng(0).normal(0, 1, (5, 50, 3))
    classes = fake_study.row(("mosi", "lmf"), logits, np.sign(LABEL) + 1)
    study, results, statistics = made("tfn", "lmf", rows={plain.labels: plain, classes.labels: classes})
    first, second = lay_out(study, results, statistics)
    assert [column.title for column in first.columns] == ["MAE", "Corr", "R2", "CCC"]
    assert [column.keys for column in second.columns] == [
        ("acc3",), ("f1_3",), ("acc2_has0", "acc2_non0"), ("f1_has0", "f1_non0"), ("f1_macro",),
    ]  # fmt: skip


def test_a_printed_figure_stands_beside_ours_and_brings_its_column():
    targets = {("mosi", "lmf"): {"acc2_non0": 0.825, "mae": 0.917, "acc5": 0.4, "nonsense": 1.0}}
    study, results, statistics = made("tfn", "lmf", targets=targets)
    (table,) = lay_out(study, results, statistics)
    assert [column.title for column in table.columns][2:4] == ["Acc-7", "Acc-5"]
    text = markdown.to_markdown(study, [table], footnotes(study, results, statistics, "x"), statistics)
    header = text.split("\n## mosi\n\n")[1].split("\n")[0]
    assert header.count("printed") == 3
    assert f"| {NONE} / 82.50 |" in text
    assert "| 0.917 |" in text
    assert 'headed "printed" have the figures of Cai et al. 2025' in text


def test_best_and_second_best_as_printed():
    means = {"a": 0.80004, "b": 0.80001, "c": 0.7, "d": 0.6}
    names = tuple(means)
    study, results, statistics = made(*names)
    rows = {}
    for labels, row in results.rows.items():
        values = dict(row.metrics) | {
            "acc7": np.full(5, means[labels[1]]),
            "mae": np.full(5, means[labels[1]]),
        }
        rows[labels] = dataclasses.replace(row, metrics=values)
    (table,) = lay_out(study, StudyResults(rows, {}), statistics)
    assert [line.entries[2][0].place for line in table.lines] == [1, 1, 2, 0]
    assert [line.entries[3][0].place for line in table.lines] == [0, 0, 2, 1]  # the MAE


def test_equal_rows_and_single_rows_have_no_best():
    study, results, statistics = made("tfn")
    (table,) = lay_out(study, results, statistics)
    assert {e.place for line in table.lines for entries in line.entries for e in entries} == {0}


def test_figures():
    assert figure("acc7", 0.34567) == "34.57"
    assert figure("mae", 0.9) == "0.900"
    assert figure("mae", -0.0123, "+") == "-0.012"
    assert figure("corr", None) == NONE
    assert Entry("acc7", 0.34567, 0.0123).text == "34.57 ± 1.23"
    assert Entry("acc7", 0.34567).text == "34.57"
    assert Entry("acc7", None).text == NONE


def test_the_deviation_is_the_samples():
    study, results, statistics = made("tfn", "lmf")
    (table,) = lay_out(study, results, statistics)
    values = results.rows["mosi", "tfn"].metrics["mae"]
    entry = table.lines[0].entries[3][0]
    assert entry.mean == pytest.approx(values.sum() / 5)
    assert entry.deviation == pytest.approx(np.sqrt(((values - entry.mean) ** 2).sum() / 4))


def test_rows_with_fewer_seeds_say_so():
    short = fake_study.row(("mosi", "lmf"), noisy(1, 1, 3), LABEL)
    single = fake_study.row(("mosi", "mult"), noisy(1, 1, 1), LABEL)
    study, results, statistics = made("tfn", "lmf", "mult", rows={short.labels: short, single.labels: single})
    (table,) = lay_out(study, results, statistics)
    assert [line.labels for line in table.lines] == [("tfn (base)",), ("lmf (3 seeds)",), ("mult (1 seed)",)]
    assert "±" not in table.lines[2].entries[3][0].text


def test_footnotes_say_what_the_marks_mean_and_what_is_missing():
    study, results, statistics = made("tfn", "lmf", "mult")
    results = StudyResults(results.rows, {"mosi-mfn-1111": "not finished", "mosi-mfn-1112": "it is damaged."})
    notes = footnotes(study, results, statistics, "underlined")
    text = "\n".join(notes)
    assert "second best underlined" in text
    assert "differs from the row with model tfn at 0.05" in text
    assert "100 resamples, generator seed 0" in text
    assert (
        "with 5 pairs of seeds is 0.0625, 0.125 after correction for 2 comparisons: †† cannot occur" in text
    )
    assert "Not finished and left out: mosi-mfn-1111." in text
    assert "Left out: mosi-mfn-1112: it is damaged." in text
    assert not any("\n" in note for note in notes)


def test_too_few_resamples_for_a_dagger_are_said():
    study, results, _ = made("tfn", "lmf", "mult")
    notes = footnotes(study, results, compare(study, results, Bootstrap(30)), "x")
    assert any("† asks for more resamples" in note for note in notes)


def test_the_csv_has_a_line_per_seed():
    study, results, _ = made("tfn", "lmf")
    lines = list(csv.DictReader(seeds_csv(study, results).splitlines()))
    assert len(lines) == 10
    assert list(lines[0])[:4] == ["data", "model", "seed", "acc2_has0"]
    assert list(lines[0])[-3:] == ["parameters", "seconds", "best_epoch"]
    assert lines[6]["seed"] == "1112"
    assert float(lines[6]["mae"]) == results.rows["mosi", "lmf"].metrics["mae"][1]
    assert (lines[6]["parameters"], lines[6]["best_epoch"]) == ("1234", "2")


def test_no_file_holds_a_nan(tmp_path):
    """Constant predictions have no correlation."""
    constant = fake_study.row(("mosi", "lmf"), np.full((5, 50), 0.4), LABEL)
    study, results, statistics = made("tfn", "lmf", rows={constant.labels: constant})
    files = write_tables(study, results, statistics, tmp_path)
    assert [path.name for path in files] == ["table.csv", "table.md", "table.tex", "table_differences.csv"]
    for path in files:
        assert not re.search(r"\b([Nn]a[Nn]|None|inf)\b", path.read_text()), path
    assert "Not defined for some seed" in files[1].read_text()
    assert "Corr of mosi, lmf" in files[1].read_text()
    lines = list(csv.DictReader(files[0].read_text().splitlines()))
    assert {line["corr"] for line in lines if line["model"] == "lmf"} == {""}


def test_the_differences_have_every_figure():
    study, _, statistics = made("tfn", "lmf")
    lines = list(csv.DictReader(differences_csv(study, statistics).splitlines()))
    assert len(lines) == 9
    line = next(line for line in lines if line["metric"] == "mae")
    one = statistics.comparisons[("mosi", "lmf"), "mae"]
    assert (line["base model"], line["pairs"], line["resamples"]) == ("tfn", "5", "100")
    for name in ("difference", "low", "high", "better", "bootstrap_p", "wilcoxon_holm", "wilcoxon_least"):
        assert float(line[name]) == getattr(one, name), name


def test_operations_are_shown_where_they_are_known(tmp_path):
    study, results, statistics = made("tfn", "lmf")
    files = write_tables(study, results, statistics, tmp_path, operations={("mosi", "lmf"): 1234567})
    assert "| operations per clip |" in files[1].read_text()
    assert "1,234,567" in files[1].read_text()
    lines = list(csv.DictReader(files[0].read_text().splitlines()))
    assert {line["operations"] for line in lines} == {"", "1234567"}


def rows_of(tex):
    return re.findall(r"^(?!%|\\)(.*) \\\\$", tex, re.MULTILINE)


def test_the_latex_is_a_booktabs_table():
    study, results, statistics = made("tfn", "lmf", "mult", data=("mosi", "sims"))
    tables = lay_out(study, results, statistics)
    tex = latex.to_latex(study, tables, footnotes(study, results, statistics, "underlined"))
    for name in ("table*", "tabular", "minipage"):
        assert tex.count(rf"\begin{{{name}}}") == tex.count(rf"\end{{{name}}}") > 0
    for rule in ("toprule", "midrule", "bottomrule"):
        assert tex.count(rf"\{rule}") == 2
    assert r"\caption{Table 3: A \& B: mosi}" in tex
    for specification, block in re.findall(
        r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL
    ):
        lines = rows_of(block)
        assert len(lines) == 4
        assert {line.count("&") + 1 for line in lines} == {len(specification)}
        assert r"\textbf{" in block
        assert r"\underline{" in block
        assert r"\textsuperscript{\dag{}}" in block
    bare = re.sub(r"\\[{}]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert tex.isascii()


@pytest.mark.parametrize(
    ("label", "in_latex", "in_markdown"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%", r"a\_b & 5 %"),
        ("{x}^2~$#", r"\{x\}\textasciicircum{}2\textasciitilde{}\$\#", r"{x}^2\~$\#"),
        ("a|b*c", r"a\textbar{}b{*}c", r"a\|b\*c"),
        ("\\input{x}", r"\textbackslash{}input\{x\}", r"\\input{x}"),
        ("[1] <b>", r"{[}1{]} \textless{}b\textgreater{}", r"\[1\] \<b\>"),
        ("two\nlines", "two lines", "two lines"),
    ],
)
def test_labels_are_shown_as_they_are(label, in_latex, in_markdown):
    assert latex.escape(label) == in_latex
    assert markdown.escape(label) == in_markdown


def test_a_hostile_label_does_not_break_the_tables():
    name = "a | b & [c] \\end{tabular} `x` %"
    study, results, statistics = made("tfn", name)
    tables = lay_out(study, results, statistics)
    tex = latex.to_latex(study, tables, [])
    assert tex.count(r"\end{tabular}") == 1
    text = markdown.to_markdown(study, tables, [], Statistics({}, PLAN))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_a_study_without_a_base_or_models_has_its_table_too(tmp_path):
    study = Study("variants", grid(data_sets("mosi"), words({"base": "", "-fg": "fg=both"}), seeds(5)))
    rows = {row: fake_study.row(row, noisy(1, k), LABEL) for k, row in enumerate(study.rows())}
    results = StudyResults(rows, {})
    files = write_tables(study, results, compare(study, results, PLAN), tmp_path)
    assert [path.name for path in files] == ["table.csv", "table.md", "table.tex"]
    assert "†" not in files[1].read_text()
    only_data = Study("one model", grid(data_sets("mosi"), seeds(5)))
    row = fake_study.row(("mosi",), noisy(1, 0), LABEL)
    results = StudyResults({row.labels: row}, {})
    (table,) = lay_out(only_data, results, compare(only_data, results, PLAN))
    assert (table.axes, table.lines[0].labels) == (("data",), ("mosi",))


def test_the_best_test_epoch_has_tables_of_its_own_where_it_was_watched(tmp_path):
    study, results, statistics = made("tfn", "lmf")
    files = write_tables(study, results, statistics, tmp_path)
    assert not any(LABEL_OF_WATCHED in path.read_text() for path in files)
    columns = len(files[0].read_text().splitlines()[0].split(","))
    row = results.rows["mosi", "lmf"]
    lower = {key: values - 0.1 for key, values in row.metrics.items()}
    rows = {**results.rows, row.labels: dataclasses.replace(row, watched=lower)}
    files = write_tables(study, StudyResults(rows, {}), statistics, tmp_path)
    header, *lines = csv.reader(files[0].read_text().splitlines())
    assert header[columns:] == [f"{LABEL_OF_WATCHED}: {key}" for key in lower]
    place = header.index(f"{LABEL_OF_WATCHED}: mae")
    of_lmf = [float(line[place]) for line in lines if line[1] == "lmf"]
    assert of_lmf == [float(value) for value in lower["mae"]]
    assert {line[place] for line in lines if line[1] == "tfn"} == {""}
    text = files[1].read_text()
    fair, best = text.split(f"## mosi: {markdown.escape(LABEL_OF_WATCHED)}\n")
    assert f"{row.metrics['mae'].mean():.3f} ±" in fair
    assert f"{row.metrics['mae'].mean() - 0.1:.3f} ±" in best
    assert "| tfn" not in best.split("\n- ")[0]
    assert f"mosi: {LABEL_OF_WATCHED}}}" in files[2].read_text()
    assert "differences" in files[3].name


def test_a_study_with_nothing_finished_writes_empty_tables(tmp_path):
    study, _, _ = made("tfn", "lmf")
    results = StudyResults({}, {cell.name: "not finished" for cell in study.cells})
    files = write_tables(study, results, compare(study, results, PLAN), tmp_path)
    assert len(files[0].read_text().splitlines()) == 1
    assert "Not finished and left out: mosi-tfn-1111" in files[1].read_text()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        write_tables(*made("tfn", "lmf"), tmp_path / "absent")
