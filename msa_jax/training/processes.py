"""Several processes that train one model together: how they find each other, and fail together."""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from msa_jax.errors import MsaJaxError, RunError
from msa_jax.messages import LOGGER

#: What names the processes outside a cluster that JAX knows.
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
#: Set for the tasks of a Slurm step, all of them read by JAX.
SLURM_STEP = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


def join(timeout: int = 300) -> None:
    """Joins the processes that the environment tells of; before anything else that JAX does.

    The three variables JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID come first. Without them JAX asks Slurm (``srun``), Open MPI, or the TPU slice:
    on GKE by its variables, on a TPU VM by its metadata.

    Args:
      timeout: seconds to wait for the other processes.

    Raises:
      RunError: if the environment says nothing or only half.
    """
    named = _named(os.environ)
    if not named:
        _check_cluster(os.environ)
    where = named.get("coordinator_address", "the first of them")
    say = (
        f"--distributed: waiting for the other processes at {where}; all must start within {timeout} seconds."
    )
    # JAX ends a process that waited in vain without giving the word back, so it is said before.
    waiting = threading.Timer(min(20, timeout / 2), LOGGER.warning, [say])
    waiting.start()
    try:
        jax.distributed.initialize(**named, initialization_timeout=timeout)
    except (ValueError, TypeError) as error:  # what JAX says where it finds no cluster
        raise RunError(
            f"--distributed: nothing here tells of other processes (JAX: {error!s:.100}); start the command "
            f"with srun or on the hosts of a TPU slice, or set {ADDRESS}=HOST:PORT, {COUNT} and {NUMBER}."
        ) from error
    except RuntimeError as error:
        raise RunError(f"--distributed: the processes did not meet ({error!s:.200}).") from error
    finally:
        waiting.cancel()


def _named(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the three variables give jax.distributed.initialize; empty without them."""
    given = [name for name in (ADDRESS, COUNT, NUMBER) if environment.get(name)]
    if not given:
        return {}
    missing = [name for name in (ADDRESS, COUNT, NUMBER) if name not in given]
    if missing:
        raise RunError(
            f"--distributed: {' and '.join(given)} set, {' and '.join(missing)} not; set all three or none."
        )
    address, count, number = environment[ADDRESS], environment[COUNT], environment[NUMBER]
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise RunError(f"--distributed: {ADDRESS}={address} is not HOST:PORT of the first process.")
    if not (count.isdecimal() and number.isdecimal() and int(number) < int(count)):
        raise RunError(
            f"--distributed: {COUNT}={count} and {NUMBER}={number}, but the processes are counted from 0."
        )
    # No looking for a cluster: in a Slurm job, for one, JAX would leave each process a single device.
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(number),
        "cluster_detection_method": "deactivate",
    }


def _check_cluster(environment: Mapping[str, str]) -> None:
    """Raises RunError where a cluster's variables are there by half."""
    missing = [name for name in SLURM_STEP if name not in environment]
    if "SLURM_JOB_ID" in environment and missing:
        raise RunError(
            f"--distributed: in a Slurm job, but {', '.join(missing)} not set; put srun before the command."
        )
    hosts, number = environment.get("TPU_WORKER_HOSTNAMES"), environment.get("TPU_WORKER_ID", "")
    if hosts and not (number.isdecimal() and int(number) < len(hosts.split(","))):
        raise RunError(
            f"--distributed: TPU_WORKER_HOSTNAMES={hosts}, but TPU_WORKER_ID={number} is none of them; GKE "
            "sets both in a pod that asks for google.com/tpu."
        )


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """A stretch that either every process gets through, or none.

    Without it, those that found no fault would wait for the others until a timeout.

    Raises:
      MsaJaxError: the process's own, or else one that names a process that failed.
    """
    error = None
    try:
        yield
    except MsaJaxError as own:
        error = own
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.array(error is not None))
        if error is None and failed.any():
            raise RunError(f"process {int(failed.argmax())} cannot start; its own message says why.")
    if error is not None:
        raise error
