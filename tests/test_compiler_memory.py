"""Memory that a compilation freed goes back to the system, where glibc can do it."""

import ctypes
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring

from msa_jax import compiler_memory


@pytest.fixture
def listeners(monkeypatch):
    """What is registered is unregistered in the end."""
    added = []
    register = monitoring.register_event_duration_secs_listener

    def remember(listener):
        added.append(listener)
        register(listener)

    monkeypatch.setattr(monitoring, "register_event_duration_secs_listener", remember)
    yield added
    for listener in added:
        monitoring.unregister_event_duration_listener(listener)


def test_it_is_given_back_after_each_compilation_and_only_then(listeners, monkeypatch):
    calls = []
    monkeypatch.setattr(sys, "platform", "linux")
    library = types.SimpleNamespace(malloc_trim=calls.append)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    compiler_memory.release_after_compiling()
    run = jax.jit(lambda x: 3 * x + 1)
    x = jnp.ones(3)
    before = len(calls)
    run(x)
    assert len(calls) > before
    assert set(calls) == {0}
    before = len(calls)
    run(x)
    assert len(calls) == before


@pytest.mark.parametrize(("platform", "library"), [("darwin", {"malloc_trim": None}), ("linux", {})])
def test_without_glibc_nothing_is_registered(listeners, monkeypatch, platform, library):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(**library))
    compiler_memory.release_after_compiling()
    assert not listeners
