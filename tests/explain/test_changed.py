"""Predictions for changed clips: no change gives the run's own, and nothing is compiled twice."""

import numpy as np
import pytest
import random_run

from msa_jax.data.spec import MODALITIES
from msa_jax.explain.changed import Changed, Program
from msa_jax.inference import Trained
from msa_jax.robust.corruptions import Change
from msa_jax.robust.protocols import PROTOCOLS, conditions, protocol_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    return Trained(random_run.make(tmp_path_factory.mktemp("changed") / "run", "lf_dnn"))


@pytest.fixture(scope="module")
def clips():
    return random_run.dataset(0).splits["train"]


def test_no_change_is_the_runs_prediction(trained, clips):
    found = Changed(Program(trained), clips).predict(Change())
    for head, scores in trained.predict(clips).items():
        np.testing.assert_allclose(found[head], scores, rtol=1e-6, atol=1e-6)


def test_lost_modalities_are_zero_features(trained, clips):
    changed = Changed(Program(trained), clips)
    lost = {m: np.zeros((len(clips), clips.values[m].shape[1]), bool) for m in ("audio", "vision")}
    found = changed.predict(Change(kept=lost))["M"]
    # What is zero as the model reads it.
    silent = {m: np.broadcast_to(trained.preprocess.scale[m][0], clips.values[m].shape) for m in lost}
    expected = trained.predict(type(clips)(clips.ids, {**clips.values, **silent}, clips.lengths, {}))["M"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(found - trained.predict(clips)["M"]).max() > 1e-3


def test_exchanged_modalities_are_those_of_the_other_clips(trained, clips):
    rows = np.roll(np.arange(len(clips)), 1)
    found = Changed(Program(trained), clips).predict(Change(rows={"audio": rows}))["M"]
    values = {**clips.values, "audio": np.asarray(clips.values["audio"])[rows]}
    lengths = {**clips.lengths, "audio": np.asarray(clips.lengths["audio"])[rows]}
    expected = trained.predict(type(clips)(clips.ids, values, lengths, {}))["M"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_curve_compiles_once_per_padded_shape(trained, clips):
    changed = Changed(Program(trained), clips)
    changed.predict(Change())
    traces = changed.program.traces
    assert traces <= len(trained.shapes)
    for name, protocol in PROTOCOLS.items():
        if not protocol.words and name not in ("noise", "exchange"):
            for condition in conditions(protocol_of(name), changed.clips):
                changed.predict(condition.change)
    assert changed.program.traces == traces


def test_noise_moves_scores_the_more_the_louder_it_is(trained, clips):
    changed = Changed(Program(trained), clips)
    clean = changed.predict(Change())["M"]
    moved = [
        np.abs(changed.predict(Change(noise=dict.fromkeys(MODALITIES, ratio)))["M"] - clean).mean()
        for ratio in (40.0, 10.0, -10.0)
    ]
    assert 0 < moved[0] < moved[1] < moved[2]
