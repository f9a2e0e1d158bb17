"""Writes a run into trackio: a process that :mod:`msa_jax.training.trackers` starts.

The environment says where. The first line of the input is {"name", "config"}, each further one
{"step", "values"}.
"""

import contextlib
import json
import sys

import trackio

PROJECT = "msa_jax"


def main() -> None:
    """Takes rows until the input ends."""
    first = json.loads(sys.stdin.readline())
    # The rows of earlier sittings come again before the new ones, so that none is there twice, and none that
    # the run took back.
    with contextlib.suppress(ValueError):  # there is no project yet
        for old in list(trackio.Api().runs(PROJECT)):
            old.delete()
    run = trackio.init(
        project=PROJECT,
        name=first["name"],
        config=first["config"],
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    for line in sys.stdin:
        row = json.loads(line)
        run.log(row["values"], step=row["step"])
    run.finish()


if __name__ == "__main__":
    main()
