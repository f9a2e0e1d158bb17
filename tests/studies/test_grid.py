"""A declared grid: its cells, what is refused, and the studies of the papers."""

import pathlib

import pytest

from msa_jax import configuration
from msa_jax.configuration import flatten
from msa_jax.errors import ConfigError
from msa_jax.studies import printed
from msa_jax.studies.grid import (
    Study,
    checked,
    data_sets,
    grid,
    models,
    of_seeds,
    read_argument,
    seeds,
    values,
    variants,
    words,
)
from msa_jax.studies.run import load_study

SHIPPED = [f"configs/studies/{path.name}" for path in configuration.shipped("studies")]


def small(*axes, **more):
    return Study("small", grid(data_sets("mosi"), models("tfn", "lmf"), *axes), **more)


def test_axes_multiply_and_the_first_is_slowest():
    study = small(words({"base": "", "-fg": "fg=audio"}), seeds(2))
    assert [cell.name for cell in study.cells] == [
        f"mosi-{model}-{variant}-{seed}"
        for model in ("tfn", "lmf")
        for variant in ("base", "fg")
        for seed in (1111, 1112)
    ]
    cell = study.cells[3]
    assert (cell.config, cell.overrides()) == ("configs/mosi.py:tfn,fg=audio", ["train.seed=1112"])
    assert study.axes() == ("data", "model", "variant")
    assert study.rows() == [("mosi", m, v) for m in ("tfn", "lmf") for v in ("base", "-fg")]


def test_two_grids_make_one_table():
    wide = grid(data_sets("mosi"), models("tfn"), values("train.batch_size", 16, 32), seeds(1))
    more = grid(data_sets("mosi"), models("lmf"), values("train.batch_size", 64), seeds(1))
    made = checked(Study("both", wide + more))
    assert [config.train.batch_size for _, config in made.values()] == [16, 32, 64]


def test_the_base_is_the_row_that_differs_by_it_alone():
    study = small(words({"base": "", "-fg": "fg=audio"}), seeds(1), base={"variant": "base"})
    assert study.base_of(("mosi", "tfn", "-fg")) == ("mosi", "tfn", "base")
    assert study.base_of(("mosi", "tfn", "base")) is None
    assert small(seeds(1)).base_of(("mosi", "tfn")) is None


def test_settings_of_all_types_arrive():
    changes = {"train.batch_size": 7, "model.compat": True, "data.label_range": (-2.0, 2.0)}
    (_, config) = checked(
        Study("s", grid(data_sets("mosi"), models("tfn"), variants({"x": changes}), seeds(1)))
    )["mosi-tfn-x-1111"]
    assert {key: flatten(config)[key] for key in changes} == changes


def test_settings_of_the_command_line_are_for_all_cells():
    made = checked(small(seeds(2)), ["train.epochs=3", "data.path=x.pkl"])
    assert {(c.train.epochs, c.data.path) for _, c in made.values()} == {(3, "x.pkl")}


@pytest.mark.parametrize(
    ("study", "says"),
    [
        (lambda: small(seeds(0)), "has no cells"),
        (
            lambda: small(variants({"a b": {}, "a/b": {}}), seeds(1)),
            "two cells of the name mosi-tfn-a_b",
        ),
        (lambda: small(variants({"x": {"train.lr": 1}}), seeds(1)), "cell mosi-tfn-x-1111: .*no such key"),
        (lambda: small(values("train.epochs", "many"), seeds(1)), "cell .*train.epochs=many is not a whole"),
        (lambda: small(seeds(1), base={"variant": "base"}), "no row of the study differs"),
        (lambda: Study("s", grid(models("tfn"), seeds(1))), "needs one axis of data sets; this one has 0"),
        (lambda: small(data_sets("sims")), "two axes of one name"),
        (
            lambda: Study("s", small(seeds(1)).cells + grid(data_sets("mosi"), seeds(1))),
            "have the same axes",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(study, says):
    with pytest.raises(ConfigError, match=says) as raised:
        checked(study())
    assert "\n" not in str(raised.value)


def test_the_argument_names_data_sets_and_a_try():
    asked = read_argument("synthetic,tiny", data=("mosi", "sims"))
    assert ([choice.name for choice in asked.data], asked.tiny) == (["synthetic"], True)
    assert [choice.name for choice in read_argument("", data=("mosi", "sims")).data] == ["mosi", "sims"]
    assert [choice.config for choice in read_argument("mine/own.py", data=()).data] == ["mine/own.py"]
    with pytest.raises(ConfigError, match="'moso' after the study's colon is unknown"):
        read_argument("moso", data=("mosi",))


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("mosi", {}),
        ("mosi,frozen", {"model.text_encoder": "frozen"}),
        ("mosi,encoder=dir/bert", {"model.encoder.folder": "dir/bert"}),
    ],
)
def test_the_argument_says_what_text_encoders_read(argument, settings):
    """Only models that train one by default hear of it: others have no such settings, or do not use them."""
    study = load_study(f"configs/studies/cai_tables3to5.py:{argument}")
    made = checked(study).values()
    for cell, config in made:
        tunes = cell.labels["model"] in ("misa", "self_mm", "mmim")
        assert {k: v for k, v in cell.settings.items() if k != "train.seed"} == (settings if tunes else {})
        if tunes and settings:
            assert config.model.text_encoder == ("frozen" if "frozen" in argument else "finetune")


@pytest.mark.parametrize("argument", ["frozen", "encoder=bert"])
def test_a_study_without_text_encoders_knows_no_word_for_them(argument):
    with pytest.raises(ConfigError, match=f"'{argument}' after the study's colon is unknown"):
        read_argument(argument, data=("mosi",))
    with pytest.raises(ConfigError, match=r"it takes .*, tiny, frozen, encoder=DIR or"):
        read_argument("encoder=", data=("mosi",), encoder=True)


@pytest.mark.parametrize("path", SHIPPED)
def test_a_shipped_study_is_whole(path):
    """All cells can be configured, and every printed figure of a paper's table stands beside a row."""
    study = load_study(path)
    made = checked(study)
    seeds = 3 if path.endswith("text.py") else 5  # as the papers have it, but for our own study of encoders
    assert len(made) == seeds * len(study.rows())
    assert set(study.targets) <= set(study.rows())
    if "_table" in path:
        assert len(study.targets) >= len(study.rows()) - 2  # Table 10 has no row for what is configured
    small = load_study(f"{path}:synthetic,tiny")
    assert all(config.train.epochs == 2 for _, config in checked(small).values())
    assert len(small.cells) == 2 * len(small.rows())


def test_all_tables_are_declared():
    tables = {pathlib.Path(path).stem for path in SHIPPED if "_table" in path}
    assert tables == {"cai_tables3to5", *(f"cai_table{n}" for n in (7, 8, 9, 10))} | {
        f"zheng_table{n}" for n in (4, 5, 6, 7, 8)
    }


def test_printed_figures_are_read():
    complete = printed.of_model("cai_table9", "ufen_mtfn")["mosi", "ufen_mtfn", "complete"]
    assert complete["corr"] == 0.792
    assert complete["acc2_has0"] == 0.852
    assert printed.figures("zheng_table5")["sims", "lf_dnn", "-fg"]["acc5"] == 0.4175
    assert printed.models_of_cai()["sims", "ufen_mtfn"]["acc2"] == 0.8156


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a usable configuration: AttributeError"),
        ("def get_study(argument):\n    return 3\n", "returned int, not a Study"),
    ],
)
def test_a_file_that_declares_no_study(tmp_path, text, says):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_study(str(tmp_path / "mine.py"))
    with pytest.raises(ConfigError, match="is not a study file"):
        load_study("mine")


def test_seeds_of_a_configuration_begin_with_its_own():
    config = configuration.load("configs/synthetic.py:tiny,tfn", ["train.seed=7"])
    study = of_seeds("configs/synthetic.py:tiny,tfn", config, 3)
    made = checked(study, ["train.epochs=2"])
    assert list(made) == ["synthetic-tfn-7", "synthetic-tfn-8", "synthetic-tfn-9"]
    assert [config.train.seed for _, config in made.values()] == [7, 8, 9]
    assert {config.train.epochs for _, config in made.values()} == {2}
    assert study.rows() == [("synthetic", "tfn")]
