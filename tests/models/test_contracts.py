"""What every model must keep, over the whole MODELS dict: a new model is tested by being listed.

What a model can do is said once, in its row of the README's table, and held against the code here.
"""

import dataclasses
import fnmatch
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small_tiles
from small import CONFIGS, LENGTHS, SPEC

from msa_jax import configuration, models
from msa_jax.data import opening
from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.preprocess import Preprocess, reduced_spec
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.training import optim, state
from msa_jax.training.checkpoint import Checkpoints, Progress, best_of
from msa_jax.training.corrupt import corrupt_of

DATASETS = ("synthetic", "mosi", "mosei", "sims", "simsv2")
README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
#: Columns of the README's table of models.
TASKS, COUNTS = 2, 3


def readme_row(name: str) -> list[str]:
    """The cells of a model's row in the README's table of models; empty if there is none."""
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("| `")
    ]
    return next((cells for cells in rows if cells[0] == f"`{name}`"), [])


@pytest.fixture(autouse=True, scope="module")
def in_tiles():
    """MulT's and TETFN's attention as for real clips on a CPU, in everything that this module compiles."""
    with small_tiles():
        yield


@functools.cache
def load(name: str) -> Any:
    # MTFN's published weight of the audio task is 0.
    overrides = ["model.weights.A=0.3"] if name == "mtfn" else []
    return configuration.load(f"{CONFIGS / 'sims.py'}:{name},tiny", ["train.accumulate=1", *overrides])


def clips(name: str, steps=(5, 8, 6), filler: float = 0.0, rows=(0, 1, 2, 3), idle=()) -> Batch:
    """The clips ``rows`` as the model reads them, padded with ``filler``.

    The clips ``idle``, made loud, only fill the batch.
    """
    values, lengths = {}, {}
    every = [*rows, *idle]
    for k, m in enumerate(MODALITIES):
        lengths[m] = np.array([LENGTHS[row][k] for row in every], np.int32)
        values[m] = np.full((len(every), steps[k], SPEC.modalities[m].width), filler, np.float32)
        for place, row in enumerate(every):
            drawn = np.random.default_rng((row, k)).normal(size=(lengths[m][place], SPEC.modalities[m].width))
            values[m][place, : lengths[m][place]] = drawn * (100 if place >= len(rows) else 1)
    drawn = np.random.default_rng(9).uniform(-1, 1, size=(4, len(LENGTHS))).astype(np.float32)
    labels = {task: y[every] for task, y in zip(SPEC.tasks, drawn, strict=True)}
    split = Split(np.array([str(r) for r in every]), values, lengths, labels)
    modalities = {
        m: dataclasses.replace(SPEC.modalities[m], length=t) for m, t in zip(MODALITIES, steps, strict=True)
    }
    spec = dataclasses.replace(SPEC, modalities=modalities)
    preprocess = Preprocess(spec, reduce=load(name).data.reduce)
    split = preprocess.prepare(Dataset(spec, {"train": split})).splits["train"]
    mask = {m: np.arange(x.shape[1]) < split.lengths[m][:, None] for m, x in split.values.items()}
    weight = np.array([1.0] * len(rows) + [0.0] * len(idle), np.float32)
    index: Any = np.arange(len(every), dtype=np.int32)
    batch = Batch(dict(split.values), mask, labels, index, weight, tokens_of(every, mask["text"], filler))  # type: ignore[arg-type]
    return jax.tree.map(jnp.asarray, batch)


def tokens_of(every, mask: np.ndarray, filler: float) -> np.ndarray:
    """Token ids, mask and segment ids [B, 3, T]; the ids of padding depend on ``filler``."""
    ids, segments = np.full(mask.shape, 9 if np.isnan(filler) else 0), np.ones(mask.shape)
    for place, row in enumerate(every):
        drawn = np.random.default_rng((row, 7)).integers(1, 60, size=(2, 16))[:, : mask.shape[1]]
        ids[place] = np.where(mask[place], drawn[0], ids[place])
        segments[place] = np.where(mask[place], drawn[1] % 2, segments[place])
    return np.stack([ids, mask, segments], axis=1).astype(np.int32)


def spec_of(name: str) -> DatasetSpec:
    spec = reduced_spec(SPEC, load(name).data.reduce)
    # One step longer than the clips, for those that count steps.
    modalities = {m: dataclasses.replace(r, length=r.length + 3) for m, r in spec.modalities.items()}
    return dataclasses.replace(spec, modalities=modalities)


@functools.cache
def model_of(name: str) -> Any:
    return models.build(load(name).model, spec_of(name))


@functools.cache
def variables_of(name: str) -> Any:
    model, batch = model_of(name), clips(name)
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
    rng = np.random.default_rng(1)

    def draw(path, shape):
        x = (0.4 * rng.normal(size=shape.shape)).astype(np.float32)
        # Biases above 0 keep every ReLU of such narrow networks alive for some clip.
        return np.abs(x) if jax.tree_util.keystr(path[-1:], simple=True) == "bias" else x

    drawn = jax.tree_util.tree_map_with_path(draw, shapes)
    statistics = jax.tree.map(lambda x: np.abs(x) + 0.5, drawn.get("batch_stats", {}))
    return {"params": drawn["params"], "batch_stats": statistics}


@functools.cache
def forward(name: str) -> Any:
    return jax.jit(lambda variables, batch: model_of(name).apply(variables, batch, train=False).predictions)


def memory_of(objective: Any) -> Any:
    """What is remembered before the first step, of a training split of ten clips."""
    labels = np.random.default_rng(4).uniform(-1, 1, size=(4, 10)).astype(np.float32)
    return objective.memory(dict(zip(SPEC.tasks, labels, strict=True)), 2)


@functools.cache
def gradient(name: str) -> Any:
    """Loss, gradient and new statistics of a training step without dropout.

    Where clips lose something by the model's own configuration, they do here, and a lost word becomes a token
    of the tiny encoder.
    """
    block = load(name).copy_and_resolve_references().model
    with block.unlocked():
        for part in (block, block.get("encoder", {})):
            part.update({key: 0.0 for key in part if key.endswith("dropout")})
    quiet: Any = models.build(block, spec_of(name))
    objective = models.objective(block, SPEC)
    memory, corrupt = memory_of(objective), corrupt_of(load(name))
    if corrupt is not None:
        corrupt = dataclasses.replace(corrupt, low=0.4, high=0.9, unknown=9)

    def loss(params, statistics, batch):
        variables = {"params": params, "batch_stats": statistics}
        batch = batch if corrupt is None else corrupt(batch, 3, 0)
        outputs, updated = quiet.apply(variables, batch, train=True, mutable=["batch_stats"])
        return objective(outputs, batch, memory)[0], updated.get("batch_stats", {})

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def step(name: str, batch: Batch) -> Any:
    variables = variables_of(name)
    return gradient(name)(variables["params"], variables["batch_stats"], batch)


def assert_close(a, b, atol=2e-5):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        scale = max(1.0, float(np.abs(np.asarray(x)).max()))
        np.testing.assert_allclose(x, y, atol=atol * scale, rtol=0, err_msg=jax.tree_util.keystr(path))


ALL = pytest.mark.parametrize("name", models.MODELS)


@ALL
def test_padding_and_batch_mates_change_no_prediction(name):
    run, variables = forward(name), variables_of(name)
    whole = run(variables, clips(name))
    assert_close(whole, run(variables, clips(name, filler=np.nan)))
    order = (3, 1, 1, 0)
    assert_close(jax.tree.map(lambda y: y[np.array(order)], whole), run(variables, clips(name, rows=order)))
    for row in (2, 3):  # alone, in a longer batch
        alone = run(variables, clips(name, steps=(6, 11, 7), filler=np.nan, rows=(row,)))
        assert_close(jax.tree.map(lambda y, row=row: y[row : row + 1], whole), alone)
    for y in jax.tree.leaves(whole):
        assert np.ptp(np.asarray(y)[:3]) > 1e-3, "the clips must differ, or this compares nothing"


@ALL
def test_padding_and_idle_rows_change_no_training_step(name):
    (loss, statistics), grads = step(name, clips(name, idle=(1, 2)))
    for path, g in jax.tree.leaves_with_path(grads):
        assert np.isfinite(g).all(), path
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    (again, statistics_again), grads_again = step(name, clips(name, filler=np.nan, idle=(0, 3)))
    assert_close((loss, statistics), (again, statistics_again))
    assert_close(grads, grads_again)


@ALL
def test_a_batch_of_one_trains(name):
    (loss, _), grads = step(name, clips(name, rows=(1,), idle=(0, 0, 0, 0, 0)))
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    one = jax.eval_shape(functools.partial(step, name), clips(name, rows=(1,)))
    assert jax.tree.map(jnp.shape, one[1]) == jax.tree.map(jnp.shape, grads)


@ALL
def test_every_parameter_is_trained(name):
    """None is out of the loss's reach, but for what a model holds because its prelude uses it."""
    held = models.frozen(load(name).model)
    assert not held or models.objective(load(name).model, SPEC).prelude is not None
    # Three clips: of an even number the signs of absolute errors may cancel.
    _, grads = step(name, clips(name, rows=(0, 1, 2), idle=(0, 0, 0)))
    untouched = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, g in jax.tree.leaves_with_path(grads)
        if not np.abs(g).max() > 0
    ]
    untouched = [path for path in untouched if not any(fnmatch.fnmatch(path, pattern) for pattern in held)]
    # A key's bias moves all scores of a query alike, which a softmax does not see.
    assert [p for p in untouched if not p.endswith("key/bias")] == []


@ALL
def test_a_training_state_is_saved_and_restored(name, tmp_path):
    config = load(name)
    optimizer = optim.build_optimizer(config.train, 10, compat=False)
    batch = clips(name)
    shapes = jax.eval_shape(lambda b: state.create_state(model_of(name), b, optimizer, 7), batch)
    rng = np.random.default_rng(3)
    drawn: Any = jax.tree.map(lambda s: jnp.asarray(np.abs(rng.normal(size=s.shape)) * 9, s.dtype), shapes)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(drawn, best_of(drawn), Progress(epoch=3))
    checkpoints.close()
    empty = jax.tree.map(jnp.zeros_like, drawn)
    reopened = Checkpoints(tmp_path / "checkpoints")
    restored = reopened.restore(empty, best_of(empty))
    reopened.close()
    assert restored is not None
    for a, b in zip(jax.tree.leaves(restored[0]), jax.tree.leaves(drawn), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dataset", DATASETS)
@ALL
def test_the_configuration_of_every_data_set_builds(name, dataset):
    """With as many parameters outside a text encoder as the README says; a dash: it needs other labels."""
    config = configuration.load(f"{CONFIGS / dataset}.py:{name}")
    spec = opening.expected_spec(config)
    model = models.build(config.model, spec)
    batch = jax.eval_shape(lambda: example_batch(spec, 2))
    published = dict(zip(("mosi", "mosei", "sims"), readme_row(name)[COUNTS].split(" / "), strict=True))
    if published.get(dataset) == "\u2013":
        with pytest.raises(ConfigError, match="label per modality"):
            models.objective(config.model, spec)
        return
    objective = models.objective(config.model, spec)

    def run(b):
        outputs, variables = model.init_with_output(jax.random.key(0), b, train=False)
        return outputs, objective(outputs, b, memory_of(objective)), variables["params"]

    outputs, (loss, parts), params = jax.eval_shape(run, batch)
    count = sum(
        x.size for top, tree in params.items() if top != "text_encoder" for x in jax.tree.leaves(tree)
    )
    assert f"{count:,}" == published.get(dataset, f"{count:,}")
    assert loss.shape == ()
    assert all(part.shape == () for part in parts.values())
    assert outputs.predictions["M"].shape == (2,)
    assert outputs.features["fusion"].ndim == 2


@ALL
def test_classes_are_logits(name):
    """Of a model that the README gives both tasks; another one says that it has no classes."""
    config = configuration.load(f"{CONFIGS / 'sims.py'}:{name},tiny,task=classification")
    if readme_row(name)[TASKS] == "regression":
        with pytest.raises(ConfigError, match=r"model\.task.*regression"):
            models.check(config.model)
        return
    spec = opening.expected_spec(config)
    model, objective = models.build(config.model, spec), models.objective(config.model, spec)

    def run(b):
        outputs = model.init_with_output(jax.random.key(0), b, train=False)[0]
        return outputs.predictions, objective(outputs, b, memory_of(objective))[0]

    predictions, loss = jax.eval_shape(run, jax.eval_shape(lambda: example_batch(spec, 2)))
    assert {y.shape for y in predictions.values()} == {(2, 3)}
    assert loss.shape == ()


def missing_rows() -> list[str]:
    return [name for name in models.MODELS if not readme_row(name)]


def test_the_readme_lists_every_model():
    assert missing_rows() == []
