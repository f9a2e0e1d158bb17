"""Graph-MFN: its graph, and the networks that the public code forgets."""

import fnmatch
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from small import CONFIGS, SPEC, count_parameters, model_block

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import DataError
from msa_jax.models.graph_mfn import INNER_NODES, DynamicFusionGraph, node_name
from msa_jax.weights import state_dict

#: Weights of the four node networks, which the published counts leave out.
UNREGISTERED = {"mosi": 208_656, "mosei": 133_712, "sims": 253_712}


@pytest.mark.parametrize(
    ("argument", "published"),
    [
        ("mosi.py:graph_mfn", 2_110_624),
        ("mosei.py:graph_mfn", 675_792),
        ("sims.py:graph_mfn", 2_724_860),
        ("mosei.py:graph_mfn,task=classification", 676_050),
        ("sims.py:graph_mfn,task=classification", 2_725_374),
        ("mosei.py:graph_mfn,fg=both", 693_728),
        ("sims.py:graph_mfn,fg=both", 4_650_780),
    ],
)
def test_parameters_as_published_and_the_node_networks(argument, published):
    assert count_parameters(argument) == published + UNREGISTERED[argument.split(".")[0]]


@pytest.mark.parametrize("dataset", UNREGISTERED)
def test_compat_freezes_the_node_networks_and_nothing_else(dataset):
    block = configuration.load(f"{CONFIGS / dataset}.py:graph_mfn", ["model.compat=True"])
    spec = opening.expected_spec(block)
    model = models.build(block.model, spec)
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), example_batch(spec, 1), train=False))
    flat = flax.traverse_util.flatten_dict(shapes["params"], sep="/")
    held = [p for p in flat if any(fnmatch.fnmatch(p, pattern) for pattern in models.frozen(block.model))]
    assert sum(flat[p].size for p in held) == UNREGISTERED[dataset]
    block.model.compat = False
    assert models.frozen(block.model) == ()


def test_graph_edge_by_edge():
    """19 edges: two into each pair, six into the triple, seven into the summary, in that order."""
    rng = np.random.default_rng(0)
    inputs = {m: rng.normal(size=(2, d)).astype(np.float32) for m, d in zip("lav", (4, 3, 2), strict=True)}
    named = {"text": inputs["l"], "audio": inputs["a"], "vision": inputs["v"]}
    graph = DynamicFusionGraph(7, 5)
    params = random_params(graph, named)

    def net(name: str, x):
        for layer in ("linear_1", "linear_2"):
            x = x @ params[name][layer]["kernel"] + params[name][layer]["bias"]
        return x

    third = params["efficacy_linear_3"]
    e = net("efficacy", np.concatenate(list(inputs.values()), 1)) @ third["kernel"] + third["bias"]
    nodes = dict(inputs)
    reads = {"la": "l a", "lv": "l v", "av": "a v", "lav": "l a v la lv av"}
    edge = 0
    for (node, sources), name in zip(reads.items(), map(node_name, INNER_NODES), strict=True):
        parts = [nodes[s] * e[:, edge + i : edge + i + 1] for i, s in enumerate(sources.split())]
        nodes[node], edge = net(name, np.concatenate(parts, 1)), edge + len(parts)
    parts = [
        nodes[s] * e[:, edge + i : edge + i + 1]
        for i, s in enumerate(["l", "a", "v", "la", "lv", "av", "lav"])
    ]
    assert edge + len(parts) == e.shape[1] == 19
    summary, efficacies = graph.apply({"params": params}, named)
    np.testing.assert_allclose(efficacies, e, rtol=1e-4, atol=1e-4)
    expected = net("summary", np.concatenate(parts, 1))
    np.testing.assert_allclose(summary, expected, atol=1e-5 * np.abs(expected).max())


def peer_state(model, block, batch) -> dict[str, np.ndarray]:
    """A state dict of the public class, node networks included, that holds the model's own weights."""
    flat = flax.traverse_util.flatten_dict({"params": random_params(model, batch)}, sep="/")
    entries = state_dict.peer_model("graph_mfn").entries(block)
    parts: dict[str, list[Any]] = {}
    for entry in entries:
        parts.setdefault(entry.peer, []).append(flat[entry.ours])
    # A gate's first matrix stands in two parts here.
    return {name: np.concatenate(arrays).transpose() for name, arrays in parts.items()}


@pytest.fixture
def saved():
    """Model, block, batch, and what the public class would save and keep beside it."""
    block = model_block("graph_mfn")
    model = models.build(block, SPEC)
    batch = jax.eval_shape(lambda: example_batch(SPEC, 2, (3, 3, 3)))
    return model, block, batch, peer_state(model, block, batch)


def test_import_draws_networks_that_the_public_class_does_not_save(saved):
    model, block, batch, whole = saved
    registered = {k: v for k, v in whole.items() if "networks" not in k}
    assert len(whole) - len(registered) == 16
    complete = state_dict.import_state_dict(model, whole, block, batch)["params"]
    drawn = state_dict.import_state_dict(model, registered, block, batch)["params"]
    zeros = jax.tree.map(jnp.zeros_like, batch)
    fresh: Any = jax.jit(lambda: model.init(jax.random.key(0), zeros, train=False))()
    flat, kept, first = (
        flax.traverse_util.flatten_dict(p, sep="/") for p in (drawn, complete, fresh["params"])
    )
    assert flat.keys() == kept.keys()
    for path, x in flat.items():
        expected = first if path.startswith("graph/node_") else kept
        np.testing.assert_allclose(x, expected[path], rtol=1e-6, err_msg=path)


def test_import_misses_what_the_public_class_does_save(saved):
    model, block, batch, whole = saved
    del whole["graph_mfn.t_network.0.bias"]
    with pytest.raises(DataError, match=r"missing graph_mfn\.t_network\.0\.bias"):
        state_dict.import_state_dict(model, whole, block, batch)
