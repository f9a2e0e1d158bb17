"""A checkpoint with damage in each of its regions by turns: what was saved is read, or the one before."""

import dataclasses
import itertools
import pathlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from fault_kills import Trial
from toy import run_steps, toy_training

from msa_jax.errors import RunError
from msa_jax.training.checkpoint import Checkpoints, Progress, best_of

#: Regions into which a file is divided.
REGIONS = 8


def _flip(data: bytearray, first: int, last: int, rng: random.Random) -> bytearray:
    data[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return data


def _zero(data: bytearray, first: int, last: int, _rng: random.Random) -> bytearray:
    data[first:last] = bytes(last - first)
    return data


def _draw(data: bytearray, first: int, last: int, rng: random.Random) -> bytearray:
    data[first:last] = rng.randbytes(last - first)
    return data


def _digit(data: bytearray, first: int, last: int, rng: random.Random) -> bytearray:
    """Another digit in place of one, so that JSON stays JSON; a flipped bit where there is none."""
    places = [i for i in range(first, last) if 48 <= data[i] <= 57]
    if not places:
        return _flip(data, first, last, rng)
    place = rng.choice(places)
    data[place] = 48 + (data[place] - 48 + rng.randrange(1, 10)) % 10
    return data


def _cut(data: bytearray, first: int, _last: int, _rng: random.Random) -> bytearray:
    return data[:first]


DAMAGES: dict[str, Callable[[bytearray, int, int, random.Random], bytearray]] = {
    "a bit": _flip, "zeros": _zero, "noise": _draw, "a digit": _digit, "cut off": _cut,
}  # fmt: skip


def _state(epochs: int) -> Any:
    programs, state, source, plan = toy_training(optax.adam(1e-2), dropout=0.2, devices=1)
    return run_steps(programs, state, source, plan, epochs)[0]


def _progress(number: int) -> Progress:
    row = {"epoch": number, "valid": {"mae": 0.123456789 * number}}
    progress = Progress(number, best_score=0.125 * number, best_epoch=number, history=[row] * number)
    progress.sums = {"loss": 1 / 3}
    return progress


def _same(found: Any, saved: Any) -> bool:
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(saved), strict=True)
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in leaves)


def judge(folder: pathlib.Path, states: list[Any]) -> str:
    """Restores from a folder with two checkpoints; returns what is wrong with what came."""
    blank = _state(0)
    checkpoints = Checkpoints(folder)
    try:
        restored = checkpoints.restore(blank, best_of(blank))
    except RunError as error:
        return "" if "\n" not in str(error) else f"its sentence is none: {error!s:.100}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.100}"
    finally:
        checkpoints.close()
    if restored is None:
        return "neither was found"
    state, best, progress = restored
    for number, saved in enumerate(states, 1):
        if _same(state, saved) and _same(best, best_of(saved)):
            expected = dataclasses.asdict(_progress(number))
            found = dataclasses.asdict(progress)
            wrong = [name for name in expected if expected[name] != found[name]]
            return f"another place in the run: {', '.join(wrong)}" if wrong else ""
    return "other arrays than were saved"


def campaign(count: int, seed: int) -> Iterator[Trial]:
    """Damages the newest of two checkpoints, file by file and region by region, up to ``count`` times."""
    rng = random.Random(f"{seed} damage")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        whole, states = pathlib.Path(name) / "whole", [_state(1), _state(2)]
        checkpoints = Checkpoints(whole)
        for number, state in enumerate(states, 1):
            checkpoints.save(state, best_of(state), _progress(number))
        checkpoints.close()
        places = list(_places(whole / "2", rng))[:count]
        for turn, (file, damage, first, last) in enumerate(places):
            folder = pathlib.Path(name) / f"damaged-{turn}" / "checkpoints"
            shutil.copytree(whole, folder)
            target = folder / "2" / file
            target.write_bytes(DAMAGES[damage](bytearray(target.read_bytes()), first, last, rng))
            yield Trial("damage", f"{damage} in {file}, bytes {first} to {last}", judge(folder, states))
            shutil.rmtree(folder.parent)


def _places(folder: pathlib.Path, rng: random.Random) -> Iterator[tuple[pathlib.Path, str, int, int]]:
    """Every file's regions with every damage, in random order."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        size = path.stat().st_size
        edges = sorted({size * i // REGIONS for i in range(REGIONS + 1)})
        for first, last in itertools.pairwise(edges):
            found += [(path.relative_to(folder), damage, first, last) for damage in DAMAGES]
    rng.shuffle(found)
    yield from found
