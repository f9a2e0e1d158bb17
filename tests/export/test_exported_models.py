"""Every model as StableHLO and as safetensors: the same predictions, the same bits."""

import dataclasses
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest
import random_run
from safetensors.numpy import load_file

from msa_jax import models
from msa_jax.export import checking, onnx, program, safetensors, stablehlo
from msa_jax.models import tetfn

#: One model per way of reading (means, sequences, in step, tokens); another padding is compiled again.
ALONE = ("lf_dnn", "mfn", "mult", "self_mm")
#: Depth that exports no differently, but costs minutes to compile.
SHALLOW = {"ufen_mtfn": ("model.n_layers=1",), "mult": ("model.n_layers=1",)}
ALL = pytest.mark.parametrize("name", models.MODELS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Gives the run of a model, with random weights."""
    base, made = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> Any:
        if name not in made:
            random_run.make(base / name, name, "data.buckets=1", *SHALLOW.get(name, ()))
            made[name] = program.load_runs([base / name])[0]
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tetfn, "LAYERS", 1)  # its depth is no setting
        yield run


def first_of(clips: Any) -> Any:
    """The first clip alone, cut to its own steps."""
    values = {m: x[:1, : max(1, clips.lengths[m][0])] for m, x in clips.values.items()}
    tokens = None if clips.tokens is None else clips.tokens[:1, :, : clips.lengths["text"][0]]
    lengths = {m: n[:1] for m, n in clips.lengths.items()}
    return dataclasses.replace(clips, ids=clips.ids[:1], values=values, lengths=lengths, tokens=tokens)


def assert_same(run, written, alone: bool) -> None:
    """Seven clips together, and one of them alone with fewer steps."""
    clips = checking.random_clips(run, 7)
    expected, found = run.predict(clips), written(clips)
    for task, y in expected.items():
        np.testing.assert_allclose(found[task], y, atol=checking.TOLERANCE, rtol=0)
    if alone:
        np.testing.assert_allclose(
            written(first_of(clips))["M"], expected["M"][:1], atol=checking.TOLERANCE, rtol=0
        )
    assert np.ptp(expected["M"]) > 1e-3, "the clips must differ, or this compares nothing"


@ALL
def test_stablehlo_predicts_the_same_for_any_number_of_clips_and_steps(runs, name, tmp_path):
    run = runs(name)
    made = program.build([run])
    stablehlo.write(made, tmp_path)
    exported = jax.export.deserialize(bytearray((tmp_path / stablehlo.FILE).read_bytes()))
    assert exported.platforms == stablehlo.PLATFORMS
    free = {str(n) for aval in exported.in_avals for n in aval.shape if not isinstance(n, int)}
    assert free == {"batch", *(s for s in made.steps.values() if isinstance(s, str))}
    assert_same(run, checking.scorer(made, stablehlo.read(tmp_path)), name in ALONE)


@ALL
def test_safetensors_keep_every_bit(runs, name, tmp_path):
    run = runs(name)
    safetensors.write(run, tmp_path)
    variables, config = safetensors.load_safetensors(tmp_path)
    assert config == run.config
    expected = {"params": run.params} | ({"batch_stats": run.batch_stats} if run.batch_stats else {})
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.tobytes()) == (np.asarray(b).dtype, np.asarray(b).tobytes())
    flat = flax.traverse_util.flatten_dict(expected, sep="/")
    assert set(load_file(tmp_path / safetensors.FILE)) == set(flat)


@pytest.mark.extras
@ALL
def test_onnx_predicts_the_same_for_any_number_of_clips_and_steps(runs, name, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    run = runs(name)
    made = program.build([run])
    onnx.write(made, tmp_path)
    assert_same(run, checking.scorer(made, onnx.read(tmp_path)), alone=True)
