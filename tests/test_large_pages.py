"""Training starts itself again with large pages, once, and nothing else does."""

import os
import sys

import pytest

from msa_jax import large_pages

COMMAND = ["/opt/python", "-u", "-m", "msa_jax.main", "--config=configs/mosi.py", "--workdir=runs/a b"]


@pytest.fixture
def restarts(monkeypatch):
    """Linux without the setting; what would be started is put into a list."""
    calls = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "executable", "/opt/python")
    monkeypatch.setattr(sys, "orig_argv", COMMAND)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "execv", lambda path, words: calls.append((path, words)))
    return calls


def test_the_same_command_is_started_once_with_the_setting(restarts):
    large_pages.restart_with_large_pages("msa_jax.main")
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    large_pages.restart_with_large_pages("msa_jax.main")  # what the started one does
    assert restarts == [("/opt/python", COMMAND)]


@pytest.mark.parametrize("value", ["", "glibc.malloc.trim_threshold=1"])
def test_a_setting_of_the_users_stays(restarts, monkeypatch, value):
    monkeypatch.setenv("GLIBC_TUNABLES", value)
    large_pages.restart_with_large_pages("msa_jax.main")
    assert not restarts
    assert os.environ["GLIBC_TUNABLES"] == value


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-m", "ipykernel_launcher", "-f", "kernel.json"],
        ["python", "-m", "pdb", "-m", "msa_jax.main", "--workdir=a"],
        ["pytest", "tests"],
    ],
)
def test_other_programs_are_never_restarted(restarts, monkeypatch, words):
    monkeypatch.setattr(sys, "orig_argv", words)
    large_pages.restart_with_large_pages("msa_jax.main")
    assert not restarts


def test_other_systems_have_nothing_to_set(restarts, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    large_pages.restart_with_large_pages("msa_jax.main")
    assert not restarts


def test_where_it_cannot_be_started_again_it_goes_on(restarts, monkeypatch):
    def fail(path, words):
        raise OSError(path, words)

    monkeypatch.setattr(os, "execv", fail)
    large_pages.restart_with_large_pages("msa_jax.main")
