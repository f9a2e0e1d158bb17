"""Attention maps: rows add up to 1, padding and other clips change nothing, few programs are compiled."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import random_run

from msa_jax import configuration, models
from msa_jax.data.batch import example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.preprocess import reduced_spec
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.explain import attention
from msa_jax.explain.attention import Maps, kept_of, named
from msa_jax.inference import Trained

#: One with groups whose weights are formed, one whose are not, and one over tokens and steps.
RUNS = ("ufen_mtfn,fg=both", "mult", "tmt")


@pytest.fixture(scope="module", params=RUNS)
def trained(request, tmp_path_factory) -> Trained:
    # MulT's convolution leaves one step of so short texts.
    kernels = ["model.text_kernel=1", "model.audio_kernel=3"] if request.param == "mult" else []
    run = Trained(random_run.make(tmp_path_factory.mktemp("maps") / "run", request.param, *kernels))
    # Such weights make scores before the softmax so large that their rounding alone moves it by 2e-5.
    run.params = jax.tree.map(lambda x: x / 2, run.params)
    return run


@pytest.fixture(scope="module")
def clips() -> Split:
    return random_run.dataset(0).splits["test"]


def some(split: Split, rows, more: int = 0) -> Split:
    """Some clips, in a longer padding of NaN."""
    values = {}
    for m in MODALITIES:
        own = np.asarray(split.values[m])[rows]
        padding = np.full((len(rows), more, own.shape[2]), np.nan, np.float32)
        values[m] = np.concatenate([own, padding], axis=1)
    lengths = {m: np.asarray(split.lengths[m])[rows] for m in MODALITIES}
    return Split(split.ids[rows], values, lengths, {})


def test_rows_add_up_and_a_clip_alone_has_the_maps_it_has_among_others(trained, clips):
    together = {clip.row: clip for clip in Maps(trained)(clips)}
    assert sorted(together) == list(range(len(clips)))
    alone = Maps(trained)
    for row in (1, 3):
        (clip,) = alone(some(clips, [row], more=3))
        assert clip.steps == together[row].steps
        for a, b in zip(clip.maps, together[row].maps, strict=True):
            assert a[:3] == b[:3]
            np.testing.assert_allclose(a.weights, b.weights, atol=1e-5, err_msg=a.module)
            np.testing.assert_allclose(b.weights.sum(axis=1), 1, atol=1e-5, err_msg=a.module)
            assert b.weights.size
            assert (b.weights >= 0).all()
    weights = np.concatenate([one.weights.reshape(-1) for one in together[0].maps])
    assert weights.std() > 0.01  # not even everywhere


def test_maps_are_as_large_as_their_clips(trained, clips):
    for clip in Maps(trained)(clips):
        found = {one.module: one for one in clip.maps}
        for one in clip.maps:
            assert one.queries, one.module
            assert one.keys, one.module
        if "text_from_audio" in found:
            assert found["text_from_audio"].weights.shape == (clip.steps["text"], clip.steps["audio"])
        if "text_from_audio/layer_0/attention" in found:
            shape = found["text_from_audio/layer_0/attention"].weights.shape
            assert shape == (clip.steps["text"], clip.steps["audio"] - 2)
            assert found["text_memory/layer_2/attention"].weights.shape == (1, clip.steps["text"])


def test_padding_has_no_weight(trained, clips):
    """Of the whole arrays, before they are cut to a clip's steps."""
    maps = Maps(trained)
    split = trained.prepare(clips)
    for chunk, item in trained.items(split):
        found = maps._compiled(trained.params, trained.batch_stats, item, shape=chunk.shape)
        padded = 0
        for path, (weights, _, keys) in found.items():
            there = np.broadcast_to(np.asarray(keys)[:, None], weights.shape)
            read = there.any(axis=-1)[..., None]  # a clip without any real key has even weights
            assert (np.asarray(weights)[~there & read] == 0).all(), path
            padded += int((~there & read).sum())
        assert padded


def test_few_programs_are_compiled(trained, clips):
    maps = Maps(trained)
    for row in (0, 1, 2, 3, 0):
        list(maps(some(clips, [row])))
    assert maps.traces <= len(trained.shapes)


def test_predictions_do_not_know_of_it(trained, monkeypatch):
    """The program of a prediction is the one without what keeps weights, and nothing else is computed."""
    spec, model = trained.model_spec, trained.learner.model
    variables = {"params": trained.params, "batch_stats": trained.batch_stats}
    batch = example_batch(spec, 2)

    def program() -> str:
        return jax.jit(lambda v, b: model.apply(v, b, train=False)).lower(variables, batch).as_text()

    plain = program()
    monkeypatch.setattr("flax.linen.Module.is_mutable_collection", lambda *_: False)
    monkeypatch.setattr("flax.linen.Module.sow", lambda *_, **__: False)
    assert program() == plain


def test_nothing_to_show_is_one_sentence(tmp_path):
    run = random_run.make(tmp_path / "run", "lf_dnn")
    with pytest.raises(ConfigError, match=r"\(lf_dnn\) has no attention to show; leave out --attention, or"):
        Maps(Trained(run))


def paths_of(name: str, *overrides: str) -> dict[str, Any]:
    """What a model's modules keep, by path, of the generated clips."""
    frozen = ["model.text_encoder=frozen"] if name in ("misa", "mmim", "self_mm", "tetfn", "almt") else []
    file = f"{random_run.CONFIGS / 'synthetic.py'}:{name},tiny"
    config = configuration.load(file, [*random_run.SHORT, *frozen, *overrides])
    spec = random_run.dataset(0).spec
    spec = reduced_spec(dataclasses.replace(spec, has_tokens=False), config.data.reduce)
    model = models.build(config.model, spec)

    def kept(batch: Any) -> Any:
        _, found = model.init_with_output(jax.random.key(0), batch, mutable=True)
        return kept_of(found.get("intermediates", {}))

    return jax.eval_shape(kept, example_batch(spec, 2))


@pytest.mark.parametrize("name", models.MODELS)
def test_the_models_that_have_attention_are_named(name):
    found = paths_of(name)
    assert (name in attention.MODELS) == bool(found)
    for path in found:
        queries, keys = named(name, path)
        assert queries, path
        assert keys, path


def test_modules_that_are_called_twice_count():
    found = paths_of("ufen_mtfn", "model.share_self_attention=True", "model.pair_pool=attention")
    assert {"ufen_text/self_attention (1)", "ufen_text/self_attention (2)"} <= set(found)
    assert found["pool_text_from_audio"].keys.shape == found["text_from_audio"].queries.shape
    assert named("ufen_mtfn", "pool_text_from_audio") == ("pooled", "text")
