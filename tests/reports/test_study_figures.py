"""What the figures of a study's page draw, read off their axes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from msa_jax.reports import figures
from msa_jax.reports.study_figures import Difference, intervals, ranks, seed_curves

NAN = float("nan")


def curves(*seeds, limits=None, single=None):
    """The panels with these seeds' values as every line."""
    values = np.array(seeds)
    epochs = np.array(single or [len(seeds[0]) - int(np.isnan(s).sum()) for s in seeds])
    panels = Figure().subplots(2)
    seed_curves(list(panels), values, values + 1, values + 2, epochs, "MAE", limits)
    return panels


def lines(axes):
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_linewidth()) for line in axes.lines]


def test_the_line_is_the_mean_and_thin_where_a_seed_has_ended():
    upper, lower = curves([1.0, 2.0, 3.0, 6.0], [3.0, 4.0, 5.0, NAN])
    train, rest, valid, _ = lines(upper)
    assert train[:2] == ([1, 2, 3], [2, 3, 4])
    assert valid[1] == [3, 4, 5]
    assert rest[:2] == ([3, 4], [4, 6])
    assert rest[2] < train[2]
    *_, ends = lower.lines
    assert list(ends.get_xdata()) == [4, 3]
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["training", "validation"]


def test_the_band_reaches_from_the_lowest_seed_to_the_highest():
    upper, _ = curves([1.0, 2.0, 3.0], [3.0, 1.0, 5.0])
    corners = upper.collections[0].get_paths()[0].vertices
    for epoch, low, high in ((1, 1, 3), (2, 1, 2), (3, 3, 5)):
        there = corners[corners[:, 0] == epoch][:, 1]
        assert (there.min(), there.max()) == (low, high)


def test_seeds_that_end_together_have_no_marks_and_one_seed_no_band():
    upper, lower = curves([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert (len(upper.lines), len(lower.lines)) == (2, 1)
    upper, lower = curves([1.0, 2.0, 3.0])
    assert not upper.collections
    assert not lower.collections


def test_an_epoch_without_a_value_is_a_gap_and_not_a_zero():
    upper, _ = curves([1.0, NAN, 3.0], [3.0, NAN, 5.0], single=[3, 3])
    assert lines(upper)[0][1] == pytest.approx([2, NAN, 4], nan_ok=True)
    empty, _ = curves([NAN, NAN], [NAN, NAN], single=[2, 2])
    assert not empty.lines
    assert empty.get_legend() is None


def test_all_rows_may_share_a_scale():
    _, lower = curves([1.0, 2.0], limits=(0.0, 9.0))
    assert lower.get_ylim() == (0, 9)


def test_differences_stand_in_order_with_interval_side_and_mark():
    axes = Figure().subplots()
    rows = [
        Difference("a", 1.0, 0.5, 2.0, True, "†"),
        Difference("x" * 60, -1.0, -2.0, 0.5, False, ""),
        Difference("c", 0.0, None, None, False, ""),
    ]
    intervals(axes, rows, "points")
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "a †"
    assert names[1].endswith("…")
    assert [len(line) for line in names[1].split("\n")] == [22, 22]
    assert list(axes.get_yticks()) == [2, 1, 0]
    assert [bar.get_width() for bar in axes.patches] == [1, -1, 0]
    spans = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "None"]
    assert spans == [[0.5, 2.0], [-2.0, 0.5], [0, 0]]  # the last one is the line at 0
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "none" for dot in dots] == [False, True, True]
    colours = [to_hex(dot.get_color()) for dot in dots]
    assert colours == [figures.ONE, figures.TWO, figures.INK]


def test_ranks_are_joined_where_they_cannot_be_told_apart():
    axes = Figure().subplots()
    ranks(axes, ["a", "b", "c"], np.array([1.0, 1.5, 3.0]), 1.2, [("a", "b")])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    (bar,) = [line for line in axes.lines if line.get_linewidth() == 4]
    low, high = bar.get_ydata()
    assert low < 1 < 2 < high  # b and a, and not c at 0
    assert low > 0
    (scale,) = [line for line in axes.lines if line.get_marker() == "|"]
    assert list(scale.get_xdata()) == [1, 2.2]


def test_letters_that_the_font_lacks_are_drawn_without_a_warning():
    rows = [Difference("中文 <b>", 1.0, 0.5, 2.0, True, "")]
    svg = figures.draw("x1", "中文 \"<b>'", intervals, rows, "points")
    assert "中文 &lt;b&gt;</text>" in svg
    assert 'aria-label="中文 &#34;&lt;b&gt;&#39;"' in svg
