"""Our models against the golden vectors of the public classes."""

import dataclasses
import functools
import pathlib
from types import ModuleType
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import parity_labels
import parity_mmim
from parity_bert import settings_of
from parity_errors import Errors
from parity_outputs import OUTPUTS, PARTS, PREDICTIONS, ROWS
from parity_weights import compare_gradient

from msa_jax import configuration, models
from msa_jax.data.batch import Batch, Before
from msa_jax.data.spec import MODALITIES, DatasetSpec, ModalitySpec
from msa_jax.models import mfm
from msa_jax.weights import state_dict

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
#: Files that hold more than a forward pass and its gradient. Each module has memory_of_loss(arrays, block),
#: what the objective remembers at the file's loss, and compare(run, arrays, errors) for the rest.
EXTRAS: dict[str, ModuleType] = {"self_mm": parity_labels, "tetfn": parity_labels, "mmim": parity_mmim}
#: What a model draws in training, by its feature's name, and where a file has what the public class drew.
DRAWN: dict[str, dict[str, str]] = {
    "mfm": {f"noise_{k}": f"in/gauss_{letter}" for k, letter in mfm.LATENTS.items()}
}

#: Models without a norm over the batch that compute only in training what their losses need. Without dropout,
#: the rest is as in evaluation.
LEARNING = ("dlf",)
#: What a file calls the rates at which its clips lost something, where it has them.
RATES = {"text": "l", "audio": "a", "vision": "v"}
#: Files whose model has another name here.
OUR_NAMES = {"bert_mag": "mag_bert"}


class Run(NamedTuple):
    """A golden file's model, ready to run; ``predict(variables, batch)`` gives its outputs."""

    model: Any
    predict: Any
    variables: Any
    objective: Any
    batch: Batch
    block: configuration.Config


def our_name(model: str) -> str:
    """Our name of a file's model: ``tmt_reg`` is TMT with one output, ``almt_mmsa`` MMSA's own ALMT."""
    plain = model.removesuffix("_reg").removesuffix("_mmsa")
    return OUR_NAMES.get(plain, plain)


def model_block(meta: dict[str, Any]) -> configuration.Config:
    """Our model block with the peer's settings, all dropouts off, compat on."""
    name = our_name(meta["model"])
    settings = state_dict.peer_model(name).settings({"seq_lens": meta["seq_lens"], **meta["config"]})
    settings |= {k: 0.0 for k in settings if k.endswith("dropout")}
    if "bert" in meta:
        settings |= {f"encoder.{k}": v for k, v in dataclasses.asdict(settings_of(meta)).items()}
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
    shapes = {m: x.shape for m, x in values_of(arrays, prefix).items()}
    high = float(meta.get("label_range", 3.0))
    return DatasetSpec(
        name="golden",
        modalities={m: ModalitySpec(width=s[2], length=s[1]) for m, s in shapes.items()},
        label_range=(-high, high),
        metrics="mosi",
        tasks=("M", "T", "A", "V"),
        has_tokens=f"{prefix}/text_bert" in arrays,
    )


def values_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The features; the text's are zeros of width 1 where a file has only tokens."""
    stored = dict(arrays)
    if f"{prefix}/text" not in arrays:
        rows, _, steps = arrays[f"{prefix}/text_bert"].shape
        stored[f"{prefix}/text"] = np.zeros((rows, steps, 1), np.float32)
    return {m: stored[f"{prefix}/{m}"] for m in MODALITIES}


def batch_of(arrays: dict[str, np.ndarray], block: configuration.Config, prefix: str = "in") -> Batch:
    """The file's inputs as a batch."""
    values = values_of(arrays, prefix)
    rows = len(values["text"])
    tokens = arrays.get(f"{prefix}/text_bert")
    masks = {}
    for m, x in values.items():
        lengths = arrays.get(f"{prefix}/{m}_lengths", np.full(rows, x.shape[1]))
        masks[m] = np.arange(x.shape[1]) < lengths[:, None]
    if tokens is not None:
        masks["text"] = tokens[:, 1] == 1
    stem = f"{prefix}/labels_class" if block.task == "classification" else f"{prefix}/labels"
    keys = {"M": stem, **{t: f"{stem}_{t}" for t in ("T", "A", "V")}}
    labels = {t: arrays[key].astype(np.float32) for t, key in keys.items() if key in arrays}
    batch = Batch(
        values=values,
        mask=masks,
        labels=labels,
        index=arrays.get(f"{prefix}/index", np.arange(rows)).astype(np.int32),  # type: ignore[arg-type]
        weight=np.ones(rows, np.float32),  # type: ignore[arg-type]
        tokens=None if tokens is None else tokens.astype(np.int32),  # type: ignore[arg-type]
    )
    return jax.tree.map(jnp.asarray, batch)


def views_of(arrays: dict[str, np.ndarray], block: configuration.Config, prefix: str = "in") -> Batch:
    """The file's inputs as a batch, without what the file takes from them where it does."""
    whole = batch_of(arrays, block, prefix)
    if f"{prefix}/audio_m" not in arrays:
        return whole
    taken = {f"{prefix}/{m}": arrays[f"{prefix}/{m}_m"] for m in ("text_bert", "audio", "vision")}
    kept = {m: jnp.asarray(arrays[f"{prefix}/{m}_missing_mask"] > 0) for m in MODALITIES}
    asked = {m: arrays.get(f"{prefix}/missing_rate_{initial}") for m, initial in RATES.items()}
    rates = {m: jnp.asarray(rate[:, 0]) for m, rate in asked.items() if rate is not None}
    before = Before(whole, {m: whole.mask[m] & ~kept[m] for m in MODALITIES}, rates)
    return batch_of({**arrays, **taken}, block, prefix).replace(before=before)


def built(
    arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> tuple[configuration.Config, Any, Any, Batch]:
    """A file's model block, its model, that with the file's weights, and the file's inputs."""
    block = model_block(meta)
    model = models.build(block, spec_of(arrays, meta))
    batch = views_of(arrays, block)
    state = {
        k.split("/", 1)[1]: a for k, a in arrays.items() if k.startswith(("state/", "state_unregistered/"))
    }
    return block, model, state_dict.import_state_dict(model, state, block, batch), batch


def compare_outputs(arrays: dict[str, np.ndarray], meta: dict[str, Any], errors: Errors) -> None:
    """Compares the outputs alone, which takes a fifth of the time."""
    block, model, variables, batch = built(arrays, meta)
    predict = jax.jit(functools.partial(_predict, model, train=block.name in LEARNING))
    _compare_outputs(arrays, errors, "out/", predict(variables, batch), block)


def compare(arrays: dict[str, np.ndarray], meta: dict[str, Any], errors: Errors) -> None:
    """Compares everything that a model's file holds."""
    block, model, variables, batch = built(arrays, meta)
    objective = models.objective(block, spec_of(arrays, meta))
    extra = EXTRAS.get(block.name)
    memory = extra.memory_of_loss(arrays, block) if extra else ()
    drawn = {name: jnp.asarray(arrays[key]) for name, key in DRAWN.get(block.name, {}).items()}
    run = functools.partial(_run, model, objective, memory, drawn, batch)
    train = block.name in LEARNING
    _compare_mode(arrays, errors, "", functools.partial(run, train), variables, block)
    predict = jax.jit(functools.partial(_predict, model))
    if extra:
        extra.compare(Run(model, predict, variables, objective, batch, block), arrays, errors)
    if "out/aligned_M" in arrays:
        _compare_outputs(arrays, errors, "out/aligned_", predict(variables, aligned(batch)), block)
    if "train/loss" in arrays:
        after = _compare_mode(arrays, errors, "train/", functools.partial(run, True), variables, block)
        _compare_statistics(arrays, errors, after, block)
    if "in1/audio" in arrays:
        one = views_of(arrays, block, "in1")
        _compare_outputs(arrays, errors, "out1/", predict(variables, one), block)


def aligned(batch: Batch) -> Batch:
    """The batch as it is on aligned data, where the text's lengths are those of audio and vision."""
    lengths = batch.mask["text"].sum(axis=1)
    steps = {m: x.shape[1] for m, x in batch.values.items()}
    return batch.replace(mask={m: jnp.arange(t)[None] < lengths[:, None] for m, t in steps.items()})


def _predict(model, variables, batch, train=False):
    with jax.default_matmul_precision("highest"):
        return model.apply(variables, batch, train=train)


def _run(model, objective, memory, drawn, batch, train, params, statistics):
    with jax.default_matmul_precision("highest"):
        variables = {"params": params, **statistics}
        outputs, updated = model.apply(variables, batch, train=train, mutable=["batch_stats"])
        outputs = outputs.replace(features={**outputs.features, **drawn})
        loss, parts = objective(outputs, batch, memory)
    return loss, (outputs, parts, updated)


def _compare_mode(arrays, errors: Errors, folder: str, run, variables, block) -> Any:
    statistics = {k: v for k, v in variables.items() if k != "params"}
    step = jax.jit(jax.value_and_grad(run, has_aux=True))
    (loss, (outputs, parts, updated)), gradient = step(variables["params"], statistics)
    errors.compare(f"{folder}loss", loss)
    for key in arrays:
        if key.startswith(f"{folder}loss_parts/"):
            name = key.rsplit("/", 1)[1]
            errors.compare(key, parts[PARTS.get(block.name, {}).get(name, name)])
    _compare_outputs(arrays, errors, f"{folder}out/", outputs, block)
    peer = state_dict.peer_model(block.name)
    folders = (f"{folder}grad/", f"{folder}grad_unregistered/")
    compare_gradient(peer.entries(block), errors, gradient, *folders, peer=peer)
    return updated


def _compare_outputs(arrays, errors: Errors, folder: str, outputs, block) -> None:
    others = "/aligned_" not in folder
    for key in [k for k in arrays if k.startswith(folder) and not (others and "/aligned_" in k)]:
        name = key.removeprefix(folder)
        name = PREDICTIONS.get(block.name, {}).get(name, name)
        if name in outputs.predictions:
            y = outputs.predictions[name]
            row_of = ROWS.get(block.name, {}).get(key, "")
            errors.compare(key, y[:, None] if y.ndim == 1 else y, row_of)
        elif name in OUTPUTS.get(block.name, {}):
            errors.compare(key, OUTPUTS[block.name][name](outputs.features))
        elif name in outputs.features:  # a file may name our features as we do
            errors.compare(key, outputs.features[name])
        else:
            errors.missing(key)


def _compare_statistics(arrays, errors: Errors, after, block) -> None:
    flat = flax.traverse_util.flatten_dict(dict(after), sep="/")
    for entry in state_dict.peer_model(block.name).entries(block):
        key = f"train/state_after/{entry.peer}"
        if entry.ours.startswith("batch_stats/"):
            errors.compare(key, flat[entry.ours])
