import pathlib
import re
import subprocess
import sys

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

from msa_jax.reports import figures

STYLE = pathlib.Path(figures.__file__).with_name("style.css").read_text()


def drawn_curves(name="loss", valid=(2.0, 1.5, 1.6)):
    lines = {"loss": [2.0, 1.0, 0.5]}
    return figures.draw(name, "Losses", figures.curves, [1, 2, 3], lines, {"loss": list(valid)}, 2, "loss")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a, b):
    """The contrast ratio of WCAG 2."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def page_colours(name):
    """A colour of the pages in light and dark."""
    return re.findall(rf"--{name}: (#\w+);", STYLE)


def test_colours_stand_out_in_light_and_dark():
    cards = page_colours("card")
    assert len(cards) == 2
    for k, card in enumerate(cards):
        assert contrast(page_colours("ink")[k], card) >= 7
        assert contrast(page_colours("quiet")[k], card) >= 4.5
        assert contrast(page_colours("badge")[k], page_colours("badge-page")[k]) >= 4.5
        for name in ("one", "two"):
            assert contrast(page_colours(name)[k], card) >= 4.5
        for series in figures.SERIES:
            assert contrast(series, card) >= 3, series
        for share in (0.0, 0.5, 1.0):
            assert contrast(matplotlib.colors.to_hex(figures.SENTIMENT(share)), card) >= 3


def test_ink_is_the_pages_and_nothing_is_left_of_the_file_around_it():
    svg = drawn_curves()
    assert svg.startswith('<svg role="img" aria-label="Losses" viewBox="0 0 ')
    assert svg.rstrip().endswith("</svg>")
    for colour in ("currentColor", "var(--one)", "var(--two)"):
        assert colour in svg
    for gone in ("#01020", "<?xml", "<!DOCTYPE", "<metadata", "<style", "http", "DejaVu"):
        assert gone not in svg
    assert ">training</text>" in svg
    assert ">best epoch (2)</text>" in svg


def test_ids_carry_the_figures_name_and_all_references_resolve():
    svg = drawn_curves("some")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("some-") for i in ids)
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)
    assert used
    assert {a or b for a, b in used} <= set(ids)


def test_same_data_same_bytes_and_no_global_state():
    before = dict(matplotlib.rcParams)
    assert drawn_curves() == drawn_curves()
    assert dict(matplotlib.rcParams) == before


def test_the_users_own_matplotlib_settings_do_not_matter():
    plain = drawn_curves()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        assert drawn_curves() == plain


def test_no_figure_window_machinery_is_loaded():
    script = (
        "import sys; from msa_jax.reports import page, figures\n"
        "figures.draw('a', 'b', figures.curves, [1], {'loss': [1.0]}, {}, 1, 'loss')\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_values_leave_gaps_and_dollars_are_dollars():
    nan = float("nan")
    svg = drawn_curves(valid=(nan, nan, nan))
    assert ">validation</text>" in svg
    lines = {"$\\frac{": [1.0, 2.0], "<b>&": [2.0, 1.0]}
    svg = figures.draw("terms", "Terms", figures.curves, [1, 2], lines, {}, 1, "$x")
    assert ">$\\frac{</text>" in svg
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;</text>" in svg


def test_a_term_is_listed_once_and_has_one_colour():
    lines = {"M": [1.0, 2.0], "T": [2.0, 1.0]}
    svg = figures.draw("terms", "Terms", figures.curves, [1, 2], lines, lines, 1, "loss")
    assert svg.count(">M</text>") == svg.count(">T</text>") == 1
    assert "_unlisted" not in svg
    for colour in figures.SERIES[:2]:
        assert len(re.findall(rf"stroke: {colour}\b", svg)) >= 3  # training, validation, legend


def test_scatter_shades_every_cell_with_clips_and_takes_wild_predictions():
    label = np.array([-1.0, -1.0, -1.0, 0.0, 1.0])
    prediction = np.array([-1.0, -1.0, -1.0, 0.5, 7.0])
    svg = figures.draw("scatter", "Scores", figures.scatter, label, prediction, (-1.0, 1.0))
    alphas = re.findall(r"fill: var\(--one\); fill-opacity: ([\d.]+)", svg)
    assert len(alphas) == 3
    assert max(float(a) for a in alphas) == pytest.approx(0.85)
    assert min(float(a) for a in alphas) == pytest.approx(0.1 + 0.75 / np.sqrt(3), abs=1e-5)


def test_scatter_of_constant_predictions():
    svg = figures.draw("scatter", "Scores", figures.scatter, np.zeros(3), np.full(3, 0.2), (-3.0, 3.0))
    assert svg.count("fill-opacity") >= 1


def test_map_is_reproducible_and_bounded():
    rng = np.random.default_rng(1)
    fusion = rng.normal(size=(30, 8))
    first, second = figures.embed(fusion), figures.embed(fusion)
    assert first is not None
    assert second is not None
    assert np.array_equal(first[0], np.arange(30))
    assert np.array_equal(first[1], second[1])
    rows = figures._sample(4659)
    assert len(rows) == figures.MAX_POINTS
    assert (np.diff(rows) > 0).all()


def test_map_keeps_clusters_apart():
    rng = np.random.default_rng(2)
    centre = np.repeat([[0.0], [20.0]], 20, axis=0)
    mapped = figures.embed(rng.normal(size=(40, 6)) + centre)
    assert mapped is not None
    places = mapped[1]
    between = np.linalg.norm(places[:20].mean(0) - places[20:].mean(0))
    assert between > max(places[:20].std(), places[20:].std())


@pytest.mark.parametrize(
    "fusion",
    [
        np.random.default_rng(0).normal(size=(9, 4)),
        np.ones((50, 4)),
        np.full((50, 4), np.nan),
        np.repeat(np.eye(4), 10, axis=0),
    ],
    ids=["few clips", "constant", "not finite", "few different"],
)
def test_no_map_of_what_cannot_be_mapped(fusion):
    assert figures.embed(fusion) is None


def test_map_of_one_feature():
    mapped = figures.embed(np.linspace(0, 1, 12)[:, None])
    assert mapped is not None
    assert np.isfinite(mapped[1]).all()
