"""A process that trains cells: what the second seed of a model costs."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from msa_jax import configuration
from msa_jax.studies import jobs
from msa_jax.studies.jobs import Job

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Trains the tasks of the standard input, and prints how many programs each has compiled.
COUNTED = """
import json, sys
from jax import monitoring
from msa_jax.studies import worker

events = {}
monitoring.register_event_listener(lambda event, **_: events.update({event: events.get(event, 0) + 1}))
train, said = worker.train, []

def seen():
    return [events.get(f"/jax/compilation_cache/cache_{name}", 0) for name in ("hits", "misses")]

def counted(cells, patience):
    before = seen()
    ended = train(cells, patience)
    hits, misses = (now - then for now, then in zip(seen(), before))
    said.append({"ended": ended, "hits": hits, "misses": misses})
    return ended

worker.train = counted
worker.main(sys.argv[1:])
print("COUNTED", json.dumps(said), file=sys.stderr)
"""


@pytest.mark.slow
def test_the_second_seed_of_a_model_compiles_nothing(tmp_path):
    tasks = ""
    for seed in (1, 2):
        config = configuration.load(
            "configs/synthetic.py:tiny,lf_dnn", [f"train.seed={seed}", "train.epochs=1"]
        )
        cell = Job(str(seed), configuration.to_json(config), tmp_path / str(seed), tmp_path / f"{seed}.txt")
        tasks += jobs.line((cell,))
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, f"--compile-cache={tmp_path / 'cache'}", "--quick-compile"],
        input=tasks,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("COUNTED "))
    first, second = json.loads(line.removeprefix("COUNTED "))
    assert (first["ended"], second["ended"]) == ({"1": ""}, {"2": ""})
    assert first["misses"] > 0
    assert second["misses"] == 0
    assert second["hits"] > 0
