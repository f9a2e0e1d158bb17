"""Labels that Self-MM and TETFN make: tables, centres and losses of the golden files' epochs 2 and 3."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from parity_errors import Errors

from msa_jax.models import label_generation
from msa_jax.models.label_generation import FEATURES, Memory

Arrays = Mapping[str, np.ndarray]
#: The file's epochs, one step each.
EPOCHS = (2, 3)


def memory_before(arrays: Arrays, epoch: int, rule: label_generation.Rule) -> Memory:
    """What the loss of an epoch used; every epoch has one step."""
    tables = {
        kind: {
            task: jnp.asarray(arrays[f"epoch{epoch}/before/{kind}/{name}"]) for task, name in FEATURES.items()
        }
        for kind in ("label", "feature")
    }
    return label_generation.recount(tables["label"], tables["feature"], epoch - 1, 1, rule)


def memory_of_loss(arrays: Arrays, block: Any) -> Memory:
    """The memory with which the file's ``loss`` and ``grad`` were computed: that of the last epoch."""
    return memory_before(arrays, EPOCHS[-1], _rule(block))


def compare(run: Any, arrays: Arrays, errors: Errors) -> None:
    """Compares the update of labels, features and centres.

    Args:
      run: a parity_models.Run; batch.index is in/index.
      arrays: the golden file's.
      errors: collects the differences.
    """
    outputs = run.predict(run.variables, run.batch)
    made = run.objective.memory({"M": arrays["in/all_labels"]}, 1)
    for task, name in FEATURES.items():
        errors.compare(f"epoch2/before/label/{name}", made.labels[task])
    memory = memory_before(arrays, EPOCHS[0], _rule(run.block))
    for epoch in EPOCHS:
        _compare_tables(f"epoch{epoch}/before", memory, errors)
        loss, parts = run.objective(outputs, run.batch, memory)
        errors.compare(f"epoch{epoch}/loss", loss)
        for task, part in parts.items():
            errors.compare(f"epoch{epoch}/loss_parts/{task}", part)
        memory = jax.jit(run.objective.remember)(outputs, run.batch, memory)
        _compare_tables(f"epoch{epoch}/after", memory, errors)
        for task in FEATURES:
            errors.compare(f"epoch{epoch}/new_label_batch/{task}", memory.labels[task][run.batch.index])


def _rule(block: Any) -> label_generation.Rule:
    return label_generation.Rule(block.label_bound, block.exclude_zero)


def _compare_tables(folder: str, memory: Memory, errors: Errors) -> None:
    centres = label_generation.centres(memory)
    for task, name in FEATURES.items():
        errors.compare(f"{folder}/label/{name}", memory.labels[task])
        errors.compare(f"{folder}/feature/{name}", memory.features[task])
        for row, kind in enumerate(("pos", "neg")):
            errors.compare(f"{folder}/center_{kind}/{name}", centres[task][row])
