import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.data import columns, synthetic
from msa_jax.data.spec import MODALITIES, DatasetSpec, parse_columns
from msa_jax.errors import DataError

SMALL = {
    "counts": {"train": 900, "valid": 20, "test": 300},
    "widths": {"text": 32, "audio": 33, "vision": 71},
    "lengths": {"text": 20, "audio": 60, "vision": 30},
}


@pytest.fixture(scope="module")
def dataset():
    return synthetic.generate(7, **SMALL)


@pytest.fixture(scope="module")
def latents():
    return synthetic.draw_latents(np.random.default_rng(3), 40_000, synthetic.LENGTHS)


def pooled(dataset, split, modality):
    """z-scored columns, averaged over each clip's real steps: [N, D]."""
    spec, clips = dataset.spec.modalities[modality], dataset.splits[split]
    real = np.arange(spec.length) < clips.lengths[modality][:, None]
    scaled = np.where(
        real[:, :, None], (clips.values[modality] - np.array(spec.mean)) / np.array(spec.std), 0
    )
    return scaled.sum(axis=1) / clips.lengths[modality][:, None]


def ridge(train, target, test, strength=30.0):
    """Predictions [N] for the test rows of a ridge regression fitted on the training rows."""
    centre = train.mean(axis=0)
    train, test = train - centre, test - centre
    weights = np.linalg.solve(
        train.T @ train + strength * np.eye(train.shape[1]), train.T @ (target - target.mean())
    )
    return test @ weights + target.mean()


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def held_out(dataset, modalities, task="M"):
    features = [
        np.concatenate([pooled(dataset, s, m) for m in modalities], axis=1) for s in ("train", "test")
    ]
    return ridge(features[0], dataset.splits["train"].labels[task], features[1])


def test_layout_of_ch_sims():
    dataset = synthetic.generate(0, {"train": 12, "valid": 5, "test": 6})
    shapes = {m: v.shape for m, v in dataset.splits["train"].values.items()}
    assert shapes == {"text": (12, 39, 768), "audio": (12, 400, 33), "vision": (12, 55, 709)}
    for modality, known in (("audio", columns.SIMS_AUDIO), ("vision", columns.SIMS_VISION)):
        groups = dataset.spec.modalities[modality].groups
        assert dict(groups) == {name: parse_columns(text) for name, text in known.items()}
    assert dataset.spec.modalities["text"].groups == {}
    assert DatasetSpec.from_json(dataset.spec.to_json()) == dataset.spec
    assert dataset.spec.synthetic
    assert any("synthetic" in note for note in dataset.notes)
    ids = np.concatenate([split.ids for split in dataset.splits.values()])
    assert len(set(ids)) == len(ids) == 23
    assert ids[0] == "video_0001$_$0001"


def test_every_split_is_well_formed(dataset):
    for split in dataset.splits.values():
        assert set(split.labels) == {"M", "T", "A", "V"}
        for modality in MODALITIES:
            values, lengths = split.values[modality], split.lengths[modality]
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            assert lengths.dtype == np.int32
            assert lengths.min() >= 1
            assert lengths.max() <= values.shape[1]
            padding = np.arange(values.shape[1]) >= lengths[:, None]
            assert not values[padding].any()
            assert values[~padding].any(axis=1).all()
        for task, label in split.labels.items():
            assert label.dtype == np.float32
            assert np.isin(label, np.round(np.linspace(-1, 1, 11), 1).astype(np.float32)).all()
            assert (split.classes[task] == np.where(label < 0, 0, np.where(label > 0, 2, 1))).all()


def test_the_same_seed_gives_the_same_clips_in_another_process():
    counts = {"train": 3, "valid": 2, "test": 4}
    script = (
        "import hashlib; from msa_jax.data import synthetic\n"
        f"data = synthetic.generate(5, {counts})\n"
        "print(hashlib.sha256(b''.join(s.values[m].tobytes() + s.labels['M'].tobytes() + str(s.ids).encode()"
        " for s in data.splits.values() for m in s.values)).hexdigest())"
    )
    hashes = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(hashes) == 1


def test_labels_do_not_change_between_machines_and_versions():
    dataset = synthetic.generate(
        0, {"train": 8, "valid": 8, "test": 8}, **{k: SMALL[k] for k in ("widths", "lengths")}
    )
    assert [round(float(x), 1) for x in dataset.splits["train"].labels["M"]] == [
        -1.0,
        -0.2,
        0.0,
        -1.0,
        -0.8,
        1.0,
        0.0,
        -1.0,
    ]
    other = synthetic.generate(
        1, {"train": 8, "valid": 8, "test": 8}, **{k: SMALL[k] for k in ("widths", "lengths")}
    )
    assert not np.array_equal(other.splits["test"].values["text"], dataset.splits["test"].values["text"])


def test_a_split_does_not_depend_on_the_others(dataset):
    smaller = synthetic.generate(7, SMALL["counts"] | {"train": 10}, SMALL["widths"], SMALL["lengths"])
    for modality in MODALITIES:
        assert np.array_equal(
            smaller.splits["test"].values[modality], dataset.splits["test"].values[modality]
        )
    assert np.array_equal(smaller.splits["test"].labels["M"], dataset.splits["test"].labels["M"])
    assert smaller.best_reachable == dataset.best_reachable


def test_lengths_follow_ch_sims(latents):
    """The stored lengths 39, 400 and 55 are the mean plus three deviations of the clips' own."""
    for modality, stored in synthetic.LENGTHS.items():
        lengths = latents.lengths[modality]
        assert lengths.mean() + 3 * lengths.std() == pytest.approx(stored, rel=0.06)
        assert lengths.max() == stored
    assert latents.seconds.mean() == pytest.approx(3.67, abs=0.06)
    assert latents.seconds.min() >= 1
    assert latents.seconds.max() <= 10


def test_text_lengths_follow_the_real_transcripts(latents, shared_data):
    import csv

    with open(shared_data / "labels/sims_label.csv", encoding="utf-8-sig", newline="") as file:
        real = np.array([len(row["text_zh"]) + 2 for row in csv.DictReader(file)])
    for share in (10, 50, 90):
        assert np.percentile(latents.lengths["text"], share) == pytest.approx(
            np.percentile(real, share), abs=1.5
        )


def test_columns_differ_in_scale_as_real_ones_do():
    dataset = synthetic.generate(0, {"train": 20, "valid": 1, "test": 1})
    std = np.array(dataset.spec.modalities["vision"].std)
    mean = np.abs(np.array(dataset.spec.modalities["vision"].mean))
    assert std.max() > 100 * std.min()
    assert mean.max() > 300
    vision = dataset.splits["train"].values["vision"]
    assert vision[..., 674:691].min() >= 0  # action unit intensities
    assert vision[..., 674:691].max() <= 5
    assert vision[..., 691:].max() <= 1  # presences
    assert (dataset.splits["train"].values["audio"][..., 0] >= 0).all()  # zero-crossing rate


@settings(max_examples=50)
@given(st.integers(3, 90), st.integers(6, 900))
def test_groups_of_any_width_cover_it_in_order(audio, vision):
    for modality, width in (("audio", audio), ("vision", vision)):
        groups = synthetic.column_groups(modality, width)
        assert tuple(itertools.chain(*groups.values())) == tuple(range(width))
        assert all(groups.values())


def test_vote_chances_are_chances_and_symmetric():
    scores = np.linspace(-6, 6, 101)
    votes = synthetic.vote_chances(scores)
    assert (votes >= 0).all()
    assert votes.sum(axis=1) == pytest.approx(1)
    assert votes[:, 0] == pytest.approx(votes[::-1, 2])


def test_label_chances_are_those_of_drawn_labels():
    """The generator knows its noise: drawn labels have the distribution that it states."""
    for score in (-1.5, -0.4, 0.0, 0.3, 0.8):
        drawn = synthetic.draw_labels(np.random.default_rng(1), np.full(20_000, score))
        share = np.array([(np.round(drawn * 5) == k).mean() for k in range(-5, 6)])
        stated = synthetic.label_chances(np.array([score]))[0]
        assert stated.sum() == pytest.approx(1)
        deviation = np.sqrt(stated * (1 - stated) / len(drawn))
        assert (np.abs(share - stated) <= 4.5 * deviation + 1e-9).all()


def test_best_scores_equal_their_expectation(latents):
    """What the ideal predictor scores on drawn labels is what the label chances promise."""
    score = latents.scores["M"]
    label = synthetic.draw_labels(np.random.default_rng(2), score)
    best = synthetic.best_scores(score, label)
    grid, chances = np.linspace(-1, 1, 11), synthetic.label_chances(score)
    error = (chances[:, None, :] * np.abs(grid[None, :, None] - grid[None, None, :])).sum(axis=2)
    assert best["mae"] == pytest.approx(error.min(axis=1).mean(), abs=4 * 0.2 / np.sqrt(len(score)))
    mean = chances @ grid
    second = (chances @ grid**2).mean() - mean.mean() ** 2
    assert best["corr"] == pytest.approx(np.sqrt(mean.var() / second), abs=0.002)


def test_no_oracle_beats_the_best_scores(latents):
    """Predictors that know the latents, in other ways than the ideal one, do no better."""
    score = latents.scores["M"]
    label = synthetic.draw_labels(np.random.default_rng(4), score)
    best = synthetic.best_scores(score, label)
    grid = np.linspace(-1, 1, 11)
    chances = synthetic.label_chances(score)
    rivals = {
        "score": np.clip(score, -1, 1),
        "tanh": np.tanh(1.5 * score),
        "likeliest": grid[chances.argmax(axis=1)],
        "other judges": synthetic.draw_labels(np.random.default_rng(5), score),
        "mean": chances @ grid,
        "rounded mean": np.round(chances @ grid * 5) / 5,
        "median of the neighbour": grid[
            (np.cumsum(synthetic.label_chances(score + 0.05), 1) >= 0.5).argmax(1)
        ],
    }
    for name, rival in rivals.items():
        assert np.abs(rival - label).mean() > best["mae"] - 1e-3, name
        assert correlation(rival, label) < best["corr"] + 1e-3, name
    assert np.abs(rivals["other judges"] - label).mean() > best["mae"] + 0.02


def test_text_carries_most_each_modality_adds_and_none_is_enough(dataset):
    label = dataset.splits["test"].labels["M"]
    alone = {m: correlation(held_out(dataset, [m]), label) for m in MODALITIES}
    together = correlation(held_out(dataset, MODALITIES), label)
    assert max(alone, key=lambda m: alone[m]) == "text"
    assert min(alone.values()) > 0.3
    assert together > max(alone.values()) + 0.05
    for left_out in MODALITIES:
        rest = [m for m in MODALITIES if m != left_out]
        assert together > correlation(held_out(dataset, rest), label) + 0.01, left_out
    assert together < dataset.best_reachable["corr"]


def test_modalities_disagree_sometimes(dataset):
    labels = dataset.splits["train"].labels
    for a, b in itertools.combinations("TAV", 2):
        opposed = (np.sign(labels[a]) * np.sign(labels[b]) < 0).mean()
        assert 0.1 < opposed < 0.5
        assert 0.1 < correlation(labels[a], labels[b]) < 0.7
    assert all(correlation(labels["M"], labels[task]) > 0.4 for task in "TAV")


def test_irony_needs_more_than_a_weighted_sum(latents):
    own = np.stack([latents.scores[t] for t in "TAV"], axis=1)
    ironic = latents.ironic
    assert 0.1 < ironic.mean() < 0.15
    assert correlation(own[ironic, 0], latents.scores["M"][ironic]) < -0.4
    assert correlation(own[~ironic, 0], latents.scores["M"][~ironic]) > 0.7
    linear = ridge(own, latents.scores["M"], own, 0.0)
    assert correlation(linear, latents.scores["M"]) < 0.95


def test_each_group_shows_its_own_part(dataset):
    """A column group tells of its own part what no other group of the modality does."""
    train = synthetic.draw_latents(np.random.default_rng([7, 1, 0, 0]), 900, SMALL["lengths"])
    test = synthetic.draw_latents(np.random.default_rng([7, 1, 2, 0]), 300, SMALL["lengths"])
    for modality in ("audio", "vision"):
        groups = dataset.spec.modalities[modality].groups
        fit = np.zeros((len(groups), len(groups)))
        for row, cols in enumerate(groups.values()):
            x = [pooled(dataset, s, modality)[:, list(cols)] for s in ("train", "test")]
            for part in range(len(groups)):
                predicted = ridge(x[0], train.parts[modality][:, part], x[1])
                fit[row, part] = correlation(predicted, test.parts[modality][:, part])
        assert (fit.argmax(axis=1) == np.arange(len(groups))).all(), fit.round(2)


def test_when_it_is_said_matters(dataset):
    """Looking at the moment that counts beats the mean over time; the earlier moment misleads."""
    draws = {
        s: synthetic.draw_latents(np.random.default_rng([7, 1, k, 0]), SMALL["counts"][s], SMALL["lengths"])
        for s, k in (("train", 0), ("test", 2))
    }
    label = {s: dataset.splits[s].labels["A"] for s in draws}
    spec = dataset.spec.modalities["audio"]
    seen = {}
    for moment in (0, 1):
        for s, drawn in draws.items():
            lengths = dataset.splits[s].lengths["audio"][:, None]
            when = (np.arange(spec.length) + 0.5) / lengths
            focus = np.exp(-0.5 * ((when - drawn.moments[:, moment, None]) / drawn.spread[:, None]) ** 2)
            focus = np.where(when < 1, focus + 1e-6, 0)
            scaled = (dataset.splits[s].values["audio"] - np.array(spec.mean)) / np.array(spec.std)
            seen[moment, s] = np.einsum("ntd,nt->nd", scaled, focus) / focus.sum(axis=1, keepdims=True)
    by_moment = [
        correlation(ridge(seen[k, "train"], label["train"], seen[k, "test"]), label["test"]) for k in (0, 1)
    ]
    by_mean = correlation(held_out(dataset, ["audio"], "A"), label["test"])
    assert by_moment[1] > by_mean + 0.05
    assert by_moment[0] < by_mean - 0.2


def test_bad_arguments_are_refused_in_one_sentence():
    with pytest.raises(DataError, match="vision needs 6 columns or more, one for each group; 5 were asked"):
        synthetic.generate(0, SMALL["counts"], SMALL["widths"] | {"vision": 5}, SMALL["lengths"])
    with pytest.raises(DataError, match="seed of 0 or more"):
        synthetic.generate(-1)
    with pytest.raises(DataError, match="at least one clip per split"):
        synthetic.generate(0, {"train": 5, "valid": 0, "test": 5})
