"""Loading configurations, overriding them, and saying what is wrong with them."""

import argparse
import pathlib

import pytest

from msa_jax import configuration, models
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


@pytest.mark.parametrize("name", models.MODELS)
def test_a_copy_with_another_data_name_has_the_same_settings(name, tmp_path, monkeypatch):
    """A data set of one's own takes the preset that its configuration names, whatever it is called."""
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    for dataset in DATASETS:
        text = (CONFIGS / f"{dataset}.py").read_text()
        assert text.count(f'data_block("{dataset}")') == 1
        (tmp_path / "mine.py").write_text(text.replace(f'data_block("{dataset}")', 'data_block("mine")'))
        copy = configuration.load(f"{tmp_path / 'mine.py'}:{name}")
        original = configuration.load(f"{CONFIGS / dataset}.py:{name}")
        assert configuration.difference(original, copy) == [f"data.name: '{dataset}' -> 'mine'"]


@pytest.mark.parametrize("name", models.MODELS)
def test_a_preset_after_the_colon_is_that_of_the_other_set(name):
    asked = configuration.load(f"{CONFIGS / 'mosi.py'}:{name},preset=sims")
    sims = configuration.load(f"{CONFIGS / 'sims.py'}:{name}")
    assert (asked.preset, asked.data.name) == ("sims", "mosi")
    assert asked.model == sims.model
    assert asked.train == sims.train
    assert asked.data.label_range == (-3.0, 3.0)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match=r"mult has no preset 'mossei'; it has .* Did you mean 'mosei'\?"):
        configuration.load(f"{CONFIGS / 'mosi.py'}:mult,preset=mossei")


@pytest.mark.parametrize(
    ("override", "word"), [("preset=sims", r"mosi\.py:preset=sims"), ("model.name=mult", r"mosi\.py:mult\.")]
)
def test_what_others_follow_from_is_given_after_the_colon(override, word):
    with pytest.raises(ConfigError, match=rf"comes too late.*configs/{word}"):
        configuration.load(f"{CONFIGS / 'mosi.py'}", [override])


def test_generated_clips_are_read_as_features_whatever_they_are_called(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    end = "    return common.build("
    text = (CONFIGS / "mosi.py").read_text().replace(end, f'    data.source = "synthetic"\n{end}')
    (tmp_path / "mine.py").write_text(text)
    assert configuration.load(f"{CONFIGS / 'mosi.py'}:self_mm").model.text_encoder == "finetune"
    assert configuration.load(f"{tmp_path / 'mine.py'}:self_mm").model.text_encoder == "frozen"


@pytest.mark.parametrize(
    ("argument", "override", "words"),
    [
        ("ufen_mtfn", "model.fg=bth", r"model\.fg='bth' is not one of .* Did you mean 'both'"),
        ("mult", "model.heads=7", r"model\.heads=7 does not divide model\.d_model=50"),
        ("misa", "model.hidden=0", r"model\.hidden=0 must be at least 1"),
        ("self_mm", "model.encoder.heads=7", "7 heads do not divide"),
        ("self_mm", "model.text_encoder=tuned", r"model\.text_encoder='tuned'"),
        ("mtfn", "model.weights.A=-1", r"model\.weights\.A=-1\.0 must be at least 0"),
        ("tmt", "model.task=classify", "'classification'"),
        ("tfn", "model.classes=1", r"model\.classes=1 leaves nothing"),
    ],
)
def test_what_no_data_could_make_right_is_known_without_data(argument, override, words):
    config = configuration.load(f"{CONFIGS / 'mosi.py'}:{argument}", [override])
    with pytest.raises(ConfigError, match=words):
        models.check(config.model)


def test_missing_and_broken_files_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        configuration.load(str(tmp_path / "nothing.py"))
    with pytest.raises(ConfigError, match=r"not a configuration file; give one such as configs/mosi\.py"):
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
