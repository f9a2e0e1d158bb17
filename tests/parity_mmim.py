"""MMIM's first pass, its memory of samples, and the loss of an epoch's first batches."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import parity_models
from parity_errors import Errors
from parity_weights import compare_gradient

from msa_jax.models import mutual_information
from msa_jax.weights import state_dict

Arrays = Mapping[str, np.ndarray]
#: Our modality and sign by the file's names.
SETS = {f"t{m[0]}_{sign[:3]}": (m, sign) for m in ("vision", "audio") for sign in ("positive", "negative")}


def memory_of_loss(arrays: Arrays, block: Any) -> Any:
    """What is remembered at the file's loss: the third batch of an epoch, after the file's memory."""
    del block
    samples: Any = {m: {} for m, _ in SETS.values()}
    for name, (m, sign) in SETS.items():
        x = jnp.asarray(arrays[f"memory/{name}"])
        samples[m][sign] = mutual_information.moments(x, jnp.ones(len(x)))
    return {"step": jnp.asarray(12), "steps_per_epoch": jnp.asarray(10), "samples": samples}


def compare(run: Any, arrays: Arrays, errors: Errors) -> None:
    """Compares samples, what remembering makes of the batch before, and both passes."""
    before = {f"before/{k.removeprefix('in/mem_')}": x for k, x in arrays.items() if k.startswith("in/mem_")}
    memory = run.objective.memory({}, 10)
    for folder, batch in (
        ("memory", parity_models.batch_of(before, run.block, "before")),
        ("batch_samples", run.batch),
    ):
        outputs = run.predict(run.variables, batch)
        if folder == "batch_samples":
            _compare_losses(run, outputs, memory, arrays, errors)
        _compare_samples(folder, outputs, batch, errors)
        memory = jax.jit(run.objective.remember)(outputs, batch, memory)
    _compare_first_pass(run, errors)


def _compare_losses(run: Any, outputs: Any, memory: Any, arrays: Arrays, errors: Errors) -> None:
    """With the memory that we made: in the second batch of an epoch, and in the third."""
    for step in (0, 1):
        loss, parts = run.objective(outputs, run.batch, {**memory, "step": jnp.asarray(step)})
        errors.compare("loss_without_H", loss)
        if float(parts["H"]) != 0:
            errors.missing("loss_without_H (H is not 0)")
    loss, parts = run.objective(outputs, run.batch, {**memory, "step": jnp.asarray(2)})
    errors.compare("loss", loss)
    errors.compare("loss_parts/H", parts["H"])
    valid, _ = run.objective.evaluate(outputs, run.batch)
    errors.compare("loss_parts/task", valid)


def _compare_samples(folder: str, outputs: Any, batch: Any, errors: Errors) -> None:
    label = np.asarray(batch.labels["M"])
    for name, (m, sign) in SETS.items():
        real = label > 0 if sign == "positive" else label < 0
        errors.compare(f"{folder}/{name}", np.asarray(outputs.features[f"sample_{m}"])[real])


def _compare_first_pass(run: Any, errors: Errors) -> None:
    statistics = {k: v for k, v in run.variables.items() if k != "params"}

    def loss_of(params):
        outputs = run.model.apply({"params": params, **statistics}, run.batch, train=False)
        return run.objective.prelude.loss(outputs, run.batch, ())[0]

    with jax.default_matmul_precision("highest"):
        loss, gradient = jax.jit(jax.value_and_grad(loss_of))(run.variables["params"])
    errors.compare("stage1/loss", loss)
    peer = state_dict.peer_model(run.block.name)
    compare_gradient(peer.entries(run.block), errors, gradient, "stage1/grad/", peer=peer)
