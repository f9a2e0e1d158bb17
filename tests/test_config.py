"""Loading configurations, overriding them, and saying what is wrong with them."""

import argparse
import pathlib

import pytest

from msa_jax import config as configuration
from msa_jax.data import opening
from msa_jax.errors import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
DATASETS = ("synthetic", "mosi", "mosei", "sims", "simsv2")


@pytest.mark.parametrize("name", DATASETS)
def test_every_config_loads_and_survives_json(name):
    config = configuration.load(f"{CONFIGS / name}.py")
    again = configuration.from_json(configuration.to_json(config))
    assert configuration.difference(config, again) == []
    assert config.data.name == name


@pytest.mark.parametrize("name", DATASETS)
def test_expected_spec_has_the_published_shapes(name):
    config = configuration.load(f"{CONFIGS / name}.py")
    spec = opening.expected_spec(config)
    for modality, record in spec.modalities.items():
        assert (record.length, record.width) == tuple(config.data.expected[modality])


def test_overrides_keep_their_types():
    config = configuration.load(
        f"{CONFIGS / 'mosi.py'}",
        ["train.seed=7", "train.learning_rate=1", "data.group_by_length=false", "data.path=a=b.pkl"],
    )
    assert config.train.seed == 7
    assert config.train.learning_rate == 1.0
    assert isinstance(config.train.learning_rate, float)
    assert config.data.group_by_length is False
    assert config.data.path == "a=b.pkl"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.sead=3", ["train.sead", "'train.seed'"]),
        ("model.dropuot=0.1", ["'model.dropout'"]),
        ("train.lr=0.1", ["'train.learning_rate'"]),
        ("train.bs=8", ["'train.batch_size'"]),
        ("train.early_stop=8", ["'train.patience'"]),
        ("train.update_epochs=4", ["'train.accumulate'"]),
        ("train.KeyEval=Loss", ["'train.monitor'"]),
        ("data.featurePath=x.pkl", ["'data.path'"]),
        ("model.seed=3", ["'train.seed'"]),  # the right name in another block
        ("train.seed=three", ["whole number", "three"]),
        ("train.learning_rate=fast", ["a number"]),
        ("data.group_by_length=maybe", ["true or false"]),
        ("data.label_range=3", ["list"]),
        ("train=3", ["train is a block"]),
    ],
)
def test_wrong_overrides_say_what_is_right(override, words):
    with pytest.raises(ConfigError) as caught:
        configuration.load(f"{CONFIGS / 'mosi.py'}", [override])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "word"), [("ufen_mtfm", "ufen_mtfn"), ("fgg=both", "fg="), ("tinny", "tiny")]
)
def test_unknown_words_after_the_colon_name_the_nearest(argument, word):
    with pytest.raises(ConfigError, match=word):
        configuration.load(f"{CONFIGS / 'sims.py'}:{argument}")


def test_the_argument_reaches_the_model_block():
    config = configuration.load(f"{CONFIGS / 'sims.py'}:ufen_mtfn,fg=vision,tiny")
    assert config.model.fg == "vision"
    assert config.train.epochs == 2


def test_missing_and_broken_files_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        configuration.load(str(tmp_path / "nothing.py"))
    with pytest.raises(ConfigError, match=r"no configuration file; give one such as configs/mosi\.py"):
        configuration.load("mosi")
    broken = tmp_path / "configs" / "broken.py"
    broken.parent.mkdir()
    broken.write_text("def get_config(argument):\n    return 1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        configuration.load(str(broken))


def test_command_line_takes_both_spellings_and_refuses_unknown_flags():
    def parse(*argv):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        configuration.add_arguments(parser)
        parser.add_argument("--workdir")
        return configuration.parse_command(parser, [f"--config={CONFIGS / 'mosi.py'}", *argv])[1]

    assert parse("--config.train.seed=3").train.seed == 3
    assert parse("--config.train.seed", "4").train.seed == 4
    with pytest.raises(ConfigError, match="--workdir"):
        parse("--workdri=x")
    with pytest.raises(ConfigError, match="no value"):
        parse("--config.train.seed")


def test_difference_lists_changed_keys():
    old = configuration.load(f"{CONFIGS / 'mosi.py'}")
    new = configuration.load(f"{CONFIGS / 'mosi.py'}", ["train.seed=3"])
    assert configuration.difference(old, new) == [f"train.seed: {old.train.seed} -> 3"]


def test_what_later_versions_added_is_there_in_an_old_configuration(monkeypatch):
    """A run of an earlier version behaves as it did: what it could not choose has the value of its time."""
    added = {"train.added": 3, "preset": lambda flat: flat["data.name"], "nowhere.key": 1}
    monkeypatch.setattr(configuration, "ADDED", added)
    text = configuration.to_json(configuration.load(f"{CONFIGS / 'mosi.py'}"))
    old = configuration.from_json(text)
    assert (old.train.added, old.preset) == (3, "mosi")
    assert "nowhere" not in old
    again = configuration.from_json(text.replace('"train": {', '"train": {"added": 5,'))
    assert again.train.added == 5
