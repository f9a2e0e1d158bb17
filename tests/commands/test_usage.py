"""What the commands say of themselves."""

import re

import pytest

from msa_jax import configuration, models
from msa_jax.commands import COMMANDS, main, usage

CONFIGURED = ("train", "summarize", "import-mmsa")


def said(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads_as_plain_text(capsys, command):
    code, text = said(capsys, command, "--help")
    assert code == 0
    assert "`" not in text
    assert f"\n  msa-jax {command} " in text, "an example"
    assert max(map(len, text.splitlines())) <= 100 or command == "import-mmsa"
    assert text.endswith("\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_alone_explains_itself(capsys, command):
    _, help_text = said(capsys, command, "--help")
    assert said(capsys, command) == (2, help_text)


@pytest.mark.parametrize("command", CONFIGURED)
def test_help_lists_models_configurations_and_settings(capsys, command):
    _, text = said(capsys, command, "--help")
    for name in [*models.MODELS, *usage.SETTINGS, *usage.WORDS]:
        (what,) = re.findall(rf"^  {re.escape(name)} +(\S.+)$", text, re.MULTILINE)
        assert len(what) > 4
    shipped = [path.name for path in configuration.shipped()]
    assert "mosi.py" in shipped
    assert "common.py" not in shipped
    assert all(f"\n  configs/{name} " in text for name in shipped)


def test_what_help_lists_is_there():
    config = configuration.load("configs/mosi.py:ufen_mtfn,fg=audio,task=regression,preset=mosei,tiny")
    assert set(usage.SETTINGS) <= set(configuration.flatten(config))
    for words in usage.WORDS:
        key, equals, values = words.partition("=")
        for value in values.split("|") if equals else [""]:
            model = "lf_dnn" if key == "task" else "ufen_mtfn"
            configuration.load(f"configs/mosi.py:{model},{key}{equals}{value}")


def test_a_missing_argument_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--workdir=anywhere"])
    assert "--input" in capsys.readouterr().err
