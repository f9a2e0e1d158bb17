"""Corruptions: what is lost at a rate, nested, whatever the batch, its order or its padding."""

import dataclasses

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.robust import corruptions
from msa_jax.robust.corruptions import Change, clip_keys, draws, exchange, keep_modalities, whole

STEPS = 24
RATES = st.floats(0, 1, width=32)
LENGTHS = st.lists(st.integers(0, STEPS), min_size=1, max_size=6).map(np.array)


def keep(kind: str, ids, lengths, rate, ends=False, seed=3, steps=STEPS) -> np.ndarray:
    keys, lengths = jnp.asarray(clip_keys(ids)), jnp.asarray(lengths)
    if kind == "steps":
        chances = draws(keys, "audio", seed, steps)
        return np.asarray(corruptions.keep_steps(chances, lengths, rate, ends))
    chance = draws(keys, "audio", seed, 1)[:, 0]
    return np.asarray(corruptions.keep_around_block(chance, lengths, steps, rate, ends))


def real(lengths) -> np.ndarray:
    return np.arange(STEPS) < np.asarray(lengths)[:, None]


def inner(lengths) -> np.ndarray:
    """The steps between the first and the last."""
    place = np.arange(STEPS)
    return (place > 0) & (place < np.asarray(lengths)[:, None] - 1)


@pytest.mark.parametrize("kind", ["steps", "block"])
@pytest.mark.parametrize("ends", [False, True])
class TestSteps:
    @given(lengths=LENGTHS)
    @settings(max_examples=25, deadline=None)
    def test_rate_0_loses_nothing_and_rate_1_all(self, kind, ends, lengths):
        ids = [f"clip {k}" for k in range(len(lengths))]
        np.testing.assert_array_equal(keep(kind, ids, lengths, 0.0, ends), real(lengths))
        left = real(lengths) & ~inner(lengths) if ends else np.zeros((len(lengths), STEPS), bool)
        np.testing.assert_array_equal(keep(kind, ids, lengths, 1.0, ends), left)

    @given(lengths=LENGTHS, rates=st.tuples(RATES, RATES), seed=st.integers(0, 10**6))
    @settings(max_examples=50, deadline=None)
    def test_what_is_lost_at_a_rate_is_lost_at_higher_ones(self, kind, ends, lengths, rates, seed):
        ids = [f"clip {k}" for k in range(len(lengths))]
        low, high = (keep(kind, ids, lengths, rate, ends, seed) for rate in sorted(rates))
        assert (high <= low).all()
        assert (low <= real(lengths)).all()

    @given(lengths=st.lists(st.integers(0, STEPS), min_size=2, max_size=6).map(np.array), rate=RATES)
    @settings(max_examples=25, deadline=None)
    def test_neither_batch_nor_order_nor_padding_matters(self, kind, ends, lengths, rate):
        ids = np.array([f"clip {k}" for k in range(len(lengths))])
        together = keep(kind, ids, lengths, rate, ends)
        order = np.arange(len(lengths))[::-1]
        np.testing.assert_array_equal(keep(kind, ids[order], lengths[order], rate, ends), together[order])
        alone = keep(kind, ids[1:2], lengths[1:2], rate, ends, steps=STEPS + 7)
        np.testing.assert_array_equal(alone[0, :STEPS], together[1])
        assert not alone[0, STEPS:].any()

    def test_the_realised_rate_is_the_rate(self, kind, ends):
        ids, lengths = [f"{k}" for k in range(2000)], np.full(2000, STEPS)
        rows = inner(lengths) if ends else real(lengths)
        for rate in (0.1, 0.5, 0.9):
            lost = 1 - keep(kind, ids, lengths, rate, ends)[rows].mean()
            # 44,000 draws: five standard errors are 0.012; a block's length is rounded by half a step in 22.
            assert abs(lost - rate) < (0.012 if kind == "steps" else 0.5 / 22)


def test_a_block_is_one_run_of_its_length_and_begins_anywhere():
    ids, lengths = [f"{k}" for k in range(3000)], np.full(3000, 10)
    lost = real(lengths) & ~keep("block", ids, lengths, 0.25)
    assert (lost.sum(axis=1) == 2).all()  # 2.5 to the even number
    starts = lost.argmax(axis=1)
    assert lost[np.arange(3000), starts + 1].all()
    counts = np.bincount(starts, minlength=9)
    assert len(counts) == 9
    assert abs(counts - 3000 / 9).max() < 5 * np.sqrt(3000 / 9)


def test_seeds_and_modalities_draw_apart():
    keys = jnp.asarray(clip_keys(["a", "b"]))
    numbers = [np.asarray(draws(keys, m, seed, 50)) for m in MODALITIES for seed in (0, 1)]
    for k, one in enumerate(numbers):
        assert one.min() >= 0
        assert one.max() < 1
        for other in numbers[k + 1 :]:
            assert np.abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.35


def test_whole_modalities_are_lost_at_the_rate_and_one_stays():
    keys = jnp.asarray(clip_keys([f"{k}" for k in range(4000)]))
    before = np.ones((4000, 3), bool)
    for rate in (0.0, 0.2, 0.5, 2 / 3):
        kept = np.asarray(keep_modalities(keys, rate))
        assert kept.any(axis=1).all()
        assert abs(1 - kept.mean() - rate) < 0.02
        assert (kept <= before).all()
        before = kept
    assert (before.sum(axis=1) == 1).all()
    assert abs(before.mean(axis=0) - 1 / 3).max() < 0.04


@pytest.mark.parametrize("ends", [False, True])
def test_a_lost_modality_has_no_steps_but_texts_ends(ends):
    lengths = {m: jnp.array([4, 0, 1]) for m in MODALITIES}
    steps = dict.fromkeys(MODALITIES, 5)
    kept = whole(
        jnp.array([[False, True, True], [True, True, True], [False, False, True]]), lengths, steps, ends
    )
    text = [[1, 0, 0, 1, 0], [0] * 5, [1, 0, 0, 0, 0]] if ends else np.zeros((3, 5))
    np.testing.assert_array_equal(np.asarray(kept["text"]), np.array(text, bool))
    np.testing.assert_array_equal(np.asarray(kept["audio"]).sum(axis=1), [4, 0, 0])
    np.testing.assert_array_equal(np.asarray(kept["vision"]).sum(axis=1), [4, 0, 1])


@given(rate=RATES)
@settings(max_examples=25, deadline=None)
def test_clips_are_exchanged_with_others_of_the_split(rate):
    keys = clip_keys([f"{k}" for k in range(40)])
    rows, less = exchange(keys, "audio", rate, 5), exchange(keys, "audio", rate / 2, 5)
    own = np.arange(40)
    moved = less != own
    np.testing.assert_array_equal(rows[moved], less[moved])
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(order[exchange(keys[order], "audio", rate, 5)], rows[order])
    everything = exchange(keys, "audio", 1.0, 5)
    assert (everything != own).all()
    assert sorted(everything) == list(own)
    np.testing.assert_array_equal(exchange(keys, "audio", 0.0, 5), own)


def batch() -> Batch:
    rng = np.random.default_rng(0)
    values = {m: jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32) for m in MODALITIES}
    mask = {m: jnp.arange(6)[None] < jnp.array([[6], [4]]) for m in MODALITIES}
    tokens = jnp.array(
        [[[101, 7, 8, 9, 5, 102], [1] * 6, [0] * 6], [[101, 7, 8, 102, 0, 0], [1] * 4 + [0] * 2, [0] * 6]]
    )
    return Batch(values, mask, {}, jnp.arange(2), jnp.ones(2), tokens)


def test_lost_steps_become_filler_and_unknown_tokens():
    given_batch = batch()
    kept = {m: given_batch.mask[m] & (jnp.arange(6) != 2)[None] for m in ("text", "audio")}
    changed = jax.jit(corruptions.drop, static_argnums=2)(
        given_batch, kept, 100, {"audio": jnp.array([1.0, 2, 3])}
    )
    np.testing.assert_array_equal(changed.tokens[:, 0], [[101, 7, 100, 9, 5, 102], [101, 7, 100, 102, 0, 0]])
    np.testing.assert_array_equal(changed.tokens[:, 1:], given_batch.tokens[:, 1:])
    np.testing.assert_array_equal(changed.values["audio"][:, 2], [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(changed.values["text"][:, 2], np.zeros((2, 3)))
    others = np.arange(6) != 2
    for m in MODALITIES:
        np.testing.assert_array_equal(changed.values[m][:, others], given_batch.values[m][:, others])
        np.testing.assert_array_equal(changed.mask[m], given_batch.mask[m])


def test_noise_has_the_ratio_and_leaves_padding():
    rng = np.random.default_rng(1)
    x = jnp.asarray(3 * rng.normal(size=(3, 400, 20)), jnp.float32)
    plain = batch()
    lengths = jnp.array([400, 100, 0])
    one = Batch(
        {**plain.values, "audio": x},
        {**plain.mask, "audio": jnp.arange(400)[None] < lengths[:, None]},
        {},
        jnp.arange(3),
        jnp.ones(3),
    )
    keys = jnp.asarray(clip_keys(["a", "b", "c"]))
    for decibels in (-10.0, 0.0, 20.0):
        noisy = corruptions.add_noise(one, keys, {"audio": jnp.float32(decibels)}, 9).values["audio"]
        noise = np.asarray(noisy - x)
        assert (noise[2] == 0).all()
        assert (noise[1, 100:] == 0).all()
        for clip, count in ((0, 400), (1, 100)):
            power = float((np.asarray(x)[clip, :count] ** 2).mean()), float((noise[clip, :count] ** 2).mean())
            assert abs(10 * np.log10(power[0] / power[1]) - decibels) < 0.5
    shorter = dataclasses.replace(
        one,
        values={**one.values, "audio": x[1:2, :120]},
        mask={**one.mask, "audio": one.mask["audio"][1:2, :120]},
    )
    alone = corruptions.add_noise(shorter, keys[1:2], {"audio": jnp.float32(20)}, 9).values["audio"]
    np.testing.assert_allclose(alone[0, :100], noisy[1, :100], rtol=1e-5, atol=1e-5)


def test_a_change_of_some_modalities_leaves_the_others():
    change = Change(
        {m: np.zeros((1, 1), bool) for m in MODALITIES}, {"audio": 3.0}, {"text": np.zeros(1, int)}
    )
    only = change.only(("audio",))
    assert (list(only.kept), dict(only.noise), dict(only.rows)) == (["audio"], {"audio": 3.0}, {})
