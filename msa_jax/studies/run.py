"""Runs a study: every cell that is not done, then the tables and the page."""

import dataclasses
import importlib.util
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
from msa_jax.studies import ray_pool
from msa_jax.studies.folder import StudyFolder
from msa_jax.studies.folds import with_pooled
from msa_jax.studies.grid import Study, checked
from msa_jax.studies.jobs import HOW, Job, Watch
from msa_jax.studies.local import Pool
from msa_jax.studies.operations import count_operations
from msa_jax.studies.results import read_results
from msa_jax.studies.statistics import compare
from msa_jax.studies.tables import write_tables

#: What a page needs that training does without: module -> package.
_OF_PAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}


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


#: Where cells can be trained.
EXECUTORS = ("local", "ray")


@dataclasses.dataclass(frozen=True)
class Execution:
    """Where and how the cells of a study are trained.

    Attributes:
      executor: "local", this machine; "ray", a Ray cluster.
      processes: at once on this machine; 0 for as many as memory and cores bear.
      how: several seeds of one configuration are trained, see :data:`msa_jax.studies.jobs.HOW`.
      resources: of a cell on a Ray cluster, such as "CPU=4,GPU=1"; "" for one core.
      compile_cache: the folder of compiled programs, "" for the user's.
    """

    executor: str = "local"
    processes: int = 0
    how: str = "auto"
    resources: str = ""
    compile_cache: str = ""

    def check(self) -> None:
        """Raises:
        ConfigError: for values that are unknown or do not go together.
        """
        for flag, value, known in (("executor", self.executor, EXECUTORS), ("how", self.how, HOW)):
            if value not in known:
                raise ConfigError(f"--{flag}={value} is unknown; it is one of {', '.join(known)}.")
        if self.processes < 0:
            raise ConfigError(f"--processes={self.processes} is below 0, which is for as many as fit.")
        if self.executor == "ray":
            ray_pool.package()
            ray_pool.read_resources(self.resources)
            if self.processes:
                raise ConfigError("--processes is of this machine; on a Ray cluster use --resources.")
        elif self.resources:
            raise ConfigError("--resources is of a Ray cluster; add --executor=ray.")

    def train(self, jobs: Sequence[Job], watch: Watch, tries: bool = False) -> dict[str, str]:
        """Trains cells; see :meth:`msa_jax.studies.local.Pool.run`.

        Args:
          jobs: in their order.
          watch: see :data:`msa_jax.studies.jobs.Watch`.
          tries: whether they run for seconds, and so are better compiled quickly than well.
        """
        flags = [f"--compile-cache={self.compile_cache}"] + ["--quick-compile"] * tries
        if self.executor == "ray":
            resources = ray_pool.read_resources(self.resources)
            return ray_pool.RayPool(jobs, resources, self.how, flags, watch).run()
        return Pool(jobs, self.processes, self.how, flags, watch).run()


def run_study(
    path: str,
    workdir: str | pathlib.Path,
    overrides: Sequence[str] = (),
    execution: Execution | None = None,
) -> dict[str, str]:
    """Trains the cells that are left, and writes the tables and the page of all that are done.

    Args:
      path: of the study, ``PATH.py[:ARGUMENT]``.
      workdir: the study's folder.
      overrides: ``"train.epochs=3"``, for all cells.
      execution: None for this machine, as many processes as fit.

    Returns:
      The cells that failed: name -> why.

    Raises:
      ConfigError: see :func:`msa_jax.studies.grid.checked`.
      RunError: if the folder belongs to another study.
      Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    return run_declared(load_study(path), path, workdir, overrides, execution)


def run_declared(
    study: Study,
    name: str,
    workdir: str | pathlib.Path,
    overrides: Sequence[str] = (),
    execution: Execution | None = None,
) -> dict[str, str]:
    """The same for a study that no file declares; ``name`` tells it from others of the folder."""
    execution = execution or Execution()
    execution.check()
    cells = checked(study, overrides)
    folder = StudyFolder(workdir, name)
    left = folder.declare(study, cells)
    jobs = [_job(folder, name, cells[name][1]) for name in left]
    LOGGER.info(f"{study.title}: {len(cells)} cells, {len(cells) - len(left)} of them done.")
    ended: dict[str, str] = {}
    if jobs:
        epochs = {name: config.train.epochs for name, (_, config) in cells.items()}
        with Watching(len(left), epochs) as watching:
            tries = all(cell.tiny for cell, _ in cells.values())
            ended = execution.train(jobs, watching.look, tries)
    write(study, folder, execution.compile_cache)
    return {name: error for name, error in ended.items() if error}


def write(study: Study, folder: StudyFolder, compile_cache: str = "") -> None:
    """Writes the tables and the page of what is done so far; see :func:`run_study`."""
    results = with_pooled(study, read_results(study, folder.cells))
    if not results.rows:
        LOGGER.warning("no cell is done, so there is no table.")
        return
    statistics = compare(study, results)
    # Here, not at the top: it starts JAX, which a study's checks do without.
    from msa_jax.training import build

    build.use_compile_cache(compile_cache)
    operations = count_operations(study, results, folder.cells)
    for path in write_tables(study, results, statistics, folder.path, operations):
        LOGGER.info(f"table: {path}")
    if absent := [pip for module, pip in _OF_PAGES.items() if importlib.util.find_spec(module) is None]:
        LOGGER.warning(f"no study.html: it needs more packages; pip install {' '.join(absent)}")
        return
    from msa_jax.studies import page  # here, not at the top: it needs those packages

    LOGGER.info(f"page: {page.write_page(study, results, statistics, folder.path, operations)}")


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
        under_way = ", ".join(f"{job.name} {job.epochs_done()}/{self.epochs[job.name]}" for job in jobs)
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
