"""A run folder for weights that were trained elsewhere."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.configuration import Config
from msa_jax.data.opening import load_dataset
from msa_jax.data.spec import DatasetSpec
from msa_jax.errors import RunError
from msa_jax.training import build, pretrained
from msa_jax.training.checkpoint import Progress, best_of
from msa_jax.training.checks import check
from msa_jax.training.loop import Loop
from msa_jax.training.run_folder import CHECKPOINTS, RunFolder
from msa_jax.training.stopping import StopRequest


def adopt(
    config: Config, workdir: str | pathlib.Path, read: Callable[[Any, DatasetSpec], Any]
) -> dict[str, Any]:
    """Evaluates given weights and leaves the folder that a finished run leaves.

    Args:
      config: of the model and the data.
      workdir: a new or empty folder.
      read: takes the model and the description of its data, gives {"params", "batch_stats"}.

    Returns:
      What ``result.json`` holds.

    Raises:
      MsaJaxError: for anything that the user can fix.
    """
    folder = RunFolder(workdir)
    with folder.held():
        if (folder.path / CHECKPOINTS).exists():
            raise RunError(f"{folder.path} holds a run already; choose another --workdir.")
        return _fill(folder, config, read)


def _fill(folder: RunFolder, config: Config, read: Callable[[Any, DatasetSpec], Any]) -> dict[str, Any]:
    """What :func:`adopt` does once the folder is its own."""
    check(config)
    config = pretrained.with_sizes(config, need_folder=False)
    stored = load_dataset(config.data)
    dataset = build.prepare(config, stored)
    config = build.with_classes(config, dataset.spec)
    setup = build.build(config, dataset)
    learner = setup.programs.learner
    variables = read(learner.model, dataset.spec)
    everywhere = NamedSharding(learner.mesh, P())
    place = jax.jit(lambda tree: jax.tree.map(jnp.asarray, tree), out_shardings=everywhere)
    folder.claim(config, stored.spec, dataset.spec)
    if pretrained.has_folder(config.model):
        folder.keep_tokenizer(config.model.encoder.folder)
    with Loop(config, dataset, stored.spec, folder, setup, StopRequest()) as loop:
        loop.state = loop.state.replace(
            params=place(variables["params"]), batch_stats=place(variables.get("batch_stats", {}))
        )
        loop.best = best_of(loop.state)
        loop.progress = Progress(finished=True)
        scores = {name: loop.evaluate(name)["scores"] for name in ("train", "valid")}
        losses = {k.removeprefix("loss_"): v for k, v in scores["train"].items() if k.startswith("loss")}
        row = {"epoch": 0, "step": 0, "learning_rate": 0.0, "train": losses, "valid": scores["valid"]}
        loop.progress.history.append({**row, "seconds": 0.0})
        folder.write_history(loop.progress.history)
        loop.checkpoints.save(loop.state, loop.best, loop.progress)
        loop.keep_best()
        return loop.finish()
