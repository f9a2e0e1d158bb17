"""What a training step of a text encoder costs here: memory, time, and share of the matrix speed.

    python benchmarks/encoder.py --json

One step is the gradient of a loss on the states of every real token, dropout included, and Adam's
update of all parameters. BERT-base unless sizes are given; made-up weights and tokens. What --remat
computes twice counts twice.
"""

import argparse
import functools
import json
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from train_throughput import matmul_peak

from msa_jax.errors import run_command
from msa_jax.nn.bert import Bert, BertSettings
from msa_jax.summary.operations import count_macs

OPTIMISER = optax.adam(5e-5)


def texts(settings: BertSettings, batch: int, tokens: int, mean: int) -> tuple[jax.Array, jax.Array]:
    """Token ids [B, T] and their mask; lengths around ``mean``, the first clip's is T."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.poisson(mean, batch), 2, tokens)
    lengths[0] = tokens
    mask = np.arange(tokens) < lengths[:, None]
    ids = rng.integers(1, settings.vocab, (batch, tokens))
    return jnp.asarray(np.where(mask, ids, 0), jnp.int32), jnp.asarray(mask)


@functools.partial(jax.jit, static_argnames="settings")
def start(settings: BertSettings, ids: jax.Array) -> Any:
    """Fresh parameters with Adam's state."""
    params: Any = Bert(settings).init(jax.random.key(0), ids, ids > 0, jnp.zeros_like(ids), train=False)
    return params, OPTIMISER.init(params)


def step(settings: BertSettings, dtype: Any, state: Any, ids: jax.Array, mask: jax.Array, seed: Any) -> Any:
    """One training step; returns the new state and the loss."""
    params, moments = state

    def loss(variables: Any) -> jax.Array:
        cast = jax.tree.map(lambda x: x.astype(dtype), variables)
        rngs = {"dropout": jax.random.key(seed)}
        states: Any = Bert(settings).apply(cast, ids, mask, jnp.zeros_like(ids), train=True, rngs=rngs)
        return jnp.mean(jnp.where(mask, states[..., 0].astype(jnp.float32) - 1, 0) ** 2)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, moments = OPTIMISER.update(gradient, moments, params)
    return (optax.apply_updates(params, updates), moments), value


def peak_rss() -> float:
    """Of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(settings: BertSettings, options: argparse.Namespace) -> dict[str, Any]:
    """The figures, as a dictionary ready for JSON."""
    ids, mask = texts(settings, options.batch, options.tokens, options.mean_tokens)
    dtype = jnp.dtype(options.precision)
    before = peak_rss()
    run = functools.partial(step, settings, dtype)
    state = jax.block_until_ready(start(settings, ids))
    macs = count_macs(run, state, ids, mask, jnp.uint32(0))
    began = time.perf_counter()
    compiled = jax.jit(run, donate_argnums=0).lower(state, ids, mask, jnp.uint32(0)).compile()
    compiling = time.perf_counter() - began
    seconds, value = [], jnp.nan
    for number in range(options.steps + 1):
        began = time.perf_counter()
        state, value = jax.block_until_ready(compiled(state, ids, mask, jnp.uint32(number)))
        seconds.append(time.perf_counter() - began)
    steady, rss, peak = min(seconds[1:]), peak_rss(), matmul_peak()
    planned = compiled.memory_analysis()
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state[0])),
        "batch": options.batch,
        "tokens": options.tokens,
        "share_of_real_tokens": float(mask.mean()),
        "remat": settings.remat,
        "precision": options.precision,
        "loss": float(value),
        "seconds_compile": compiling,
        "seconds_per_step": steady,
        "seconds_per_step_median": sorted(seconds[1:])[options.steps // 2],
        "samples_per_second": options.batch / steady,
        "step_gflops": 2 * macs / 1e9,
        "matmul_peak_gflops": peak / 1e9,
        "share_of_matmul_peak": 2 * macs / steady / peak,
        "activations_mib": planned.temp_size_in_bytes / 2**20 if planned else None,
        "rss_before_mib": before,
        "peak_rss_mib": rss,
        "devices": len(jax.devices()),
        "backend": jax.default_backend(),
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    sizes = {"width": 768, "layers": 12, "heads": 12, "intermediate": 3072, "vocab": 30522}
    runs = {"batch": 16, "tokens": 50, "mean-tokens": 50, "steps": 3}
    for name, value in {**sizes, **runs}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--remat", action="store_true", help="compute layers again in the backward pass")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    settings = BertSettings(
        width=options.width,
        n_layers=options.layers,
        heads=options.heads,
        intermediate=options.intermediate,
        vocab=options.vocab,
        positions=max(512, options.tokens),
        types=2,
        dropout=0.1,
        attention_dropout=0.1,
        remat=options.remat,
    )
    figures = measure(settings, options)
    if options.json:
        json.dump(figures, sys.stdout, indent=1)
        print()
    else:
        for name, value in figures.items():
            print(f"{name:32s} {value:.4g}" if isinstance(value, float) else f"{name:32s} {value}")


if __name__ == "__main__":
    run_command(main)
