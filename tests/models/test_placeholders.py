"""Clips that lack a modality, before any model: what was lost in training is what is met."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_run import CONFIGS

from msa_jax import configuration, models
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.spec import MODALITIES
from msa_jax.data.synthetic import generate
from msa_jax.errors import ConfigError
from msa_jax.training import build
from msa_jax.training.checks import check_values
from msa_jax.training.corrupt import absent_of
from msa_jax.training.step import infer

#: One of each way to read steps: vectors, recurrent and attention over own lengths, shared steps.
NAMES = ("lf_dnn", "ufen_mtfn", "mult", "mfn")


@functools.cache
def learner_of(name: str, *changes: str):
    """A configuration's learner, fresh parameters, and what its model reads."""
    config = configuration.load(f"{CONFIGS / 'synthetic.py'}:{name},tiny", list(changes))
    dataset = build.prepare(config, generate(0, {"train": 12, "valid": 4, "test": 4}))
    learner = build.build_learner(config, dataset.spec, 1, build.build_mesh(1))
    example = example_batch(dataset.spec, 2)
    variables = jax.jit(lambda b: learner.model.init(jax.random.key(3), b, train=False))(example)
    return config, learner, variables, dataset.spec


def random_batch(spec, rows: int = 4) -> Batch:
    """Clips of various lengths; shared ones where the model reads shared steps."""
    rng, batch = np.random.default_rng(5), example_batch(spec, rows)
    aligned = len({x.shape[1] for x in batch.values.values()}) == 1
    lengths = {m: rng.integers(1, batch.mask[m].shape[1] + 1, rows) for m in MODALITIES}
    lengths = dict.fromkeys(MODALITIES, lengths["text"]) if aligned else lengths
    mask = {m: jnp.arange(batch.mask[m].shape[1])[None] < lengths[m][:, None] for m in MODALITIES}
    values = {m: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for m, x in batch.values.items()}
    return batch.replace(values=values, mask=mask)


def without(batch: Batch, m: str) -> tuple[Batch, Batch]:
    """The clips with all steps of a modality lost, and with no step of it at all."""
    lost = batch.replace(values={**batch.values, m: jnp.zeros_like(batch.values[m])})
    none = batch.replace(mask={**batch.mask, m: jnp.zeros_like(batch.mask[m])})
    return lost, none


@functools.cache
def program_of(name: str, *changes: str):
    learner = learner_of(name, *changes)[1]
    return jax.jit(lambda v, b: infer(learner, v["params"], v.get("batch_stats", {}), b).predictions["M"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zero", "learned"])
def test_a_lost_modality_and_an_absent_one_are_the_same(name, kind):
    changes = ("train.corrupt=modalities", f"train.placeholder={kind}")
    _, _, variables, spec = learner_of(name, *changes)
    predict = program_of(name, *changes)
    variables = jax.tree.map(lambda x: x + 0.1, variables)  # so that learned placeholders are not zero
    batch = random_batch(spec)
    whole = predict(variables, batch)
    for m in MODALITIES:
        lost, none = (predict(variables, changed) for changed in without(batch, m))
        np.testing.assert_allclose(lost, none, atol=1e-6)
        assert np.abs(lost - whole).max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_models_own_and_whole_clips_read_as_ever(name):
    changes = ("train.corrupt=modalities", "train.placeholder=learned")
    _, _, own, spec = learner_of(name)
    _, _, variables, _ = learner_of(name, *changes)
    added = {path: x for path, x in variables["params"].items() if path not in own["params"]}
    assert {path: (x.shape, float(jnp.abs(x).max())) for path, x in added.items()} == {
        f"placeholder_{m}": ((spec.modalities[m].width,), 0.0) for m in MODALITIES
    }
    rest = {path: x for path, x in variables["params"].items() if path not in added}
    jax.tree.map(np.testing.assert_array_equal, rest, own["params"])
    batch = random_batch(spec)
    found, expected = program_of(name, *changes)(variables, batch), program_of(name)(own, batch)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_asked_for_placeholders_stand_before_a_model():
    config, learner, _, spec = learner_of("lf_dnn")
    assert absent_of(config) == ()
    assert type(learner.model) is type(models.build(config.model, spec))


def test_the_step_of_an_absent_modality_does_not_hang_on_padding():
    _, _, variables, spec = learner_of("mult", "train.corrupt=modalities")
    predict = program_of("mult", "train.corrupt=modalities")
    _, none = without(random_batch(spec), "audio")
    cut = none.replace(
        values={**none.values, "audio": none.values["audio"][:, :1]},
        mask={**none.mask, "audio": none.mask["audio"][:, :1]},
    )
    np.testing.assert_allclose(predict(variables, none), predict(variables, cut), atol=1e-6)


def test_learned_placeholders_learn_from_what_was_lost_alone():
    _, learner, variables, spec = learner_of("lf_dnn", "train.corrupt=frames", "train.placeholder=learned")
    batch = random_batch(spec)
    lost = batch.values["audio"].at[1].set(0)
    batch = batch.replace(values={**batch.values, "audio": lost})

    def total(params):
        return learner.model.apply({**variables, "params": params}, batch, train=False).predictions["M"].sum()

    gradient = jax.grad(total)(variables["params"])
    sizes = {m: float(jnp.abs(gradient[f"placeholder_{m}"]).max()) for m in MODALITIES}
    assert sizes["audio"] > 0
    assert sizes["text"] == sizes["vision"] == 0


def test_the_mean_is_the_training_splits_as_the_model_reads_it():
    changes = ("train.corrupt=frames", "train.placeholder=mean")
    _, learner, _, spec = learner_of("lf_dnn", *changes, "data.feature_norm=none")
    for m in MODALITIES:
        np.testing.assert_allclose(learner.model.means[m], spec.modalities[m].mean, rtol=1e-6)
    _, learner, _, _ = learner_of("lf_dnn", *changes, "data.feature_norm=zscore_train")
    for m in MODALITIES:
        np.testing.assert_array_equal(learner.model.means[m], 0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["train.placeholder=mean"], "training clips lose nothing; set train.corrupt"),
        (["train.placeholder=none"], "train.placeholder='none' is not one of zero, mean, learned"),
        (["train.corrupt=modalities", "model.compat=True"], "clips cannot lack a modality"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, sentence):
    config = configuration.load(f"{CONFIGS / 'synthetic.py'}:lf_dnn", changes)
    with pytest.raises(ConfigError, match=sentence):
        check_values(config)
