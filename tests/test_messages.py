"""One logger: nothing is set up by an import, and commands show it by two flags."""

import logging
import subprocess
import sys
import types

import pytest
from rich.console import Console

from msa_jax import commands, messages
from msa_jax.messages import LOGGER


def flags(**given):
    return types.SimpleNamespace(**{"verbose": False, "quiet": False, **given})


def say_all():
    LOGGER.debug("the %s", "detail")
    LOGGER.info("50 % of it")
    LOGGER.warning("odd")


def test_an_import_sets_up_nothing():
    code = (
        "import logging, msa_jax, msa_jax.messages\n"
        "logger = logging.getLogger('msa_jax')\n"
        "print([type(h).__name__ for h in logger.handlers], logger.level, logger.propagate)\n"
        "logger.warning('unheard')\n"
        "import msa_jax.training.loop\n"
        "assert len(logger.handlers) == 1 and not logger.level\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("['NullHandler'] 0 True\n", "")


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_both_flags_and_takes_one(name, capsys):
    with pytest.raises(SystemExit):
        commands.main([name, "--verbose", "--quiet"])
    assert "not allowed with argument --verbose" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "out", "err"),
    [
        ({}, "50 % of it\n", "warning: odd\n"),
        ({"verbose": True}, "debug: the detail\n50 % of it\n", "warning: odd\n"),
        ({"quiet": True}, "", "warning: odd\n"),
    ],
)
def test_what_a_command_says_and_where(capsys, given, out, err):
    for _ in range(2):  # a second command in the same process says nothing twice
        messages.set_up(flags(**given))
    say_all()
    assert tuple(capsys.readouterr()) == (out, err)
    messages.set_up(flags(**given), answers=True)
    say_all()
    answered = capsys.readouterr()
    assert (answered.out, sorted(answered.err)) == ("", sorted(out + err))


def test_a_handler_that_a_library_put_at_the_root_says_nothing_again(capsys):
    handler = logging.StreamHandler(sys.stderr)
    logging.root.addHandler(handler)
    try:
        with messages.shown():
            LOGGER.warning("odd")
        messages.set_up(flags())
        LOGGER.warning("odd")
    finally:
        logging.root.removeHandler(handler)
    assert capsys.readouterr().err == "warning: odd\n" * 2


def test_a_call_shows_its_messages_unless_the_program_has_set_up_logging(capsys):
    with messages.shown():
        say_all()
    assert tuple(capsys.readouterr()) == ("50 % of it\n", "warning: odd\n")
    say_all()
    LOGGER.setLevel(logging.ERROR)
    with messages.shown():
        say_all()
        assert messages.quiet()
    LOGGER.setLevel(logging.INFO)
    with messages.shown():
        say_all()
    assert tuple(capsys.readouterr()) == ("", "")


def test_only_one_of_several_processes_speaks(capsys):
    messages.set_up(flags(verbose=True))
    with messages.silenced():
        say_all()
    assert tuple(capsys.readouterr()) == ("", "")
    say_all()
    assert capsys.readouterr().out


def test_messages_stand_above_a_progress_bar(monkeypatch, capsys):
    from msa_jax.training import display

    monkeypatch.setattr(display, "Console", lambda **kw: Console(force_terminal=True, width=80, **kw))
    messages.set_up(flags())
    shown = display.Display()
    shown.start_epoch(1, 2, 10, 0)
    LOGGER.info("in the middle")
    shown.close_bar()
    assert "in the middle" in capsys.readouterr().out
