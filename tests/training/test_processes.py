"""Two processes train the same parameters as one."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent


def train_with(processes):
    """Returns {(process, resident): (steps, parameters)}."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(HERE.parent)}
    workers = [
        subprocess.Popen(
            [sys.executable, str(HERE / "process_worker.py"), address, str(processes), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(processes)
    ]
    found = {}
    for worker in workers:
        out, err = worker.communicate(timeout=900)
        assert worker.returncode == 0, err[-3000:]
        for line in out.splitlines():
            if line.startswith("RESULT"):
                _, number, resident, steps, *values = line.split()
                found[int(number), resident] = int(steps), np.array(values, float)
    return found


@pytest.mark.slow
def test_two_processes_end_with_the_parameters_of_one():
    one, two = train_with(1), train_with(2)
    assert set(two) == {(n, r) for n in (0, 1) for r in ("True", "False")}
    for (_, resident), (steps, parameters) in two.items():
        assert steps == 20
        np.testing.assert_allclose(parameters, one[0, resident][1], atol=1e-5, rtol=0)
