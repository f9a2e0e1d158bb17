"""What TensorStore's threads say after a failed read ended prints no tracebacks."""

import asyncio
import gc
import sys
import threading

import pytest

from msa_jax.errors import RunError
from msa_jax.training.late_answers import failing, pass_late_answers


def fail_while_another_is_asked():
    """Runs a read whose first array fails; gives the loop that the second would answer to."""
    loops = []

    async def read():
        loops.append(asyncio.get_running_loop())
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        asyncio.run(read())
    return loops[0]


def answer(loop):
    """What the second array's thread gets for its answer."""
    errors = []

    def call():
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return errors


def test_an_answer_to_a_closed_loop_passes():
    assert answer(fail_while_another_is_asked()) == ["Event loop is closed"], "as Python has it"
    with pass_late_answers():
        loop = fail_while_another_is_asked()
    assert loop.is_closed()
    assert answer(loop) == []


def test_answers_in_time_arrive_and_the_policy_comes_back():
    before = asyncio.get_event_loop_policy()

    async def wait():
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(answered.set_result, 7)).start()
        return await answered

    with pass_late_answers():
        assert asyncio.run(wait()) == 7
        with pytest.raises(KeyError):
            fail_within()
    assert asyncio.get_event_loop_policy() is before


def dropped_half_way(file):
    """Runs a coroutine of a file to its first stop and drops it; what it raises then nobody can catch."""
    code = """
async def read(stop):
    try:
        await stop
    except GeneratorExit:
        raise ValueError("late")
"""
    made = {}
    exec(compile(code, file, "exec"), made)
    reading = made["read"](Stop())
    reading.send(None)
    del reading
    gc.collect()


class Stop:
    def __await__(self):
        yield


def test_coroutines_of_orbax_are_dropped_in_silence_and_others_are_not(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: heard.append(str(found.exc_value)))
    with pass_late_answers():
        with pass_late_answers():
            dropped_half_way("site-packages/orbax/checkpoint/reading.py")
        assert heard == []
        dropped_half_way("ours.py")
        assert heard == ["late"]
    dropped_half_way("site-packages/orbax/checkpoint/reading.py")
    assert heard == ["late", "late"]


def test_a_failure_has_its_first_line_and_errors_of_ours_pass():
    with failing() as failure:
        raise ValueError("the first line\nand pages")
    assert failure.cause == "the first line"
    with failing() as failure:
        raise OSError
    assert failure.cause == "OSError"
    with failing() as failure:
        pass
    assert failure.cause == ""
    with pytest.raises(RunError, match="ours"), failing():
        raise RunError("ours")


def fail_within():
    with pass_late_answers():
        raise KeyError("anything")
