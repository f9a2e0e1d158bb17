"""Our models against the golden vectors of the public classes."""

import functools
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from parity_errors import Errors
from parity_outputs import OUTPUTS
from parity_weights import compare_gradient

from msa_jax import config as configuration
from msa_jax import models
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec, ModalitySpec
from msa_jax.interop import mmsa

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


def model_block(meta: dict[str, Any]) -> configuration.Config:
    """Our model block with the peer's settings, all dropouts off, compat on."""
    name = meta["model"].removesuffix("_reg")
    settings = mmsa.peer_model(name).settings({"seq_lens": meta["seq_lens"], **meta["config"]})
    settings |= {k: 0.0 for k in settings if k.endswith("dropout")}
    block = configuration.load(f"{CONFIGS / 'sims.py'}:{name}").copy_and_resolve_references().model
    block.unlock()
    for key in block:
        if key.endswith("dropout"):
            block[key] = 0.0
    with block.ignore_type():
        block.update_from_flattened_dict({**settings, "compat": True})
    return block


def spec_of(arrays: dict[str, np.ndarray], meta: dict[str, Any], prefix: str = "in") -> DatasetSpec:
    """A description of the file's inputs."""
    shapes = {m: arrays[f"{prefix}/{m}"].shape for m in MODALITIES}
    high = float(meta.get("label_range", 3.0))
    return DatasetSpec(
        name="golden",
        modalities={m: ModalitySpec(width=s[2], length=s[1]) for m, s in shapes.items()},
        label_range=(-high, high),
        metrics="mosi",
        tasks=("M", "T", "A", "V"),
    )


def batch_of(arrays: dict[str, np.ndarray], block: configuration.Config, prefix: str = "in") -> Batch:
    """The file's inputs as a batch."""
    values = {m: arrays[f"{prefix}/{m}"] for m in MODALITIES}
    rows = len(values["text"])
    masks = {}
    for m, x in values.items():
        lengths = arrays.get(f"{prefix}/{m}_lengths", np.full(rows, x.shape[1]))
        masks[m] = np.arange(x.shape[1]) < lengths[:, None]
    if block.task == "classification":
        labels = {"M": arrays[f"{prefix}/labels_class"].astype(np.float32)}
    else:
        names = {"M": "labels", "T": "labels_T", "A": "labels_A", "V": "labels_V"}
        labels = {t: arrays[f"{prefix}/{n}"] for t, n in names.items() if f"{prefix}/{n}" in arrays}
    batch = Batch(
        values=values,
        mask=masks,
        labels=labels,
        index=np.arange(rows, dtype=np.int32),  # type: ignore[arg-type]
        weight=np.ones(rows, np.float32),  # type: ignore[arg-type]
    )
    return jax.tree.map(jnp.asarray, batch)


def compare(arrays: dict[str, np.ndarray], meta: dict[str, Any], errors: Errors) -> None:
    """Compares everything that a model's file holds."""
    block = model_block(meta)
    model = models.build(block, spec_of(arrays, meta))
    batch = batch_of(arrays, block)
    state = {
        k.split("/", 1)[1]: a for k, a in arrays.items() if k.startswith(("state/", "state_unregistered/"))
    }
    variables = mmsa.import_state_dict(model, state, block, batch)
    objective = models.objective(block, spec_of(arrays, meta))
    _compare_mode(
        arrays, errors, "", functools.partial(_run, model, objective, batch, False), variables, block
    )
    if "train/loss" in arrays:
        run = functools.partial(_run, model, objective, batch, True)
        after = _compare_mode(arrays, errors, "train/", run, variables, block)
        _compare_statistics(arrays, errors, after, block)
    if "in1/text" in arrays:
        one = batch_of(arrays, block, "in1")
        outputs = model.apply(variables, one, train=False)
        _compare_outputs(arrays, errors, "out1/", outputs, block)


def _run(model, objective, batch, train, params, statistics):
    with jax.default_matmul_precision("highest"):
        variables = {"params": params, **statistics}
        outputs, updated = model.apply(variables, batch, train=train, mutable=["batch_stats"])
        loss, parts = objective(outputs, batch, {})
    return loss, (outputs, parts, updated)


def _compare_mode(arrays, errors: Errors, folder: str, run, variables, block) -> Any:
    statistics = {k: v for k, v in variables.items() if k != "params"}
    step = jax.jit(jax.value_and_grad(run, has_aux=True))
    (loss, (outputs, parts, updated)), gradient = step(variables["params"], statistics)
    errors.compare(f"{folder}loss", loss)
    for key in arrays:
        if key.startswith(f"{folder}loss_parts/"):
            errors.compare(key, parts[key.rsplit("/", 1)[1]])
    _compare_outputs(arrays, errors, f"{folder}out/", outputs, block)
    entries = mmsa.peer_model(block.name).entries(block)
    compare_gradient(entries, errors, gradient, f"{folder}grad/", f"{folder}grad_unregistered/")
    return updated


def _compare_outputs(arrays, errors: Errors, folder: str, outputs, block) -> None:
    for key in [k for k in arrays if k.startswith(folder)]:
        name = key.removeprefix(folder)
        if name in outputs.predictions:
            y = outputs.predictions[name]
            errors.compare(key, y[:, None] if y.ndim == 1 else y)
        elif name in OUTPUTS.get(block.name, {}):
            errors.compare(key, OUTPUTS[block.name][name](outputs.features))
        else:
            errors.missing(key)


def _compare_statistics(arrays, errors: Errors, after, block) -> None:
    flat = flax.traverse_util.flatten_dict(dict(after), sep="/")
    for entry in mmsa.peer_model(block.name).entries(block):
        key = f"train/state_after/{entry.peer}"
        if entry.ours.startswith("batch_stats/"):
            errors.compare(key, flat[entry.ours])
