"""Which parameters the fine-grained block brings into each model, and that they can be spared decay."""

import functools

import jax
import numpy as np
import pytest
from small import CONFIGS

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError
from msa_jax.nn.fine_grained import paths_of_blocks
from msa_jax.training import pretrained
from msa_jax.training.optim import build_optimizer


@functools.cache
def shapes(name: str, fg: str):
    """Parameter path -> shape; nothing is computed."""
    config = configuration.load(f"{CONFIGS / 'sims.py'}:{name},fg={fg},tiny")
    config = pretrained.with_sizes(config, need_folder=False)
    spec = opening.expected_spec(config)
    module = models.build(config.model, spec)
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), example_batch(spec, 2)))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(made)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize("name", models.MODELS)
def test_the_block_is_what_fg_brings(name):
    if name == "mctn":  # it reads the text alone
        with pytest.raises(ConfigError, match=r"model\.fg=both, but model mctn reads the text alone"):
            shapes(name, "both")
        return
    whole, split = shapes(name, "none"), shapes(name, "both")
    of_block = paths_of_blocks(split)
    assert not paths_of_blocks(whole)
    assert split.keys() - whole.keys() <= of_block
    # A system of LSTMs keeps the groups' where the modality's own would lie, in another shape.
    assert all(whole.get(path) != split[path] for path in of_block)


def test_what_is_spared_does_not_decay():
    train = configuration.block({"optimizer": "adamw", "learning_rate": 1.0, "weight_decay": 0.1})
    train.update({"schedule": "constant", "warmup_epochs": 0.0, "epochs": 2, "accumulate": 1})
    train.update({"clip_norm": 0.0, "clip_value": 0.0, "groups": {}, "fg_decay": False})
    params = {"audio": {"group_0": {"w": 1.0}, "attention": {"w": 1.0}, "after": 1.0}, "attention": 1.0}
    params = jax.tree.map(np.float32, params)
    optimizer = build_optimizer(train, steps_per_epoch=4, compat=False)
    still = jax.tree.map(np.zeros_like, params)
    new, _ = optimizer.step(still, optimizer.init(params), params)
    expected = {"audio": {"group_0": {"w": 1.0}, "attention": {"w": 1.0}, "after": 0.9}, "attention": 0.9}
    jax.tree.map(np.testing.assert_allclose, new, expected)
