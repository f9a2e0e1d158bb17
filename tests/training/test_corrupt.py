"""Losses of training clips: anew in every step, the same whatever the batch and the devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_run import CONFIGS
from test_step import assert_trees_close
from toy import run_steps, toy_training

from msa_jax import configuration
from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.training.checks import check_values
from msa_jax.training.corrupt import Corrupt, corrupt_of

FRAMES = Corrupt("frames", 0.2, 0.6, MODALITIES, False, 0)


def batch(rows, tokens: bool = False) -> Batch:
    rows = np.asarray(rows)
    values = {m: jnp.ones((len(rows), 40, 2)) for m in MODALITIES}
    mask = {m: jnp.arange(40)[None] < 30 + (rows % 10)[:, None] for m in MODALITIES}
    ids = jnp.where(mask["text"], 7, 0)
    full = jnp.stack([ids, mask["text"].astype(int), 0 * ids], axis=1) if tokens else None
    return Batch(values, mask, {}, jnp.asarray(rows), jnp.ones(len(rows)), full)


def lost(found: Batch) -> dict[str, np.ndarray]:
    """Per modality the share of each clip's steps that is zero."""
    return {
        m: 1 - np.asarray(found.values[m][:, :, 0] * found.mask[m]).sum(axis=1) / found.mask[m].sum(axis=1)
        for m in MODALITIES
    }


@pytest.mark.parametrize("kind", ["frames", "blocks", "modalities"])
def test_losses_hang_on_clip_seed_and_step_alone(kind):
    corrupt = jax.jit(dataclasses.replace(FRAMES, kind=kind))
    rows = np.arange(12)
    first = corrupt(batch(rows), 5, 3)
    turned = corrupt(batch(rows[::-1]), 5, 3)
    alone = corrupt(batch(rows[4:5]), 5, 3)
    for m in MODALITIES:
        np.testing.assert_array_equal(first.values[m], turned.values[m][::-1])
        np.testing.assert_array_equal(first.values[m][4:5], alone.values[m])
        np.testing.assert_array_equal(first.mask[m], batch(rows).mask[m])
    others = [corrupt(batch(rows), 5, 4), corrupt(batch(rows), 6, 3)]
    assert all(any((other.values[m] != first.values[m]).any() for m in MODALITIES) for other in others)


@pytest.mark.parametrize("kind", ["frames", "blocks"])
def test_rates_lie_between_the_two_and_differ_by_clip_and_modality(kind):
    found = lost(dataclasses.replace(FRAMES, kind=kind)(batch(np.arange(400)), 1, 0))
    for shares in found.values():
        # Uniform from 0.2 to 0.6 has the mean 0.4 and the deviation 0.115; drawing adds to the latter.
        assert abs(shares.mean() - 0.4) < 0.03
        assert 0.1 < shares.std() < 0.16
    if kind == "blocks":
        assert min(s.min() for s in found.values()) > 0.18
        assert max(s.max() for s in found.values()) < 0.62
    assert abs(np.corrcoef(found["audio"], found["vision"])[0, 1]) < 0.2


def test_whole_modalities_are_lost_and_one_stays():
    found = lost(Corrupt("modalities", 0.5, 0.5, MODALITIES, False, 0)(batch(np.arange(300)), 1, 0))
    shares = np.stack(list(found.values()))
    assert set(np.unique(shares)) == {0, 1}
    assert (shares.min(axis=0) == 0).all()
    assert abs(shares.mean() - 0.5) < 0.06


def test_some_modalities_stay_whole_and_texts_ends_too():
    corrupt = Corrupt("frames", 1.0, 1.0, ("text",), True, 9)
    found = corrupt(batch([0, 1], tokens=True), 1, 0)
    assert found.tokens is not None
    ids = np.asarray(found.tokens[:, 0])
    np.testing.assert_array_equal(ids[1, :31], [7, *[9] * 29, 7])
    assert (ids[1, 31:] == 0).all()
    for m in ("audio", "vision"):
        np.testing.assert_array_equal(found.values[m], batch([0, 1]).values[m])


@pytest.mark.parametrize("kind", ["frames", "blocks", "modalities"])
def test_what_was_lost_is_known_and_what_was_there_is_kept(kind):
    whole = batch([0, 1, 2, 3], tokens=True)
    found = dataclasses.replace(FRAMES, kind=kind, modalities=("text", "audio"), ends=True, unknown=9)(
        whole, 1, 0
    )
    assert found.before is not None
    assert found.tokens is not None
    assert found.before.clips is whole
    for m in ("text", "audio"):
        gone = np.asarray(found.values[m] == 0).all(axis=2) & np.asarray(whole.mask[m])
        np.testing.assert_array_equal(found.before.lost[m], gone)
        assert gone.any()
    np.testing.assert_array_equal(found.before.lost["text"], found.tokens[:, 0] == 9)
    assert not found.before.lost["vision"].any()


def test_the_rates_that_were_asked_for_are_known():
    corrupt = dataclasses.replace(FRAMES, modalities=("text", "audio"))
    found = corrupt(batch(np.arange(400)), 1, 0)
    assert found.before is not None
    shares, rates = lost(found), found.before.rates
    for m in ("text", "audio"):
        assert 0.2 <= rates[m].min() < rates[m].max() <= 0.6
        assert np.corrcoef(shares[m], rates[m])[0, 1] > 0.7
    np.testing.assert_array_equal(rates["vision"], 0)


def test_training_is_the_same_on_several_devices_and_not_that_of_whole_clips():
    states = [
        run_steps(*toy_training(optax.sgd(0.1), devices=devices, corrupt=corrupt), epochs=2)[0]
        for devices, corrupt in ((1, FRAMES), (4, FRAMES), (1, None))
    ]
    assert_trees_close(states[0].params, states[1].params, 1e-6)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), states[0].params, states[2].params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_configuration_says_what_is_lost():
    config = configuration.load(f"{CONFIGS / 'synthetic.py'}:lf_dnn", [])
    assert corrupt_of(config) is None
    changes = ["train.corrupt=blocks", "train.corrupt_rates=(0.1,0.3)", "train.corrupt_modalities=('audio',)"]
    config = configuration.load(f"{CONFIGS / 'synthetic.py'}:lf_dnn", changes)
    assert corrupt_of(config) == Corrupt("blocks", 0.1, 0.3, ("audio",), False, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.corrupt=frame", r"train.corrupt='frame' is not one of none, frames, blocks, modalities"),
        ("train.corrupt_rates=(0.5,0.1)", "must be two rates from 0 to 1, the lower first"),
        ("train.corrupt_rates=(0.0,1.5)", "must be two rates from 0 to 1, the lower first"),
        ("train.corrupt_modalities=('sound',)", "must be names out of text, audio, vision"),
        ("train.corrupt_modalities=()", "must be names out of text, audio, vision"),
    ],
)
def test_wrong_settings_are_one_sentence(change, sentence):
    config = configuration.load(f"{CONFIGS / 'synthetic.py'}:lf_dnn", [change])
    with pytest.raises(ConfigError, match=sentence):
        check_values(config)
