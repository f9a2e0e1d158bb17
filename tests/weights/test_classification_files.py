"""Files of the golden layout for a run on classes: made from the public classes, and read as any other."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import parity
import public_mmsa
import pytest
from conftest import GOLDEN
from our_steps import golden
from parity_models import batch_of, model_block, spec_of

from msa_jax import models


def on_classes(meta: dict[str, Any]) -> dict[str, Any]:
    """The same class with the same sizes, trained on classes."""
    return {**meta, "config": {**meta["config"], "train_mode": "classification", "num_classes": 3}}


def inputs_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A file's inputs, with classes for labels."""
    inputs = {k: a for k, a in arrays.items() if k.startswith("in/") and not k.startswith("in/labels")}
    rng = np.random.default_rng(5)
    keys = [
        "in/labels_class",
        *(f"in/labels_class_{t}" for t in ("T", "A", "V") if f"in/labels_{t}" in arrays),
    ]
    return inputs | {key: rng.permutation(np.array([0, 1, 2, 0, 2])) for key in keys}


def made_file(name: str, folder: pathlib.Path) -> pathlib.Path:
    """What the public class computes on classes, from its own initial weights, in a golden file's layout."""
    import torch

    arrays, meta = golden(name)
    meta, arrays = on_classes(meta), inputs_of(arrays)
    torch.manual_seed(3)
    model = public_mmsa.build(name, meta, folder).eval()
    loss = public_mmsa.loss_of(name, meta)(model, arrays)
    loss.backward()
    own = {"state/": dict(model.state_dict()), "grad/": dict(model.named_parameters())}
    if name == "graph_mfn":  # its networks beside the state dict
        for key, network in model.graph_mfn.networks.items():
            place = "_".join(str(n) for n in key)
            for part, x in network.named_parameters():
                for kind in ("state", "grad"):
                    own.setdefault(f"{kind}_unregistered/", {})[f"graph_mfn.networks.{place}.{part}"] = x
    for key, named in own.items():
        for part, x in named.items():
            if key.startswith("grad"):
                if not x.requires_grad:
                    continue
                x = torch.zeros_like(x) if x.grad is None else x.grad
            arrays[f"{key}{part}"] = x.detach().numpy().copy()
    with torch.no_grad():
        outputs = public_mmsa.outputs_of(model, name, arrays)
    arrays |= {f"out/{k}": x.numpy() for k, x in outputs.items() if torch.is_tensor(x)}
    path = folder / f"{name}_classes.npz"
    np.savez(path, meta=json.dumps(meta), loss=loss.detach().numpy(), **arrays)
    return path


def test_the_extras_tier_installs_the_mmsa_that_tests_ask_for():
    versions = GOLDEN.parents[1] / ".ci" / "extras.txt"
    assert f"MMSA=={public_mmsa.VERSION}" in versions.read_text().splitlines()


@pytest.mark.extras
@pytest.mark.parametrize("name", public_mmsa.WITH_CLASSES)
def test_a_file_of_a_run_on_classes_is_equal(name, tmp_path):
    public_mmsa.require()
    errors = parity.check(made_file(name, tmp_path))
    assert not errors.over(), {k: errors.scaled[k] for k in errors.over()}
    compared = ("out/", "loss", "grad")
    assert {k for k in errors.arrays if k.startswith(compared)} <= errors.scaled.keys()
    assert errors.arrays["out/M"].shape == (5, 3)


@pytest.mark.parametrize("name", public_mmsa.WITH_CLASSES)
def test_the_settings_of_a_run_on_classes_give_a_model_with_logits(name):
    """Needs no PyTorch: the settings, labels and objective of such a file."""
    arrays, meta = golden(name)
    block, inputs = model_block(on_classes(meta)), inputs_of(arrays)
    assert (block.task, block.classes) == ("classification", 3)
    assert model_block(meta).task == "regression"
    spec = spec_of(inputs, meta)
    model: Any = models.build(block, spec)
    objective = models.objective(block, spec)
    batch = batch_of(inputs, block)
    np.testing.assert_array_equal(batch.labels["M"], inputs["in/labels_class"])

    def run() -> Any:
        outputs = model.init_with_output(jax.random.key(0), batch, train=False)[0]
        return outputs.predictions, objective(outputs, batch, ())[0]

    predictions, loss = jax.eval_shape(run)
    assert {y.shape for y in predictions.values()} == {(5, 3)}
    assert loss.shape == ()
