"""Memory that a long compilation freed goes back to the system, where glibc can do it."""

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
    """What would be registered."""
    added = []
    monkeypatch.setattr(monitoring, "register_event_duration_secs_listener", added.append)
    return added


def test_it_is_given_back_after_long_compilations_only(listeners, monkeypatch):
    calls = []
    monkeypatch.setattr(sys, "platform", "linux")
    library = types.SimpleNamespace(malloc_trim=calls.append)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    compiler_memory.release_after_compiling()
    (listener,) = listeners
    listener(compiler_memory.COMPILED, 9.0)
    listener("/something/else", 60.0)
    assert calls == []
    listener(compiler_memory.COMPILED, 11.0, fun_name="train_chunk")
    assert calls == [0]


def test_jax_reports_compilations_by_that_name():
    reported = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        reported.append((event, duration_secs, kwargs))

    monitoring.register_event_duration_secs_listener(listen)  # older JAX has no public way to remove it
    jax.jit(lambda x: 3 * x + 1)(jnp.ones(3))
    assert compiler_memory.COMPILED in [event for event, *_ in reported]


@pytest.mark.parametrize(("platform", "library"), [("darwin", {"malloc_trim": None}), ("linux", {})])
def test_without_glibc_nothing_is_registered(listeners, monkeypatch, platform, library):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(**library))
    compiler_memory.release_after_compiling()
    assert not listeners
