"""Runs a study: every cell that is not done, then the tables."""

import pathlib
import re
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from msa_jax import configuration, messages
from msa_jax.configuration import Config
from msa_jax.errors import ConfigError
from msa_jax.messages import LOGGER
from msa_jax.studies.folder import StudyFolder
from msa_jax.studies.grid import Study, checked
from msa_jax.studies.local import Job, Pool, epochs_done
from msa_jax.studies.results import read_results
from msa_jax.studies.statistics import compare
from msa_jax.studies.tables import write_tables


def load_study(path: str) -> Study:
    """The study that ``PATH.py[:ARGUMENT]`` declares.

    Raises:
      ConfigError: if the file is missing or declares none.
    """
    match = re.fullmatch(r"(.*?\.py)(?::(.*))?", path)
    if not match:
        raise ConfigError(
            f"--study={path} is not a study file; give one such as configs/studies/cai_table9.py."
        )
    study = configuration.call(pathlib.Path(match[1]), "get_study", match[2] or "", "a Study")
    if not isinstance(study, Study):
        raise ConfigError(f"{match[1]}: get_study returned {type(study).__name__}, not a Study.")
    return study


def run_study(
    path: str,
    workdir: str | pathlib.Path,
    overrides: Sequence[str] = (),
    processes: int = 0,
    compile_cache: str = "",
) -> dict[str, str]:
    """Trains the cells that are left, and writes the tables of all that are done.

    Args:
      path: of the study, ``PATH.py[:ARGUMENT]``.
      workdir: the study's folder.
      overrides: ``"train.epochs=3"``, for all cells.
      processes: at once; 0 for as many as memory and cores bear.
      compile_cache: the folder of compiled programs, "" for the user's.

    Returns:
      The cells that failed: name -> why.

    Raises:
      ConfigError: see :func:`msa_jax.studies.grid.checked`.
      RunError: if the folder belongs to another study.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    return run_declared(load_study(path), path, workdir, overrides, processes, compile_cache)


def run_declared(
    study: Study,
    name: str,
    workdir: str | pathlib.Path,
    overrides: Sequence[str] = (),
    processes: int = 0,
    compile_cache: str = "",
) -> dict[str, str]:
    """As :func:`run_study`, of a study that no file declares.

    Args:
      study: to be run.
      name: by which its folder knows it again.
      workdir: see :func:`run_study`, as for the others.
    """
    cells = checked(study, overrides)
    folder = StudyFolder(workdir, name)
    left = folder.declare(study, cells)
    jobs = [_job(folder, name, cells[name][1]) for name in left]
    LOGGER.info(f"{study.title}: {len(cells)} cells, {len(cells) - len(left)} of them done.")
    ended: dict[str, str] = {}
    if jobs:
        epochs = {name: config.train.epochs for name, (_, config) in cells.items()}
        with Watching(len(left), epochs) as watching:
            ended = Pool(jobs, processes, compile_cache, watching.look).run()
    write(study, folder)
    return {name: error for name, error in ended.items() if error}


def write(study: Study, folder: StudyFolder) -> None:
    """Writes the tables of what is done so far."""
    results = read_results(study, folder.cells)
    if not results.rows:
        LOGGER.warning("no cell is done, so there is no table.")
        return
    statistics = compare(study, results)
    for path in write_tables(study, results, statistics, folder.path):
        LOGGER.info(f"table: {path}")


def _job(folder: StudyFolder, name: str, config: Config) -> Job:
    text = configuration.to_json(config)
    return Job(name, text, folder.cells / name, folder.logs / f"{name}.txt")


class Watching:
    """Shows a study: a bar on a terminal, elsewhere a line for every cell that ends.

    Args:
      cells: how many are left.
      epochs: of each cell, at most.
    """

    def __init__(self, cells: int, epochs: Mapping[str, int]):
        console = Console(quiet=messages.quiet(), highlight=False)
        self.total, self.epochs = cells, epochs
        self.shown: set[str] = set()
        self.began = time.perf_counter()
        self.bar = Progress(
            TextColumn("cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[under_way]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal or console.quiet,
        )
        self.task = self.bar.add_task("", total=cells, under_way="", left="")

    def __enter__(self) -> "Watching":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def look(self, jobs: Sequence[Job], ended: Mapping[str, str]) -> None:
        """Takes in what is under way and what has ended, name -> "" or why it failed."""
        for name in [name for name in ended if name not in self.shown]:
            self.shown.add(name)
            line = f"{len(ended):3d}/{self.total}  {name}"
            if ended[name]:
                LOGGER.warning(f"{line} failed: {ended[name]}")
            else:
                LOGGER.info(f"{line}  done")
        under_way = ", ".join(f"{job.name} {epochs_done(job)}/{self.epochs[job.name]}" for job in jobs)
        self.bar.update(
            self.task, completed=len(ended), under_way=under_way[:60], left=self._left(len(ended))
        )

    def _left(self, done: int) -> str:
        if not done:
            return ""
        seconds = (time.perf_counter() - self.began) / done * (self.total - done)
        minutes = round(seconds / 60)
        return (
            f"about {minutes // 60} h {minutes % 60} min left"
            if minutes > 59
            else f"about {minutes} min left"
        )
