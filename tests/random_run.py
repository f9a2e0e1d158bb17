"""Run folders with random weights: what training leaves behind, without the training."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import configuration
from msa_jax.data.batch import example_batch
from msa_jax.data.opening import load_dataset
from msa_jax.training import build
from msa_jax.training.checkpoint import Checkpoints, Progress
from msa_jax.training.run_folder import RunFolder
from msa_jax.training.state import create_state

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
#: Short clips, so that little has to be computed.
SHORT = ("data.synthetic.lengths=(9,12,10)", "data.synthetic.counts=(12,5,5)")


@functools.cache
def dataset(seed: int) -> Any:
    """The generated clips, which many runs share."""
    config = configuration.load(
        f"{CONFIGS / 'synthetic.py'}:lf_dnn,tiny", [*SHORT, f"data.synthetic.seed={seed}"]
    )
    return load_dataset(config.data)


def make(workdir: pathlib.Path, argument: str, *overrides: str, seed: int = 1) -> pathlib.Path:
    """Writes ``workdir`` as if the configuration synthetic.py:``argument`` had been trained."""
    config = configuration.load(
        f"{CONFIGS / 'synthetic.py'}:{argument},tiny", [*SHORT, f"train.seed={seed}", *overrides]
    )
    return write(workdir, config, dataset(config.data.synthetic.seed), seed)


def write(workdir: pathlib.Path, config: Any, stored: Any, seed: int = 1) -> pathlib.Path:
    """Writes ``workdir`` as if the configuration had been trained on a data set."""
    read = build.prepare(config, stored).spec
    RunFolder(workdir).claim(config, stored.spec, read)
    learner = build.build_learner(config, read, 1, build.build_mesh(1))
    objective = learner.objective
    count = read.counts["train"]
    memory = objective.memory({t: np.zeros(count, np.float32) for t in read.tasks}, 1)
    batch = jax.eval_shape(lambda: example_batch(read, 1))
    shapes = jax.eval_shape(
        lambda b, m: create_state(learner.model, b, learner.optimizer, 0, m, objective.prelude), batch, memory
    )
    state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    rng = np.random.default_rng(seed)

    def drawn(path, s):
        x = rng.normal(size=s.shape) / max(1, s.shape[0] if len(s.shape) > 1 else 4) ** 0.5
        # Biases above 0 keep every ReLU of such narrow networks alive; variances are above 0.
        positive = jax.tree_util.keystr(path[-1:], simple=True) in ("bias", "var")
        return (np.abs(x) + 0.1 if positive else x).astype(np.float32)

    best = jax.tree_util.tree_map_with_path(drawn, {"params": state.params, "batch_stats": state.batch_stats})
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(
        jax.tree.map(jnp.asarray, state), jax.tree.map(jnp.asarray, best), Progress(best_epoch=1)
    )
    checkpoints.close()
    return workdir
