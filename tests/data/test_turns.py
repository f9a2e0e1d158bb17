"""Processes that must not do a thing at once do it in turn."""

import subprocess
import sys

import pytest

from msa_jax.files import in_turn, user_cache

#: Enters, says so, and stays until its input ends.
STAYS = """
import sys
from msa_jax.files import in_turn
with in_turn("a.lock"):
    print("in", flush=True)
    sys.stdin.read()
print("out", flush=True)
"""


def test_one_process_waits_for_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "msa_jax"
    command = [sys.executable, "-c", STAYS]
    with in_turn("a.lock"):
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.communicate("", timeout=3)
    assert other.communicate() == ("in\nout\n", None)
    assert other.returncode == 0


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with in_turn("a.lock"):
        pass
