"""EMT-DLFR: sizes, what is read, the losses by hand, both views, and what evaluation leaves out."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, SPEC, count_parameters, model_block, random_model_params, small_batch, used

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import example_batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError
from msa_jax.models import emt_dlfr
from msa_jax.training.corrupt import Corrupt
from msa_jax.weights.peers import PEERS

#: BERT's pooler, which the public class has and nothing reads.
POOLER = 768 * 769
LOSE = Corrupt("frames", 0.5, 0.9, MODALITIES, False, 0)
QUIET = ("attention_dropout=0.0", "ff_dropout=0.0", "post_dropout=0.0")


def frozen_model(*overrides: str) -> tuple[Any, Any, Any]:
    """A tiny model of stored text features, its objective, and its variables."""
    block = model_block("emt_dlfr", "text_encoder=frozen", *QUIET, *overrides)
    model = models.build(block, SPEC)
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), small_batch()))
    statistics = jax.tree.map(lambda s: jnp.ones(s.shape), shapes["batch_stats"])
    variables = {"params": random_model_params(model), "batch_stats": statistics}
    return model, models.objective(block, SPEC), variables


@pytest.mark.parametrize(
    ("dataset", "published"), [("mosi", 111_805_019), ("mosei", 111_597_823), ("sims", 103_793_240)]
)
def test_parameters_as_published_less_the_pooler(dataset, published):
    assert count_parameters(f"{dataset}.py:emt_dlfr") + POOLER == published


def test_a_score_needs_no_part_of_the_restoration():
    """Outside the encoder it needs as many parameters as the public class does for inference."""
    config = configuration.load(f"{CONFIGS / 'mosi.py'}:emt_dlfr")
    spec = opening.expected_spec(config)
    model, batch = models.build(config.model, spec), example_batch(spec, 1, (6, 4, 4))
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    statistics = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes["batch_stats"])

    def predict(params):
        return model.apply({"params": params, "batch_stats": statistics}, batch).predictions["M"]

    read = used(predict, shapes["params"])
    assert {path.split("/")[0] for path, is_read in read.items() if not is_read} == {
        *(f"attraction_{name}" for name in emt_dlfr.ATTRACTED),
        *(f"restore_{m}" for m in MODALITIES),
    }
    sizes = zip(read.items(), jax.tree.leaves(shapes["params"]), strict=True)
    others = [x.size for (path, is_read), x in sizes if is_read and not path.startswith("text_encoder/")]
    assert sum(others) == 985_906


def test_evaluation_reads_the_clips_as_training_does():
    model, objective, variables = frozen_model()
    batch = LOSE(small_batch(), 1, 0)
    assert batch.before is not None
    run = jax.jit(lambda b: model.apply(variables, b))
    both, lossy, whole = run(batch), run(batch.replace(before=None)), run(batch.before.clips)
    np.testing.assert_allclose(both.predictions["M"], lossy.predictions["M"], atol=1e-5)
    np.testing.assert_allclose(both.predictions["M_complete"], whole.predictions["M"], atol=1e-5)
    assert np.abs(both.predictions["M"] - both.predictions["M_complete"]).max() > 1e-3
    assert lossy.predictions.keys() == {"M"}
    loss, parts = objective.evaluate(lossy, batch)
    np.testing.assert_allclose(loss, np.abs(lossy.predictions["M"] - batch.labels["M"]).mean(), rtol=1e-5)
    assert parts.keys() == {"M"}


def test_the_loss_is_the_weighted_sum_of_its_parts():
    model, objective, variables = frozen_model("attract_weight=0.7", "restore_weight=1.3")
    batch = LOSE(small_batch(), 1, 0)
    outputs = jax.jit(lambda b: model.apply(variables, b))(batch)
    loss, parts = objective(outputs, batch, ())
    pull = sum(v for k, v in parts.items() if k.startswith("attract") or k == "M_complete")
    restore = sum(v for k, v in parts.items() if k.startswith("restore"))
    np.testing.assert_allclose(loss, parts["M"] + 0.7 * pull + 1.3 * restore, rtol=1e-5)
    assert min(float(parts[f"restore_{m}"]) for m in MODALITIES) > 0


def test_without_losses_both_views_are_the_clip_and_nothing_is_restored():
    model, objective, variables = frozen_model()
    batch = small_batch()
    run = jax.jit(lambda b: model.apply(variables, b, train=True, mutable=["batch_stats"])[0])
    outputs = run(batch)
    np.testing.assert_allclose(outputs.predictions["M"], outputs.predictions["M_complete"], atol=1e-6)
    _, parts = objective(outputs, batch, ())
    assert {float(parts[f"restore_{m}"]) for m in MODALITIES} == {0.0}
    np.testing.assert_allclose(parts["M"], parts["M_complete"], rtol=1e-5)


def test_restoration_by_hand():
    restored = jnp.array([[[0.0, 0.0], [1.0, 5.0]], [[7.0, 7.0], [0.5, 1.0]]])
    wanted = jnp.array([[[9.0, 9.0], [1.5, 2.0]], [[np.nan, np.nan], [0.5, 1.5]]])
    lost = jnp.array([[False, True], [False, True]])
    # Gaps 0.5, 3, 0 and 0.5: squares halved below 1, less a half above.
    expected = (0.125 + 2.5 + 0 + 0.125) / 4
    gradient = jax.grad(lambda x: emt_dlfr.restoration(x, wanted, lost))(restored)
    np.testing.assert_allclose(emt_dlfr.restoration(restored, wanted, lost), expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[0], [[0, 0], [-0.125, 0.25]], atol=1e-6)
    np.testing.assert_array_equal(gradient[1, 0], 0)
    assert emt_dlfr.restoration(restored, wanted, lost & False) == 0


def test_attraction_by_hand():
    features = {
        "predicted_text": jnp.array([[2.0, 0.0], [0.0, 3.0]]),
        "complete_projected_text": jnp.array([[1.0, 1.0], [0.0, -5.0]]),
        "complete_predicted_text": jnp.array([[1.0, 1.0], [4.0, 0.0]]),
        "projected_text": jnp.array([[0.0, 2.0], [0.0, 0.0]]),
    }
    cosines = np.array([[np.sqrt(0.5), -1], [np.sqrt(0.5), 0]])
    for weight in ([1.0, 1.0], [1.0, 0.0]):
        rows = np.array(weight) > 0
        found = emt_dlfr.attraction(features, "text", jnp.array(weight))
        np.testing.assert_allclose(found, -cosines[:, rows].mean(), rtol=1e-5)
    gradient = jax.grad(lambda f: emt_dlfr.attraction(f, "text", jnp.ones(2)))(features)
    for name, g in gradient.items():
        assert np.isfinite(g).all()
        assert np.any(g) == ("predicted" in name)  # projections are held


def test_a_text_of_tokens_is_read_between_its_ends():
    model = models.build(model_block("emt_dlfr"), SPEC)
    batch = small_batch()
    ids = jnp.broadcast_to(jnp.arange(1, 6), (4, 5))
    batch = batch.replace(tokens=jnp.stack([ids, batch.mask["text"], 0 * ids], axis=1))

    def read(b):
        _, _, sequences, masks = model.init_with_output(jax.random.key(0), b, False, method="_read")[0]
        return sequences["text"], masks["text"]

    sequence, mask = jax.jit(read)(batch)
    assert sequence.shape[1] == 4
    # Texts of 5, 3, 1 and 4 tokens: 3, 1, 0 and 2 words.
    np.testing.assert_array_equal(mask.sum(axis=1), [3, 1, 0, 2])
    np.testing.assert_array_equal(mask[0], [True, True, True, False])


def test_presets_have_the_authors_rates_and_decays():
    for dataset, expected in {
        "mosi": [(1e-3, 1e-3), (5e-5, 1e-3), (5e-5, 0.0), (1e-3, 1e-2), (1e-4, 1e-3)],
        "mosei": [(1e-4, 1e-3), (2e-5, 1e-3), (2e-5, 0.0), (1e-4, 1e-3), (1e-4, 1e-3)],
        "sims": [(1e-3, 0.0), (2e-5, 1e-3), (2e-5, 0.0), (1e-3, 0.0), (1e-3, 0.0)],
    }.items():
        train = configuration.load(f"{CONFIGS / dataset}.py:emt_dlfr").train
        groups = [train.groups[name] for name in ("encoder", "encoder_no_decay", "audio", "vision")]
        assert [(g.learning_rate, g.weight_decay) for g in (train, *groups)] == expected
        assert (train.corrupt, train.accumulate) == ("frames", 4)
        assert train.corrupt_rates == (0.0, 0.5 if dataset == "sims" else 1.0)


def test_column_groups_have_an_lstm_each():
    model, _, variables = frozen_model("fg=audio")
    shapes = jax.tree.map(jnp.shape, variables["params"])
    for k in (0, 1):
        assert shapes["audio"][f"group_{k}"]["lstm"]["forward"]["kernel_ih"] == (2, 16)
    assert shapes["vision"]["lstm"]["forward"]["kernel_ih"] == (7, 16)
    assert np.isfinite(jax.jit(lambda b: model.apply(variables, b).predictions["M"])(small_batch())).all()


def test_public_weights_of_units_that_are_not_shared_are_refused():
    peer = {"mpu_share": True, "modality_share": False, "layer_share": True}
    peer |= {"learnable_pos_emb": False, "attn_act_fn": "tanh"}
    with pytest.raises(DataError, match="mpu_share, modality_share, layer_share = true is read here"):
        PEERS["emt_dlfr"].settings(peer)


def test_a_clip_that_fills_the_batch_is_not_restored():
    model, objective, variables = frozen_model()
    batch = LOSE(small_batch(), 1, 0)
    run = jax.jit(lambda b: objective(model.apply(variables, b), b, ()))
    loud = jax.tree.map(lambda x: x.at[3].multiply(50), batch.before.clips.values)
    before = batch.before.replace(clips=batch.before.clips.replace(values=loud))
    idle = batch.replace(weight=jnp.array([1.0, 1.0, 1.0, 0.0]))
    _, quiet = run(idle)
    _, noisy = run(idle.replace(before=before))
    for name in quiet:
        np.testing.assert_allclose(quiet[name], noisy[name], rtol=1e-4, err_msg=name)
    _, counted = run(dataclasses.replace(batch, before=before))
    assert counted["restore_vision"] > 2 * quiet["restore_vision"]
