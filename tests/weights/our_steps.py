"""Our side of training a golden file's model beside PyTorch."""

import json
from typing import Any, NamedTuple

import jax
import numpy as np
from conftest import GOLDEN
from parity_models import CONFIGS, DRAWN, batch_of, model_block, spec_of

from msa_jax import configuration, models
from msa_jax.training import optim
from msa_jax.weights import state_dict

FEATURES = ("in/text", "in/audio", "in/vision")
LABELS = ("in/labels", "in/labels_T", "in/labels_A", "in/labels_V")


def golden(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a model's golden file, and its meta."""
    with np.load(GOLDEN / f"{name}_a.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta")))


def varied(arrays: dict[str, np.ndarray], steps: int) -> list[dict[str, np.ndarray]]:
    """Batches like the file's inputs, each with noise of its own.

    Where a model remembers something of labels or their signs (it has lengths, too), labels stay.
    """
    rng = np.random.default_rng(0)
    changed = FEATURES if "in/audio_lengths" in arrays else FEATURES + LABELS
    inputs = {k: a for k, a in arrays.items() if k.startswith("in/")}
    return [
        {
            k: (a + 0.3 * rng.normal(size=a.shape)).astype(np.float32) if k in changed else a
            for k, a in inputs.items()
        }
        for _ in range(steps)
    ]


def path_of(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


class Trained(NamedTuple):
    """What training leaves: variables, and the loss of each step."""

    variables: Any
    losses: list[float]


class Ours:
    """A golden file's model, with the public arithmetic."""

    def __init__(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]):
        self.arrays, self.block = arrays, model_block(meta)
        self.model: Any = models.build(self.block, spec_of(arrays, meta))
        self.objective = models.objective(self.block, spec_of(arrays, meta))
        self.batch = batch_of(arrays, self.block)

    def load(self, state: Any) -> Any:
        """A state dict of the public class as our variables."""
        return state_dict.import_state_dict(self.model, state, self.block, self.batch)

    def load_file(self) -> Any:
        """The file's own weights."""
        folders = ("state/", "state_unregistered/")
        return self.load({k.split("/", 1)[1]: a for k, a in self.arrays.items() if k.startswith(folders)})

    def train(self, batches: list[dict[str, np.ndarray]], **settings: Any) -> Trained:
        """One step on each batch, in the first epoch."""
        frozen = models.frozen(self.block)
        optimizer = optim.build_optimizer(train_block(**settings), len(batches), compat=True, frozen=frozen)
        variables = self.load_file()
        params, statistics = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        opt_state, losses = optimizer.init(params), []
        rows = self.arrays.get("in/all_labels", np.zeros(len(self.arrays["in/labels"]), np.float32))
        memory = self.objective.memory(dict.fromkeys(("M", "T", "A", "V"), rows), len(batches))
        drawn = {name: self.arrays[key] for name, key in DRAWN.get(self.block.name, {}).items()}
        rngs = {"dropout": jax.random.key(0)}  # of what the file's draws replace

        @jax.jit
        def step(params, statistics, opt_state, memory, batch):
            def loss(params):
                variables = {"params": params, **statistics}
                outputs, updated = self.model.apply(
                    variables, batch, train=True, rngs=rngs, mutable=["batch_stats"]
                )
                outputs = outputs.replace(features={**outputs.features, **drawn})
                return self.objective(outputs, batch, memory)[0], (outputs, updated)

            (value, (outputs, statistics)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
            params, opt_state = optimizer.step(gradient, opt_state, params)
            if self.objective.remember:
                memory = self.objective.remember(outputs, batch, memory)
            return params, statistics, opt_state, memory, value

        for arrays in batches:
            batch = batch_of(arrays, self.block)
            params, statistics, opt_state, memory, value = step(params, statistics, opt_state, memory, batch)
            losses.append(float(value))
        return Trained({"params": params, **statistics}, losses)


def train_block(**settings: Any) -> configuration.Config:
    """LF-DNN's training block, Adam at a constant rate, with ``settings``."""
    train = configuration.load(f"{CONFIGS / 'sims.py'}:lf_dnn").copy_and_resolve_references().train
    with train.unlocked():
        train.update(settings)
    return train
