"""Clips that wait are joined by padded shape, one that cannot be read spoils no other, and none is lost."""

import asyncio
import json
import threading

import pytest
import serving
from serving import clip

from msa_jax.errors import DataError
from msa_jax.serve.batcher import Batcher, bucket, warm_up
from msa_jax.serve.clips import Reader
from msa_jax.serve.limits import Refused

READER = Reader(serving.FakeScorer().spec(), 100)


def clips(*values, steps=(1, 1, 1)):
    return [READER.one(json.dumps(clip(steps, value)).encode()) for value in values]


class Recorder:
    """Answers with each clip's value once it is let; knows its calls."""

    def __init__(self):
        self.calls, self.open = [], threading.Event()

    def __call__(self, given):
        self.open.wait(20)
        values = [float(c.values["text"][0, 0]) for c in given]
        self.calls.append(values)
        if 9 in values:
            raise DataError("nine")
        if 8 in values:
            raise ZeroDivisionError
        return [{"score": value} for value in values]


def run(scenario, rows=4, most=50):
    """Runs a coroutine function of a batcher and its recorder."""

    async def whole():
        recorder = Recorder()
        batcher = Batcher(recorder, lambda c: bucket(c.steps, serving.SHAPES), rows, most)
        try:
            return await scenario(batcher, recorder), recorder.calls
        finally:
            recorder.open.set()
            batcher.close()

    return asyncio.run(asyncio.wait_for(whole(), 20))


async def begun(batcher, *groups):
    """Tasks for groups of clips, the first of which is with the model."""
    tasks = []
    for group in groups:
        tasks.append(asyncio.ensure_future(batcher.submit(group)))
        await asyncio.sleep(0.02)
    return tasks


def test_what_waits_is_joined_by_shape_in_calls_of_few_rows():
    async def scenario(batcher, recorder):
        long = clips(0.5, 0.6, steps=(5, 5, 5))
        tasks = await begun(batcher, clips(0), long[:1], clips(1, 2), clips(3), long[1:], clips(4, 5))
        recorder.open.set()
        return await asyncio.gather(*tasks)

    found, calls = run(scenario)
    scores = [[row["score"] for row in rows] for rows in found]
    assert scores == [[0], [0.5], [1, 2], [3], [pytest.approx(0.6)], [4, 5]]
    assert [len(call) for call in calls] == [1, 2, 4, 1]
    assert calls[2] == [1, 2, 3, 4]


def test_one_that_cannot_be_read_spoils_no_other():
    async def scenario(batcher, recorder):
        tasks = await begun(batcher, clips(0), clips(1), clips(9), clips(2))
        recorder.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    [zero, one, nine, two], _ = run(scenario)
    assert [zero, one, two] == [[{"score": 0}], [{"score": 1}], [{"score": 2}]]
    assert isinstance(nine, DataError)


def test_a_mistake_of_ours_ends_its_call_and_not_the_batcher():
    async def scenario(batcher, recorder):
        recorder.open.set()
        with pytest.raises(ZeroDivisionError):
            await batcher.submit(clips(8))
        return await batcher.submit(clips(1))

    assert run(scenario)[0] == [{"score": 1}]


def test_clips_that_nobody_waits_for_are_not_scored():
    async def scenario(batcher, recorder):
        tasks = await begun(batcher, clips(0), clips(1, 2), clips(3))
        tasks[1].cancel()
        await asyncio.sleep(0)
        recorder.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    _, calls = run(scenario)
    assert calls == [[0], [3]]


def test_too_many_that_wait_are_refused():
    async def scenario(batcher, recorder):
        tasks = await begun(batcher, clips(0), clips(1, 2))
        with pytest.raises(Refused, match="busy") as refusal:
            await batcher.submit(clips(3, 4))
        recorder.open.set()
        await asyncio.gather(*tasks)
        return refusal.value.status, len(batcher)

    assert run(scenario, most=3)[0] == (503, 0)


def test_warm_up_calls_every_shape_with_every_number_of_rows():
    scorer = serving.FakeScorer()
    assert warm_up(scorer, rows=4) == 6
    assert scorer.calls == [1, 2, 4, 1, 2, 4]


def test_warm_up_of_media_sees_one_clip_of_every_shape():
    scorer = serving.FakeMedia()
    assert warm_up(scorer, rows=2) == 4
    assert scorer.warmed == serving.SHAPES


def test_buckets():
    assert bucket((3, 4, 4), serving.SHAPES) == (3, 4, 4)
    assert bucket((3, 5, 1), serving.SHAPES) == (6, 9, 8)
    assert bucket((99, 5, 1), serving.SHAPES) == (6, 9, 8)
