"""Models on encoders of every kind: which work, what is refused, and what a mix of layers adds."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SPEC, model_block

from msa_jax import models
from msa_jax.data.batch import Before, example_batch
from msa_jax.data.preprocess import reduced_spec
from msa_jax.errors import ConfigError

TEXT = [name for name in models.MODELS if "text_encoder" in models.block(name, "sims")]


def started(name: str, *overrides: str) -> Any:
    """A tiny model's parameters by shape, with an encoder of its own."""
    block = model_block(name, "text_encoder=finetune", *overrides)
    spec = reduced_spec(
        dataclasses.replace(SPEC, has_tokens=True), models.declaration(name).data.get("reduce", "none")
    )
    model = models.build(block, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    return jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)["params"]


@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
@pytest.mark.parametrize("name", TEXT)
def test_models_take_encoders_of_every_kind_and_mixes_of_layers(name, kind):
    """MAG-BERT alone reads a pooler, which ModernBERT does not have."""
    overrides = [f"encoder.kind={kind}", "encoder.pad=1", "encoder.layers=learned"]
    if (name, kind) == ("mag_bert", "modernbert"):
        with pytest.raises(ConfigError, match="reads an encoder's pooler, which ModernBERT does not have"):
            started(name, *overrides)
        return
    inside = started(name, *overrides)["text_encoder"]["bert"]
    assert ("final_norm" in inside) == (kind == "modernbert")
    assert inside["mix"]["weights"].shape == (2,)


@pytest.mark.parametrize("name", TEXT)
def test_models_read_a_clip_whose_tokens_have_others_behind(name):
    """The same model, whatever stands behind the clips' own tokens, in training with losses too."""
    block = model_block(name, "text_encoder=finetune")
    stored = dataclasses.replace(SPEC, has_tokens=True, context=2)
    spec = reduced_spec(stored, models.declaration(name).data.get("reduce", "none"))
    model, objective = models.build(block, spec), models.objective(block, spec)
    text, audio, vision = (record.length for record in spec.modalities.values())

    def loss(shape: tuple[int, int, int]) -> Any:
        batch = example_batch(spec, 4, shape)
        assert batch.tokens is not None
        assert (batch.tokens.shape[2], batch.mask["text"].shape[1]) == (shape[0], text)
        taken = {m: jnp.zeros_like(mask) for m, mask in batch.mask.items()}
        rates = {m: jnp.zeros(4) for m in batch.mask}
        batch = batch.replace(before=Before(batch, taken, rates))
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        variables = model.init(keys, batch, train=True)
        outputs, _ = model.apply(variables, batch, train=True, rngs=keys, mutable=["batch_stats"])
        memory = objective.memory({t: np.zeros(4, np.float32) for t in spec.tasks}, 1)
        return variables, outputs.predictions, objective(outputs, batch, memory)

    alone, beside = (jax.eval_shape(lambda n=n: loss((n * text, audio, vision))) for n in (1, 3))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), alone) == jax.tree.map(
        lambda x: (x.shape, x.dtype), beside
    )


def test_a_mix_of_layers_needs_an_encoder_that_is_trained():
    for layers in ("mean", "learned"):
        block = model_block("self_mm", "text_encoder=frozen", f"encoder.layers={layers}")
        with pytest.raises(ConfigError, match=f"encoder.layers={layers} needs model.text_encoder=finetune"):
            models.build(block, SPEC)
    with pytest.raises(ConfigError, match="layers='first' is not one of last, mean, learned"):
        models.build(model_block("self_mm", "encoder.layers=first"), SPEC)
    with pytest.raises(ConfigError, match="kind='gpt' is not one of bert, roberta, modernbert"):
        models.build(model_block("self_mm", "encoder.kind=gpt"), SPEC)
