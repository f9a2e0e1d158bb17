"""Damaged and hostile clips: a sentence for each, and nothing else happens.

How many, ``MSA_JAX_FUZZ`` says: 2000 were run by hand; by default there are few.
"""

import os
import re

import numpy as np
import pytest
from media_files import NO_SHARED, SHARED, pictures, tone, write_clip

from msa_jax.media import pool
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import Plan

COUNT = int(os.environ.get("MSA_JAX_FUZZ", "24"))
MODEL = SHARED / "face_landmarker" / "face_landmarker.task"


def mutated(rng, content):
    """Bytes flipped, cut out, repeated, or put in place of sizes; half of them near the header."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 12)):
        near = len(data) if rng.random() < 0.5 else min(len(data), 600)
        at = int(rng.integers(0, max(1, near)))
        kind = rng.integers(0, 5)
        if kind == 0:
            data[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 200))]
        elif kind == 2:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        elif kind == 3:
            data[at : at + 4] = bytes([255, 255, 255, int(rng.integers(0, 256))])
        else:
            data[at : at + 4] = bytes(4)
    return bytes(data)


@pytest.mark.extras
def test_mutated_clips_give_sentences_alone(tmp_path):
    for package in ("av", "librosa", "mediapipe"):
        pytest.importorskip(package)
    if not MODEL.exists():
        pytest.skip(NO_SHARED)
    made, clips, out = tmp_path / "made", tmp_path / "clips", tmp_path / "out"
    for folder in (made, clips, out):
        folder.mkdir()
    bases = [
        write_clip(made / f"base.{suffix}", tone(0.3), frames)
        for suffix, frames in (("mp4", list(pictures(3))), ("mkv", list(pictures(3))), ("wav", None))
    ]
    plan = Plan(face_model=MODEL, fps=4.0)
    recipe = plan.recipe()
    rng = np.random.default_rng(int(os.environ.get("MSA_JAX_FUZZ_SEED", "0")))
    jobs = []
    for number in range(COUNT):
        base = bases[number % len(bases)]
        path = clips / f"{number}{base.suffix}"
        path.write_bytes(mutated(rng, base.read_bytes()))
        jobs.append((Clip(str(number), path), out / f"{number}.npz"))
    before = sorted(p.name for p in (*clips.iterdir(), *made.iterdir()))
    with pool.Pool(2, 30.0) as processes:
        reasons = {clip.id: reason for clip, reason in processes.all(jobs, plan, recipe, out)}
    assert len(reasons) == COUNT
    for reason in filter(None, reasons.values()):
        assert "\n" not in reason
        assert re.search(r"; (copy|convert|give|cut|scale|leave) |nothing to extract", reason), reason
    unknown = {reason for reason in reasons.values() if "cannot be extracted" in reason}
    assert not unknown
    assert sorted(p.name for p in (*clips.iterdir(), *made.iterdir())) == before
    good = {f"{name}.npz" for name, reason in reasons.items() if not reason}
    assert {p.name for p in out.iterdir()} == good
    print(len(good), "of", COUNT, "could be read")
