"""MFN: what it alone does. What all models must keep is in test_contracts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, random_model_params, small_batch

from msa_jax import config as configuration
from msa_jax import models
from msa_jax.data.batch import example_batch
from msa_jax.errors import ConfigError

SAME_STEPS = (5, 5, 5)


def parameters(argument: str) -> int:
    """Parameters of a configuration at its published shapes."""
    config = configuration.load(f"{CONFIGS / argument}")
    spec = configuration.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("argument", "count"),
    [
        ("mosi.py:mfn", 2_172_657),
        ("mosei.py:mfn", 1_276_865),
        ("sims.py:mfn", 601_505),
        ("mosei.py:mfn,task=classification", 1_277_123),
        ("sims.py:mfn,task=classification", 601_635),
        ("mosei.py:mfn,fg=both", 1_345_505),
        ("sims.py:mfn,fg=both", 726_769),
    ],
)
def test_parameters_as_published(argument, count):
    assert parameters(argument) == count


def small_model(*overrides: str):
    block = configuration.load(f"{CONFIGS / 'sims.py'}:mfn,tiny", [f"model.{o}" for o in overrides]).model
    from small import SPEC

    return models.build(block, SPEC)


def test_reads_padding_only_under_compat():
    quiet, loud = (small_batch_of(f) for f in (0.0, 3.0))
    for compat in (False, True):
        model = small_model(f"compat={compat}")
        params = random_model_params_of(model)
        outputs = [model.apply({"params": params}, batch).predictions["M"] for batch in (quiet, loud)]
        same = np.isclose(outputs[0], outputs[1], rtol=0, atol=1e-6)
        # The first clip is as long as the batch.
        np.testing.assert_array_equal(same, [True, not compat, not compat, not compat])


def small_batch_of(filler: float):
    """Clips whose audio and vision are at the text's steps."""
    batch = small_batch(SAME_STEPS_OF_DATA, filler)
    return batch
