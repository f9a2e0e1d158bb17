"""How far a signal gets through the fine-grained block, before and after training, as one JSON object.

    python benchmarks/fine_grained.py --config=configs/synthetic.py:lf_dnn,fg=both --json

"spread" is how much a vector differs from clip to clip: its standard deviation over the clips of the
validation split, averaged over its columns. A vector of spread 0 says the same of every clip. Per modality:

- "groups": spread of what the column groups' sub-networks give, averaged over the clip's real steps,
- "joined": of what the block makes of it; "kept" is the ratio of the two,
- "vector": of the modality's vector where the model fuses it, in models with and without the block,
- "gradient": root mean square of the gradient of the sub-networks' parameters, of the squared error of "M",
- "weights": root mean square of W_V and W_O.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from msa_jax import configuration, inference, messages
from msa_jax.data.batch import Batch
from msa_jax.data.loader import Plan, Source, clip_lengths
from msa_jax.data.opening import load_dataset
from msa_jax.errors import run_command
from msa_jax.nn.fine_grained import GroupedHeadAttention
from msa_jax.training import build
from msa_jax.training.loop import train_and_evaluate
from msa_jax.training.step import infer

MODALITIES = ("audio", "vision")


def spread(rows: list[Any]) -> float:
    """Of vectors [B, F] in batches."""
    return float(np.concatenate([np.asarray(x) for x in rows]).std(axis=0).mean())


def over_steps(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """[B, n, S, h] or [B, S, h] as one vector a clip, the mean over its real steps (mask [B, S])."""
    weight = jnp.ones((len(x), x.shape[-2])) if mask is None else mask
    total = jnp.einsum("b...sh,bs->b...h", x, weight.astype(x.dtype))
    counts = jnp.maximum(weight.sum(axis=1), 1).reshape(-1, *[1] * (total.ndim - 1))
    return (total / counts).reshape(len(x), -1)


def modality_of(path: str) -> str:
    """The modality whose name is in a path of parameters; "" for none."""
    return next((m for m in MODALITIES if any(m in part for part in path.split("/"))), "")


def measure(model: inference.Trained, split: Any) -> dict[str, dict[str, float]]:
    """The figures of a model with the parameters that it has."""

    def compute(params: Any, batch_stats: Any, batch: Batch) -> Any:
        def loss_of(params: Any) -> Any:
            seen: dict[str, Any] = {}

            def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
                y = call(*args, **kwargs)
                if isinstance(context.module, GroupedHeadAttention) and context.method_name == "__call__":
                    m = modality_of("/".join(context.module.path))
                    mask = args[1] if len(args) > 1 else None
                    seen[f"{m} groups"], seen[f"{m} joined"] = over_steps(args[0], mask), over_steps(y, mask)
                return y

            with nn.intercept_methods(watch):
                outputs = infer(model.learner, params, batch_stats, batch)
            seen |= {f"{m} vector": x for m, x in outputs.features.items() if m in MODALITIES}
            errors = (outputs.predictions["M"] - batch.labels["M"]) ** 2 * batch.weight
            return jnp.sum(errors) / jnp.sum(batch.weight), (seen, batch.weight)

        return jax.grad(loss_of, has_aux=True)(params)

    split = model.prepare(split)
    lengths = clip_lengths(split, None)
    plan = Plan(lengths, model.shapes, model.config.train.eval_batch_size, 1)
    program = inference._program(compute)
    rows: dict[str, list[Any]] = {}
    gradient: Any = None
    for chunk, item in Source(split, model.preprocess, model._mesh, resident=False).items(plan.once()):
        found, (seen, weight) = program(model.params, model.batch_stats, item, shape=chunk.shape)
        gradient = found if gradient is None else jax.tree.map(jnp.add, gradient, found)
        for name, x in seen.items():
            rows.setdefault(name, []).append(np.asarray(x)[np.asarray(weight) > 0])
    figures: dict[str, dict[str, float]] = {m: {} for m in MODALITIES}
    for name, parts in rows.items():
        m, what = name.split()
        figures[m][what] = spread(parts)
    for m, found in figures.items():
        if "groups" in found:
            found["kept"] = found["joined"] / max(found["groups"], 1e-30)
        found |= _of_parameters(m, gradient, model.params)
    return figures


def _of_parameters(m: str, gradient: Any, params: Any) -> dict[str, float]:
    def flat(tree: Any) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
        return {path: np.asarray(leaf) for path, leaf in named.items() if modality_of(path) == m}

    def rms(parts: list[Any]) -> float:
        return float(np.sqrt(np.mean(np.concatenate([x.ravel() for x in parts]) ** 2)))

    joins = ("attention/value/kernel", "attention/output/kernel")
    subnets = [x for path, x in flat(gradient).items() if "attention" not in path]
    weights = [x for path, x in flat(params).items() if path.endswith(joins)]
    return ({"gradient": rms(subnets)} if subnets else {}) | ({"weights": rms(weights)} if weights else {})


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    configuration.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
    arguments, config = configuration.parse_command(parser, argv)
    with tempfile.TemporaryDirectory() as folder, messages.silenced():
        result = train_and_evaluate(config, pathlib.Path(folder))
        model = inference.Trained(folder)
        dataset = load_dataset(config.data)
        split = dataset.splits["valid"]
        report = {"best": measure(model, split)}
        setup = build.build(model.config, build.prepare(config, dataset))
        model.params, model.batch_stats = setup.state.params, setup.state.batch_stats
        report["start"] = measure(model, split)
    report["valid"] = {key: result["valid"][key] for key in ("mae", "corr")}
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    run_command(main)
