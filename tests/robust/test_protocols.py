"""Protocols: what they lose, in which conditions, and what they refuse."""

import numpy as np
import pytest

from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.robust import published
from msa_jax.robust.curves import Curve, Point, area, lost_shares, summary
from msa_jax.robust.protocols import PROTOCOLS, Clips, conditions, protocol_of

BY_RATE = [name for name, protocol in PROTOCOLS.items() if protocol.rates]
MASKED = [name for name in BY_RATE if name not in ("noise", "exchange")]
WHOLE = ("gcnet", "imder", "subsets")


def clips(count: int = 200, tokens: bool = True) -> Clips:
    rng = np.random.default_rng(0)
    lengths = {m: rng.integers(4, 20, count) for m in MODALITIES}
    return Clips.of([f"clip {k}" for k in range(count)], lengths, dict.fromkeys(MODALITIES, 22), tokens)


#: Three clips of which text has 6, 8 and 4 tokens, sound 5, 3 and 6 frames, faces 4, 1 and 2.
TINY_LENGTHS = {"text": [6, 8, 4], "audio": [5, 3, 6], "vision": [4, 1, 2]}


def tiny() -> Clips:
    lengths = {m: np.array(n) for m, n in TINY_LENGTHS.items()}
    return Clips.of(["a", "b", "c"], lengths, {"text": 8, "audio": 6, "vision": 4}, True)


@pytest.mark.parametrize("name", MASKED)
def test_rates_are_met_and_nested(name):
    some = clips()
    before = None
    for condition in conditions(protocol_of(name), some):
        assert condition.rate is not None
        kept = condition.change.kept
        for m, share in lost_shares(condition, some).items():
            inside = some.lengths[m].mean()
            expected = condition.rate * ((inside - 2) / inside if m == "text" else 1)
            # 2,400 words or frames, or 200 clips: five standard errors.
            assert abs(share - expected) < (0.15 if name in WHOLE else 0.055), (condition.label, m)
            assert before is None or (kept[m] <= before[m]).all()
        before = kept


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("compat", [False, True])
def test_texts_ends_stay_and_padding_is_never_kept(name, compat):
    some = clips()
    for condition in conditions(protocol_of(name), some, compat=compat):
        text = condition.change.kept["text"]
        if not (compat and name == "openvna_structural"):  # whose public code may lose the first token
            assert text[:, 0].all()
            assert text[np.arange(len(text)), some.lengths["text"] - 1].all()
        for m, kept in condition.change.kept.items():
            assert not (kept & (np.arange(22) >= some.lengths[m][:, None])).any()


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        ("tfrnet", published.tfrnet),
        ("emt", published.tfrnet),
        ("lnln", published.lnln),
        ("openvna_random", published.openvna_random),
        ("openvna_structural", published.openvna_structural),
    ],
)
def test_compat_is_the_public_code(name, generator):
    some = tiny()
    for condition in conditions(protocol_of(name), some, compat=True):
        expected = generator(some.lengths, some.steps, condition.rate)
        for m in MODALITIES:
            np.testing.assert_array_equal(condition.change.kept[m], expected[m])


def test_compat_whole_modalities_are_the_public_code():
    some = clips(686)
    for name, rows in (("gcnet", published.gcnet(686, 0.7, 100)), ("imder", published.imder(22, 0.7))):
        last = conditions(protocol_of(name), some, compat=True)[-1]
        assert last.label == "0.667"
        lost = rows if name == "gcnet" else np.repeat(rows, 32, axis=0)[:686]
        for column, m in enumerate(MODALITIES[1:], start=1):
            np.testing.assert_array_equal(last.change.kept[m].any(axis=1), lost[:, column])


@pytest.mark.parametrize(("rate", "one", "two"), [(0.1, 20, 20), (0.4, 100, 40), (2 / 3, 200, 0)])
def test_imder_counts_clips_exactly(rate, one, two):
    kept = conditions(protocol_of("imder"), clips(200, tokens=False), [rate])[0].change.kept
    present = np.stack([kept[m].any(axis=1) for m in MODALITIES], axis=1).sum(axis=1)
    assert ((present == 1).sum(), (present == 2).sum()) == (one, two)


def test_subsets_keep_the_same_of_every_clip():
    found = {
        condition.label: condition.change.kept for condition in conditions(protocol_of("subsets"), tiny())
    }
    assert len(found) == 7
    sound = found["audio"]
    assert [row.sum() for row in sound["audio"]] == TINY_LENGTHS["audio"]
    np.testing.assert_array_equal(sound["text"][0], [1, 0, 0, 0, 0, 1, 0, 0])
    assert not sound["vision"].any()
    both = found["text+vision"]
    assert [row.sum() for row in both["text"]] == TINY_LENGTHS["text"]
    assert not both["audio"].any()
    assert lost_shares(conditions(protocol_of("subsets"), tiny())[-1], tiny()) == dict.fromkeys(MODALITIES, 0)


def test_noise_is_in_decibels_and_leaves_token_ids():
    first = conditions(protocol_of("noise"), clips())[0]
    assert (first.label, dict(first.change.noise)) == ("20", {"audio": 20, "vision": 20})
    assert set(conditions(protocol_of("noise"), clips(tokens=False), [-3])[0].change.noise) == set(MODALITIES)


def test_some_modalities_alone_are_changed():
    for name in BY_RATE:
        for condition in conditions(protocol_of(name), clips(), only=("audio",)):
            change = condition.change
            assert {*change.kept, *change.noise, *change.rows} <= {"audio"}


def test_what_a_protocol_cannot_do_is_one_sentence():
    with pytest.raises(ConfigError, match=r"there is no protocol 'tfrnt'; .* Did you mean 'tfrnet'\?"):
        protocol_of("tfrnt")
    with pytest.raises(ConfigError, match=r"the rate 1\.2 is not between 0 and 1, as tfrnet asks; "):
        conditions(protocol_of("tfrnet"), tiny(), [0.5, 1.2])
    with pytest.raises(ConfigError, match="subsets has no rates; leave --rates out"):
        conditions(protocol_of("subsets"), tiny(), [0.5])
    with pytest.raises(ConfigError, match=r"tfrnet replaces words .* --protocol=frames, which loses vectors"):
        conditions(protocol_of("tfrnet"), clips(tokens=False))
    assert conditions(protocol_of("tfrnet"), clips(tokens=False), only=("audio",))
    with pytest.raises(ConfigError, match=r"IMDer has no share of batches for the rate 0\.25"):
        conditions(protocol_of("imder"), clips(), [0.25], compat=True)


def curve(rates, values) -> Curve:
    return Curve("all", tuple(Point(str(r), r, {}, {"acc": v}) for r, v in zip(rates, values, strict=True)))


def test_areas_are_those_of_the_papers():
    tenths = [k / 10 for k in range(11)]
    assert area(tenths[:6], [80, 70, 60, 50, 40, 30]) == pytest.approx(27.5)
    half = summary(curve(tenths[:6], [80, 70, 60, 50, 40, 30]), "area", "acc")
    assert half == pytest.approx({"area": 27.5, "area / range": 55})
    values = [0.80, 0.78, 0.75, 0.70, 0.66, 0.60, 0.56, 0.52, 0.48, 0.45, 0.42]
    found = summary(curve(tenths, values), "area and loss", "acc")
    assert found == pytest.approx({"area": 0.611, "area / range": 0.611, "clean - area": 0.189})
    assert "clean - area" not in summary(curve(tenths[:6], values[:6]), "area and loss", "acc")
    assert summary(curve(tenths, values), "mean", "acc") == pytest.approx({"mean": np.mean(values)})
    assert np.isnan(summary(curve([0, 1], [0.5, np.nan]), "area", "acc")["area"])


def test_the_mean_of_subsets_is_that_of_the_six():
    points = [Point(str(k), None, {"text": float(k < 6)}, {"acc": k}) for k in range(7)]
    assert summary(Curve("all", tuple(points)), "mean", "acc") == {"mean": 2.5}


def test_every_protocol_says_what_it_does():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.about.endswith(".")
        assert (protocol.compat is None) == (protocol.compat_about == "")
        assert all(protocol.bounds[0] <= rate <= protocol.bounds[1] for rate in protocol.rates)
