"""Spaces: what may be drawn, what is refused, and that those shipped fit their models."""

import subprocess
import sys

import pytest

from msa_jax import configuration, models
from msa_jax.errors import ConfigError
from msa_jax.studies.grid import as_overrides
from msa_jax.training.checks import check_values
from msa_jax.tuning.space import Number, OneOf, Space, Whole, check_space, load_space

SHIPPED = {path.stem: path for path in configuration.shipped("spaces")}
DATA = [path.stem for path in configuration.shipped()]


def base(model="lf_dnn", data="mosi"):
    return configuration.load(f"configs/{data}.py:{model}")


def test_what_is_drawn_is_read_setting_by_setting():
    space = Space(
        {
            "train.batch_size": OneOf(16, 32),
            "model.d_model, model.heads": OneOf((30, 6), (32, 8)),
            "model.relu_dropout,model.embed_dropout": Number(0, 0.5),
        }
    )
    drawn = {
        "train.batch_size": 16,
        "model.d_model, model.heads": (32, 8),
        "model.relu_dropout,model.embed_dropout": 0.25,
    }
    assert space.read(drawn) == {
        "train.batch_size": 16,
        "model.d_model": 32,
        "model.heads": 8,
        "model.relu_dropout": 0.25,
        "model.embed_dropout": 0.25,
    }
    assert sorted(space.read(drawn)) == sorted(space.settings())


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({}, "the space is empty; name at least one setting"),
        ({"train.epochs": 3}, r"train.epochs: 3 is none of Whole\(low, high\)"),
        ({"train.epochs": Whole(3, 3)}, "its lower end 3 must lie below its upper end 3"),
        ({"train.epochs": Whole(1, 2.5)}, "its ends must be whole numbers"),
        ({"train.learning_rate": Number(0, 1, log=True)}, "must lie above 0 for log=True"),
        ({"train.learning_rate": Number(0, float("inf"))}, "its ends must be finite numbers"),
        ({"train.learning_rate": Number("1", 2)}, "its ends must be finite numbers"),
        ({"train.schedule": OneOf("linear")}, "at least two values"),
        ({"train.schedule": OneOf("linear", "linear")}, "it has a value twice"),
        ({"model.a, model.b": OneOf((1, 2), (1, 2, 3))}, r"\(1, 2, 3\) must have 2 parts"),
        ({"model.a, model.b": Whole(1, 2), "model.b": Whole(1, 2)}, "model.b stands in the space twice"),
    ],
)
def test_a_space_that_cannot_be_drawn_from_is_refused(dimensions, message):
    with pytest.raises(ConfigError, match=message):
        Space(dimensions)


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"train.learnig_rate": Number(0, 1)}, r"no such key\. Did you mean 'train.learning_rate'"),
        ({"lr": Number(0, 1)}, r"no such key\. Did you mean 'train.learning_rate'"),
        ({"train": OneOf(1, 2)}, "is a block; set one of its keys"),
        ({"model.name": OneOf("tfn", "lmf")}, "comes too late"),
        ({"train.batch_size": Number(1.5, 8.5)}, "=1.5 is not a whole number"),
        ({"model.post_dropout": Number(0, 1.5)}, "model.post_dropout=1.5 must be at least 0 and below 1"),
        ({"train.schedule": OneOf("linear", "cosin")}, "Did you mean 'cosine'"),
        ({"train.monitor": OneOf("loss", "mae")}, "the score by which trials are compared"),
        ({"train.seed": Whole(1, 9)}, "the luckiest seed"),
        ({"train.watch_test": OneOf(True, False)}, "never looks at the test split"),
    ],
)
def test_a_space_that_does_not_fit_the_configuration_is_refused(dimensions, message):
    with pytest.raises(ConfigError, match=message):
        check_space(Space(dimensions), base())


def test_a_setting_is_drawn_or_set_by_hand():
    space = Space({"model.post_dropout": Number(0, 0.5)})
    check_space(space, base(), ["train.epochs=3"])
    with pytest.raises(ConfigError, match=r"--config.model.post_dropout has no effect; leave one out"):
        check_space(space, base(), ["model.post_dropout=0.1"])


def test_values_that_fit_another_draw_are_no_mistake():
    """MulT's 8 heads do not divide the preset's width of 50, but one that the space has."""
    check_space(Space({"model.d_model": OneOf(40, 64), "model.heads": OneOf(5, 8)}), base("mult"))
    with pytest.raises(ConfigError, match=r"the space's model.heads: .*model.heads=7 does not divide"):
        check_space(Space({"model.d_model": OneOf(40, 64), "model.heads": OneOf(5, 7, 8)}), base("mult"))


def test_a_file_that_is_no_space_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"--space=tfn is not a space file"):
        load_space("tfn")
    with pytest.raises(ConfigError, match=r"no configuration file configs/spaces/tfm.py.*spaces/tfn.py"):
        load_space("configs/spaces/tfm.py")
    (tmp_path / "mine.py").write_text("def get_space(argument):\n    return {}\n")
    with pytest.raises(ConfigError, match="get_space returned dict, not a Space"):
        load_space(f"{tmp_path}/mine.py")


def test_every_model_has_a_space():
    assert set(SHIPPED) == set(models.MODELS)


@pytest.mark.parametrize("model", SHIPPED)
def test_the_corners_of_a_shipped_space_are_configurations(model):
    space = load_space(f"configs/spaces/{model}.py")
    for end in (0, -1):
        drawn = {name: dimension.ends()[end] for name, dimension in space.dimensions.items()}
        check_values(configuration.changed(base(model), as_overrides(space.read(drawn))))


@pytest.mark.parametrize("model", SHIPPED)
def test_a_shipped_space_fits_its_model_on_every_data_set(model):
    space = load_space(f"configs/spaces/{model}.py")
    for data in DATA:
        check_space(space, base(model, data))


def test_a_space_is_read_without_optuna():
    code = (
        "import sys; from msa_jax.tuning.space import load_space; load_space('configs/spaces/mlf_dnn.py'); "
        "assert 'optuna' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
