"""What an executor is given: cells to train, and which of them one program trains together."""

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

#: How several seeds of one configuration are trained.
HOW = ("auto", "vmap", "processes")


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell to train: its name, configuration as JSON, run folder and log."""

    name: str
    config: str
    folder: pathlib.Path
    log: pathlib.Path

    def epochs_done(self) -> int:
        """The finished epochs so far."""
        try:
            return len((self.folder / "metrics.jsonl").read_text().splitlines())
        except OSError:
            return 0


#: The cells that one program trains: one, or several seeds of one configuration.
Task = tuple[Job, ...]
#: Called with the jobs under way and the names of those that ended, name -> "" or why it failed.
Watch = Callable[[Sequence[Job], Mapping[str, str]], None]


def line(task: Task) -> str:
    """What a worker reads, see :mod:`msa_jax.studies.worker`."""
    return json.dumps([{k: str(v) for k, v in dataclasses.asdict(job).items()} for job in task]) + "\n"


@functools.cache
def program(config: str) -> str:
    """What two cells have in common that need the same compiled programs for certain: all but the seed.

    Args:
      config: of a cell, as JSON.
    """
    settings = json.loads(config)
    settings["train"].pop("seed")
    return json.dumps(settings, sort_keys=True)


def tasks(jobs: Sequence[Job], how: str, backend: str) -> list[Task]:
    """Puts the cells together that one program trains.

    On a CPU five seeds in one program take as long as five programs or longer, so "auto" keeps them apart. On
    an accelerator a program of one small model should leave most of the device idle, so there it puts them
    together; this has not been measured (benchmarks/study.py does).

    Args:
      jobs: in their order.
      how: one of :data:`HOW`.
      backend: of JAX, where they will run.
    """
    if how == "processes" or (how == "auto" and backend == "cpu"):
        return [(job,) for job in jobs]
    alike: dict[tuple[str, int], list[Job]] = {}
    times: collections.Counter[str] = collections.Counter()
    for job in jobs:
        times[job.config] += 1  # two cells may be one run by another name
        alike.setdefault((program(job.config), times[job.config]), []).append(job)
    return [tuple(group) for group in alike.values()]
