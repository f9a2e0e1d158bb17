"""Reasons: exact Shapley values, and effects that are what removal does."""

import itertools

import numpy as np
import pytest
import random_run

from msa_jax.data.spec import MODALITIES
from msa_jax.explain.changed import Changed, Program
from msa_jax.explain.reasons import Stretch, cut, explain, shapley
from msa_jax.inference import Trained
from msa_jax.robust.corruptions import Change


def test_shapley_values_of_a_worked_game():
    """The glove game: 1 and 2 have a left glove each, 3 has a right one, and a pair is worth 1."""
    values = {p: np.float64(p[2] and (p[0] or p[1])) for p in itertools.product((False, True), repeat=3)}
    np.testing.assert_allclose(shapley(values), [1 / 6, 1 / 6, 4 / 6])


def test_shapley_values_add_up_and_of_sums_are_the_summands():
    rng = np.random.default_rng(0)
    players = list(itertools.product((False, True), repeat=3))
    values = {p: rng.normal(size=5) for p in players}
    np.testing.assert_allclose(
        shapley(values).sum(axis=0), values[True, True, True] - values[False, False, False]
    )
    parts = rng.normal(size=(3, 5))
    additive = {p: np.asarray(p, float) @ parts for p in players}
    np.testing.assert_allclose(shapley(additive), parts)


@pytest.mark.parametrize(
    ("length", "lengths"), [(0, []), (1, [1]), (3, [1, 1, 1]), (20, [2, 3, 3, 2, 2, 3, 3, 2])]
)
def test_stretches_cover_all_steps(length, lengths):
    found = cut(length)
    assert [one.end - one.start for one in found] == lengths
    assert [step for one in found for step in range(one.start, one.end)] == list(range(length))


@pytest.fixture(scope="module", params=["mfn", "mfn,task=classification"])
def trained(request, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("reasons") / "run"
    return Trained(random_run.make(folder, request.param))


def value(y: np.ndarray, classes) -> np.ndarray:
    if y.ndim == 1:
        return y
    powers = np.exp(y - y.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True))[np.arange(len(y)), classes]


def test_parts_add_up_and_are_what_removal_does(trained):
    clips = random_run.dataset(0).splits["valid"]
    found = explain(trained, clips)
    y = trained.predict(clips)["M"]
    classes = y.argmax(axis=1) if y.ndim == 2 else None
    whole = value(y, classes)
    changed = Changed(Program(trained), clips, mean=True)
    for row, reasons in enumerate(found):
        assert reasons.score == pytest.approx(whole[row], abs=1e-5)
        assert sum(reasons.modalities.values()) == pytest.approx(reasons.score - reasons.nothing, abs=1e-6)
        assert reasons.predicted == (None if classes is None else classes[row])
        lengths = {m: int(changed.clips.lengths[m][row]) for m in MODALITIES}
        assert [one.end for one, _ in reasons.stretches["text"]] == list(range(1, lengths["text"] + 1))
        assert reasons.stretches["audio"][-1][0].end == lengths["audio"]
    for m, turn in (("text", 2), ("vision", 1)):
        kept = np.ones((len(clips), clips.values[m].shape[1]), bool)
        there = [row for row, reasons in enumerate(found) if turn < len(reasons.stretches[m])]
        for row in there:
            stretch = found[row].stretches[m][turn][0]
            kept[row, stretch.start : stretch.end] = False
        without = value(changed.predict(Change(kept={m: kept}))["M"], classes)
        effects = [found[row].stretches[m][turn][1] for row in there]
        np.testing.assert_allclose(effects, (whole - without)[there], atol=1e-5)
        assert np.abs(effects).max() > 1e-6


def test_groups_are_hidden_at_the_training_mean(trained):
    clips = random_run.dataset(0).splits["valid"]
    found = explain(trained, clips)
    groups = trained.spec.modalities["vision"].groups
    name, columns = next(iter(groups.items()))
    values = np.array(clips.values["vision"])
    values[:, :, list(columns)] = np.asarray(trained.spec.modalities["vision"].mean)[list(columns)]
    y, less = (
        trained.predict(type(clips)(clips.ids, {**clips.values, **x}, clips.lengths, {}))["M"]
        for x in ({}, {"vision": values.astype(np.float32)})
    )
    classes = y.argmax(axis=1) if y.ndim == 2 else None
    expected = value(y, classes) - value(less, classes)
    np.testing.assert_allclose([reasons.groups["vision"][name] for reasons in found], expected, atol=1e-5)
    assert set(found[0].groups["vision"]) == set(groups)


def test_words_may_be_given(trained):
    clips = random_run.dataset(0).splits["valid"]
    words = [[Stretch(1, 3, "two"), Stretch(3, 4, "one")], *[None] * (len(clips) - 1)]
    found = explain(trained, clips, words)
    assert [stretch.label for stretch, _ in found[0].stretches["text"]] == ["two", "one"]
    assert len(found[1].stretches["text"]) == clips.lengths["text"][1]
