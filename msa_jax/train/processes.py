"""Several processes that train one model together: how they find each other, and fail together."""

import contextlib
import os
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from msa_jax.errors import MsaJaxError, RunError

#: What names the processes outside a cluster that JAX knows.
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
#: Set for the tasks of a Slurm step, all of them read by JAX.
SLURM_STEP = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


def join(environment: Mapping[str, str] = os.environ, timeout: int = 300) -> None:
    """Joins the processes that the environment tells of; before anything else that JAX does.

    The three variables JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID come first. Without them JAX asks Slurm (``srun``), Open MPI, or the TPU slice,
    on GKE by its variables and on a TPU VM by its metadata.

    Args:
      environment: where the variables are read.
      timeout: seconds to wait for the other processes.

    Raises:
      RunError: if the environment says nothing or only half, or the other processes do not come.
    """
    named = _named(environment)
    if not named:
        _check_cluster(environment)
    try:
        jax.distributed.initialize(**named, initialization_timeout=timeout)
    except (ValueError, TypeError) as error:  # what JAX says where it knows no cluster
        raise RunError(
            f"--distributed: nothing tells this process of others ({error}) Start it with srun, on every host of "
            f"a TPU slice, or set {ADDRESS}=HOST:PORT, {COUNT} and {NUMBER}."
        ) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        where = named.get("coordinator_address", "the first process")
        raise RunError(
            f"--distributed: the processes did not come together at {where} ({reason}); start all of them within "
            f"{timeout} seconds, and let the port through."
        ) from error


def _named(environment: Mapping[str, str]) -> dict[str, object]:
    """The arguments of jax.distributed.initialize that the three variables give; empty without them."""
    given = [name for name in (ADDRESS, COUNT, NUMBER) if environment.get(name)]
    if not given:
        return {}
    missing = [name for name in (ADDRESS, COUNT, NUMBER) if name not in given]
    if missing:
        raise RunError(
            f"--distributed: {' and '.join(given)} set, but not {' and '.join(missing)}; set all three or none."
        )
    address = environment[ADDRESS]
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise RunError(f"--distributed: {ADDRESS}={address} is not HOST:PORT of the first process.")
    count, number = environment[COUNT], environment[NUMBER]
    if not (count.isdecimal() and number.isdecimal() and int(number) < int(count)):
        raise RunError(
            f"--distributed: {COUNT}={count} and {NUMBER}={number} are not a count and a number from 0 below it."
        )
    # Every process uses all the devices it sees; a Slurm job around it must not make JAX think otherwise.
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(number),
        "cluster_detection_method": "deactivate",
    }


def _check_cluster(environment: Mapping[str, str]) -> None:
    """Raises RunError where a cluster's environment is there by half."""
    missing = [name for name in SLURM_STEP if name not in environment]
    if "SLURM_JOB_ID" in environment and missing:
        raise RunError(
            f"--distributed: this is a Slurm job, but {' and '.join(missing)} not set; put srun before the command."
        )
    hosts, number = environment.get("TPU_WORKER_HOSTNAMES"), environment.get("TPU_WORKER_ID", "")
    if hosts and not (number.isdecimal() and int(number) < len(hosts.split(","))):
        raise RunError(
            f"--distributed: TPU_WORKER_HOSTNAMES={hosts}, but TPU_WORKER_ID={number or 'is not set'}; "
            "both are set by GKE for a pod that asks for google.com/tpu."
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
