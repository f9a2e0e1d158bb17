"""Runs the cells of a study on a Ray cluster that exists already.

A task of Ray's starts the same process that trains cells on one machine and waits for it. When a node is
lost, Ray gives its tasks to other nodes, where the cells go on from their checkpoints: the study's folder
lies where all nodes see it, under the same name, and so do the data and the folder that the command was
started in.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax.errors import ConfigError, Interrupted, RunError
from msa_jax.messages import LOGGER
from msa_jax.studies import jobs
from msa_jax.studies.jobs import Job, Task, Watch
from msa_jax.studies.local import LOOK, WORKER, ending

#: What a cell takes unless it is said otherwise.
RESOURCES = "CPU=1"
#: Seconds that a cell waits for the process of a lost node to let go of its folder.
PATIENCE = 120
#: Seconds that cells have for saving once the study is stopped.
SAVING = 120


def read_resources(text: str) -> dict[str, float]:
    """What a cell takes, by Ray's names, from ``"CPU=4,GPU=1"``; "" for :data:`RESOURCES`.

    Raises:
      ConfigError: for anything else.
    """
    found: dict[str, float] = {}
    for part in (text or RESOURCES).split(","):
        match = re.fullmatch(r"\s*([\w-]+(?::[\w.-]+)?)\s*=\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*", part)
        if not match:
            raise ConfigError(f"--resources={text} is not understood; write --resources=CPU=4,GPU=1.")
        found[match[1]] = float(match[2])
    return found


class RayPool:
    """Trains cells as tasks of a Ray cluster.

    Args:
      cells: in their order.
      resources: of a task, see :func:`read_resources`.
      how: several seeds of one configuration are trained, see :func:`msa_jax.studies.jobs.tasks`.
      flags: further arguments of :mod:`msa_jax.studies.worker`.
      watch: called about twice a second.
    """

    def __init__(
        self,
        cells: Sequence[Job],
        resources: Mapping[str, float],
        how: str,
        flags: Sequence[str],
        watch: Watch,
    ):
        self.resources, self.flags, self.watch = dict(resources), list(flags), watch
        backend = "accelerator" if self.resources.get("GPU") or self.resources.get("TPU") else "cpu"
        absolute = [Job(job.name, job.config, job.folder.resolve(), job.log.resolve()) for job in cells]
        self.tasks = jobs.tasks(absolute, how, backend)
        self.ended: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Trains all cells.

        Returns:
          name -> "" where the cell is done, else why it failed.

        Raises:
          RunError: if there is no cluster.
          Interrupted: after SIGTERM or Ctrl-C, once every cell under way has saved.
        """
        ray = package()
        connect(ray)
        stopped: list[int] = []
        before = {
            number: signal.signal(number, lambda number, _frame: stopped.append(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._look_for_room(ray)
            return self._watched(ray, stopped)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            ray.shutdown()

    def _look_for_room(self, ray: Any) -> None:
        """Says what a cell would wait for in vain, or not use."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = ",".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        fits = [all(node.get(k, 0) >= v for k, v in self.resources.items()) for node in nodes]
        if not any(fits):
            LOGGER.warning(f"no node of the Ray cluster has {asked} now; the cells wait until one has.")
        for kind in ("GPU", "TPU"):
            if not self.resources.get(kind) and any(node.get(kind) for node in nodes):
                LOGGER.warning(
                    f"the Ray cluster has {kind}s, and a cell takes {asked} and none of them; give "
                    f"--resources={asked},{kind}=1."
                )

    def _watched(self, ray: Any, stopped: Sequence[int]) -> dict[str, str]:
        train = ray.remote(train_task).options(**_options(self.resources))
        waiting = {train.remote(jobs.line(task), os.getcwd(), self.flags): task for task in self.tasks}
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=LOOK)
            for one in done:
                self._take(ray, one, waiting.pop(one))
            self.watch([job for task in waiting.values() for job in task if job.epochs_done()], self.ended)
            if stopped:
                for one in waiting:
                    ray.cancel(one, force=False, recursive=False)
                ray.wait(list(waiting), num_returns=len(waiting), timeout=SAVING)
                raise Interrupted(
                    "stopped and saved; the same command goes on with the cells that are left.", stopped[0]
                )
        return self.ended

    def _take(self, ray: Any, done: Any, task: Task) -> None:
        try:
            answers = ray.get(done)
        except ray.exceptions.RayError as error:
            why = str(error).strip().splitlines()[0][:200]
            answers = {job.name: f"Ray gave it up ({type(error).__name__}: {why})." for job in task}
        self.ended |= answers


def connect(ray: Any) -> None:
    """Joins the cluster that RAY_ADDRESS names, or the one that this machine is a node of.

    Raises:
      RunError: if there is none.
    """
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        if match := re.fullmatch(r"\[?([^\[\]/]+)\]?:(\d+)", address):  # Ray itself would try for minutes
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"--executor=ray: there is no Ray cluster at {address} ({str(error).splitlines()[0][:120]}); "
            "start one (launch/README.md), and name it by RAY_ADDRESS=HOST:PORT."
        ) from None


def package() -> Any:
    """Ray.

    Raises:
      ConfigError: if it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError('--executor=ray needs Ray: pip install "msa_jax[ray]".') from None
    return ray


def _options(resources: Mapping[str, float]) -> dict[str, Any]:
    """What Ray is told of a task; it has words of its own for three kinds."""
    own = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    known = {own[kind]: amount for kind, amount in resources.items() if kind in own}
    other = {kind: amount for kind, amount in resources.items() if kind not in own}
    # A lost node is nobody's fault, however often; what training itself raises comes back as an answer.
    return {"num_cpus": 0, **known, "resources": other, "max_retries": -1, "retry_exceptions": False}


def train_task(line: str, folder: str, flags: Sequence[str]) -> dict[str, str]:
    """Trains the cells of one task on the node that this runs on.

    Args:
      line: see :func:`msa_jax.studies.jobs.line`.
      folder: to start in, for paths in the configuration.
      flags: see :class:`RayPool`.

    Returns:
      name -> "" where the cell is done, else why it failed.
    """
    if not pathlib.Path(folder).is_dir():
        error = f"{folder}, where the study was started, is not on the node {os.uname().nodename}."
        return {cell["name"]: error for cell in json.loads(line)}
    command = [sys.executable, *WORKER, *flags, f"--patience={PATIENCE}"]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        said = _said_by(process, line)
    except BaseException:  # Ray cancels a task by KeyboardInterrupt
        process.terminate()
        process.wait()
        raise
    answers = [json.loads(answer) for answer in said.splitlines()]
    ended = {answer["name"]: answer["error"] for answer in answers if "name" in answer}
    return {
        cell["name"]: ended.get(cell["name"], ending(process.returncode, cell["log"]))
        for cell in json.loads(line)
    }


def _said_by(process: "subprocess.Popen[str]", line: str) -> str:
    """Gives the process its task, and all that it says until its end."""
    rest: str | None = line
    while True:
        try:
            return process.communicate(rest, timeout=1.0)[0]
        except subprocess.TimeoutExpired:  # between two looks Ray can cancel
            rest = None
            time.sleep(0)
