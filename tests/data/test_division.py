"""Clips without splits, or with other ones than wanted: no group crosses a border."""

import dataclasses

import feature_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.configuration import from_json, load, to_json
from msa_jax.data import mmsa, opening, store
from msa_jax.data.clean import summarise
from msa_jax.data.dataset import Split
from msa_jax.data.division import Division, assign, divide, groups_of
from msa_jax.data.opening import load_dataset, open_dataset, open_split
from msa_jax.data.rows import Rows
from msa_jax.data.spec import MODALITIES, SPLITS
from msa_jax.errors import ConfigError, DataError
from msa_jax.training import checks

SIZES = st.lists(st.integers(1, 9), min_size=12, max_size=30)
SEEDS = st.integers(0, 2**32)


def named(sizes):
    return np.repeat([f"speaker {k}" for k in range(len(sizes))], sizes)


def by_name(groups, rows):
    return {name: set(groups[at].tolist()) for name, at in rows.items()}


def block(clips=12, videos=6, seed=0):
    """One block of clips without splits, two of every video, with a column of speakers."""
    part = feature_files.section(np.random.default_rng(seed), "x", clips)
    part["id"] = [f"video{i % videos}$_${i}" for i in range(clips)]
    part["speaker"] = [f"s{i % 4}" for i in range(clips)]
    return part


def saved(folder, data):
    return feature_files.write(folder / "data.pkl", data)


def configured(path, *overrides):
    changes = [f"data.path={path}", "data.split=by_group", "data.split_shares=(0.5,0.2,0.3)", *overrides]
    return load("configs/mosi.py:lf_dnn", changes).data


@settings(max_examples=50)
@given(SIZES, SEEDS, st.randoms(use_true_random=False))
def test_every_clip_has_one_split_no_group_two_and_order_is_nothing(sizes, seed, random):
    groups, division = named(sizes), Division(seed=seed)
    rows = division.assigned(groups)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(groups)))
    of = by_name(groups, rows)
    assert all(of.values())
    assert sum(map(len, of.values())) == len(sizes), "a group crosses a border"
    order = list(range(len(groups)))
    random.shuffle(order)
    shuffled = groups[order]
    assert by_name(shuffled, division.assigned(shuffled)) == of
    again = division.assigned(groups)
    assert all(np.array_equal(again[name], rows[name]) for name in SPLITS)


@settings(max_examples=50)
@given(SIZES, st.tuples(*[st.integers(1, 9)] * 3), SEEDS)
def test_no_other_place_of_a_group_brings_the_shares_nearer(sizes, weights, seed):
    sizes, shares = np.array(sizes), np.array(weights) / sum(weights)
    part = assign(sizes, shares, np.random.default_rng(seed))

    def distance(part):
        return np.square(np.bincount(part, sizes, 3) - shares * sizes.sum()).sum()

    others = []
    for group in range(len(sizes)):
        for place in range(3):
            others.append(part.copy())
            others[-1][group] = place
        for second in range(group):
            others.append(part.copy())
            others[-1][[group, second]] = part[[second, group]]
    assert all(distance(other) > distance(part) - 1e-6 for other in others if len(set(other)) == 3)


def test_shares_that_whole_groups_can_have_are_met():
    for seed in range(20):
        rows = Division(seed=seed).assigned(named([5, 5, 5, 5, 4, 4, 4, 4, 4]))
        assert [len(rows[name]) for name in SPLITS] == [28, 4, 8]


def test_clips_that_are_groups_of_their_own_have_the_shares_exactly():
    rows = Division("id").assigned(np.array([f"c{i}" for i in range(1000)]))
    assert {name: len(at) for name, at in rows.items()} == {"train": 700, "valid": 100, "test": 200}


def test_another_seed_draws_other_groups():
    groups = named([3] * 20)
    drawn = {frozenset(by_name(groups, Division(seed=s).assigned(groups))["test"]) for s in range(5)}
    assert len(drawn) > 1


@settings(max_examples=50)
@given(SIZES, SEEDS, st.integers(2, 6))
def test_folds_test_every_clip_once(sizes, seed, folds):
    groups = named(sizes)
    tested = []
    for fold in range(folds):
        rows = Division(seed=seed, folds=folds, fold=fold).assigned(groups)
        of = by_name(groups, rows)
        assert all(of.values())
        assert sum(map(len, of.values())) == len(sizes)
        assert sum(map(len, rows.values())) == len(groups)
        tested += rows["test"].tolist()
    assert sorted(tested) == list(range(len(groups)))


def test_validation_has_its_share_of_what_a_fold_leaves():
    rows = Division("id", (0.6, 0.2, 0.2), folds=5, fold=1).assigned(np.array([f"c{i}" for i in range(100)]))
    assert {name: len(at) for name, at in rows.items()} == {"train": 60, "valid": 20, "test": 20}


@pytest.mark.parametrize(
    ("division", "sizes", "says"),
    [
        (Division(), [5, 5], "the data has 2 groups .data.group=video., too few for train, valid and test"),
        (Division(), [9], "the data has 1 group "),
        (Division(folds=5, fold=4), [3] * 4, "too few for 5 folds"),
        (Division(folds=2), [3] * 3, "too few for 2 folds"),
        (Division(folds=2, fold=1), [3] * 3, "too few for 2 folds"),
    ],
)
def test_too_few_groups_are_one_sentence(division, sizes, says):
    with pytest.raises(DataError, match=says):
        division.assigned(named(sizes))


def test_as_few_groups_as_splits_are_enough():
    rows = Division().assigned(named([20, 1, 1]))
    assert [len(rows[name]) for name in SPLITS] in ([20, 1, 1], [1, 20, 1], [1, 1, 20])
    assert Division(folds=3).assigned(named([4, 4, 4])).keys() == set(SPLITS)


def rows_of(*counts):
    parts = [np.random.default_rng(n).normal(size=(n, 3, 2)).astype(np.float32) for n in counts]
    return Rows.of(parts), np.concatenate(parts)


KEYS = st.one_of(
    st.integers(-7, 6),
    st.slices(7),
    st.lists(st.integers(-7, 6), max_size=9).map(lambda x: np.array(x, np.int64)),
)


@given(KEYS, st.sampled_from([(), (slice(2),), (slice(0),), (1,), (slice(None), 0)]), st.booleans())
def test_rows_give_what_one_array_would(key, others, split):
    rows, array = rows_of(4, 3) if split else rows_of(7)
    np.testing.assert_array_equal(rows[(key, *others)], array[(key, *others)])
    np.testing.assert_array_equal(rows[key], array[key])
    chosen = np.array([5, 0, 6])
    np.testing.assert_array_equal(np.asarray(rows.take(chosen)), array[chosen])
    np.testing.assert_array_equal(rows.take(chosen)[1:], array[chosen][1:])
    assert (rows.shape, rows.size, rows.nbytes, rows.ndim, len(rows)) == (
        array.shape, array.size, array.nbytes, 3, 7
    )  # fmt: skip


def test_a_block_is_divided_with_the_statistics_of_its_training_split(tmp_path):
    path = saved(tmp_path, block())
    dataset = load_dataset(configured(path))
    whole = mmsa.read_any(path)[0][""]
    assert whole.tokens is not None
    assert sorted(i for s in dataset.splits.values() for i in s.ids.tolist()) == sorted(whole.ids.tolist())
    assert dataset.spec.counts == {"train": 6, "valid": 2, "test": 4}
    for split in dataset.splits.values():
        at = [whole.ids.tolist().index(i) for i in split.ids.tolist()]
        assert split.labels["M"].tolist() == whole.labels["M"][at].tolist()
        assert split.raw_text is not None
        assert whole.raw_text is not None
        assert split.raw_text.tolist() == whole.raw_text[at].tolist()
        np.testing.assert_array_equal(split.tokens, whole.tokens[at])
        for m in MODALITIES:
            np.testing.assert_array_equal(split.values[m][:], whole.values[m][at])
            np.testing.assert_array_equal(split.lengths[m], whole.lengths[m][at])
    train = dataset.splits["train"]
    for m, modality in dataset.spec.modalities.items():
        summary = summarise(np.asarray(train.values[m]), train.lengths[m])
        np.testing.assert_allclose(modality.mean, summary.mean)
        np.testing.assert_allclose(modality.std, summary.std)
        everything = summarise(whole.values[m], whole.lengths[m])
        assert not np.allclose(modality.mean, everything.mean)
    assert dataset.notes[-1] == (
        "one block, and divided by video (data.split=by_group): 12 clips of 6 groups; train 6 of 3, valid 2 "
        "of 1, test 4 of 2."
    )


def test_features_of_a_pool_stay_on_disk(tmp_path, monkeypatch):
    data = feature_files.content()
    for part in data.values():
        for m in MODALITIES:
            part[m] = np.tile(part[m], (1, 1, 400))  # long enough to be mapped
    path = saved(tmp_path, data)
    store.write(open_dataset(path), tmp_path / "store")
    monkeypatch.setattr(opening.clean, "summarise", lambda *_: summarise(np.ones((1, 1, 1)), np.ones(1)))
    monkeypatch.setattr(opening.clean, "statistics", lambda *_: ((), ()))
    for place in (path, tmp_path / "store"):
        dataset = open_dataset(place, None, Division())
        for split in dataset.splits.values():
            for values in split.values.values():
                assert isinstance(values, Rows)
                assert all(isinstance(part, np.memmap) for part in values._parts)


@pytest.mark.parametrize("overrides", [[], ["data.folds=3", "data.fold=2"], ["data.group=id"]])
def test_a_store_is_divided_as_its_pickle_is(tmp_path, overrides):
    data = feature_files.content(unimodal=True)
    data["train"]["vision_lengths"][2] = 8
    path = saved(tmp_path, data)
    store.write(open_dataset(path), tmp_path / "store")
    of_pickle, of_store = (load_dataset(configured(p, *overrides)) for p in (path, tmp_path / "store"))
    assert of_pickle.spec == of_store.spec
    for name in SPLITS:
        assert of_pickle.splits[name].ids.tolist() == of_store.splits[name].ids.tolist()
        alone = open_split(configured(tmp_path / "store", *overrides), name, needs_text=False)
        assert alone.ids.tolist() == of_store.splits[name].ids.tolist()
        alone = open_split(configured(path, *overrides), name)
        assert alone.ids.tolist() == of_store.splits[name].ids.tolist()
        np.testing.assert_array_equal(alone.values["audio"][:], of_store.splits[name].values["audio"][:])
    assert of_store.notes[0] == (
        "before the division: train vision_lengths: 1 lengths over 7 steps were cut to 7."
    )
    assert "train, valid, test pooled, and divided" in of_store.notes[-1]
    assert of_store.notes == of_pickle.notes


def test_one_split_alone_is_divided(tmp_path):
    dataset = load_dataset(configured(saved(tmp_path, {"train": block()})))
    assert dataset.spec.counts == {"train": 6, "valid": 2, "test": 4}


@pytest.mark.parametrize("data", [block(), {"train": block()}])
def test_without_a_division_clips_without_splits_get_its_name(tmp_path, data):
    with pytest.raises(DataError, match=r"divide all clips with data\.split=by_group"):
        open_dataset(saved(tmp_path, data))


def test_nothing_like_clips_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"must hold the keys id, text, .*found 'a'"):
        load_dataset(configured(saved(tmp_path, {"a": 1})))


@pytest.mark.parametrize(
    "speakers",
    [
        ["a", "b", "b", "c"] * 3,
        np.array(["a", "b", "b", "c"] * 3),
        np.array([1, 2, 2, 3] * 3),
        [1, 2, 2, 3] * 3,
        np.array(["a", "b", "b", "c"] * 3, object),
    ],
)
def test_a_column_names_the_groups(tmp_path, speakers):
    dataset = load_dataset(configured(saved(tmp_path, block() | {"speaker": speakers}), "data.group=speaker"))
    found = [set(split.clip_columns["speaker"].tolist()) for split in dataset.splits.values()]
    assert sorted(map(len, found)) == [1, 1, 1]
    assert len(set.union(*found)) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"speaker": ["a"] * 11}, "key 'speaker': found 11 texts, expected 12, as many as 'id' has"),
        (
            {"speaker": np.ones(12)},
            r"key 'speaker': found float64 \(12,\), expected one text or whole number",
        ),
        ({"speaker": np.ones((12, 2), int)}, r"key 'speaker': found int64 \(12, 2\)"),
        ({"speaker": [0.5] * 12}, "key 'speaker': found a value of type float at position 0"),
        ({"speaker": "a"}, "key 'speaker': found a value of type str, expected one text or whole number"),
        ({"speaker": ["a", " "] * 6}, "clip 1 .'video1.*has an empty 'speaker'; name its group"),
        ({"speaker": ["a"] * 12}, "1 group .data.group=speaker., too few"),
    ],
)
def test_a_column_that_names_no_groups_is_one_sentence(tmp_path, change, says):
    path = saved(tmp_path, block() | change)
    with pytest.raises(DataError, match=says) as raised:
        load_dataset(configured(path, "data.group=speaker"))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_the_places_of_files_go_with_their_clips(tmp_path):
    dataset = open_dataset(saved(tmp_path, feature_files.content()))
    splits = {
        name: dataclasses.replace(split, media=np.char.add("/", split.ids))
        for name, split in dataset.splits.items()
    }
    store.write(dataclasses.replace(dataset, splits=splits), tmp_path / "store")
    for split in load_dataset(configured(tmp_path / "store")).splits.values():
        assert split.media is not None
        assert split.media.tolist() == [f"/{name}" for name in split.ids.tolist()]


def test_a_column_that_is_not_there_is_one_sentence(tmp_path):
    path = saved(tmp_path, block())
    with pytest.raises(DataError, match=r"key 'speakr': .*Did you mean 'speaker'"):
        load_dataset(configured(path, "data.group=speakr"))
    path = saved(tmp_path, feature_files.content())
    store.write(open_dataset(path), tmp_path / "store")
    with pytest.raises(DataError, match=r"has no column 'speaker' .*msa-jax convert --group=speaker"):
        load_dataset(configured(tmp_path / "store", "data.group=speaker"))


@pytest.mark.parametrize("clip", ["", "clip 7", "$_$7"])
def test_ids_that_name_no_video_are_one_sentence(tmp_path, clip):
    data = block()
    data["id"][7] = clip
    with pytest.raises(DataError, match=r"does not name its video as VIDEO\$_\$CLIP .*data\.group=COLUMN"):
        load_dataset(configured(saved(tmp_path, data)))
    if clip == "":
        with pytest.raises(DataError, match=r"clip 7 .* has an empty id"):
            load_dataset(configured(tmp_path / "data.pkl", "data.group=id"))
    else:
        assert load_dataset(configured(tmp_path / "data.pkl", "data.group=id")).spec.counts["test"] == 4


def test_the_video_is_all_but_the_last_part_of_an_id():
    split = Split(np.array(["a$_$b$_$1", "a$_$2"]), {}, {}, {})
    assert groups_of("x", split, "video").tolist() == ["a$_$b", "a"]


def test_the_order_of_splits_in_which_clips_lie_changes_nothing():
    splits = {}
    for name, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
        clips = block()
        ids = np.array(clips["id"][part])
        values = {m: clips[m][part] for m in MODALITIES}
        lengths = {m: np.ones(len(ids), np.int32) for m in MODALITIES}
        splits[name] = Split(ids, values, lengths, {"M": clips["regression_labels"][part]})
    one, _ = divide("x", splits, Division())
    other, _ = divide("x", dict(reversed(splits.items())), Division())
    assert {n: set(s.ids.tolist()) for n, s in one.items()} == {
        n: set(s.ids.tolist()) for n, s in other.items()
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.split=by_vide"],
        ["data.group=a b"],
        ["data.group=../x"],
        ["data.split_shares=(0.5,0.5)"],
        ["data.split_shares=(0.5,0.5,0.5)"],
        ["data.split_shares=(1,0,0)"],
        ["data.split_seed=-1"],
        ["data.folds=1"],
        ["data.folds=-5"],
        ["data.folds=5"],
        ["data.fold=1"],
        ["data.fold=5", "data.folds=5", "data.split=by_group"],
    ],
)
def test_settings_that_are_wrong_are_named(overrides):
    with pytest.raises(ConfigError) as raised:
        checks.check_values(load("configs/mosi.py:lf_dnn", overrides))
    assert str(raised.value).startswith(overrides[0].partition("=")[0] + "=")


def test_right_settings_pass_and_generated_clips_keep_their_splits():
    good = ["data.split=by_group", "data.folds=5", "data.fold=4", "data.group=speaker_1"]
    checks.check_values(load("configs/mosi.py:lf_dnn", good))
    with pytest.raises(ConfigError, match="generated clips have splits"):
        checks.check_values(load("configs/synthetic.py:lf_dnn", ["data.split=by_group"]))


def test_a_configuration_from_before_takes_the_stored_splits(tmp_path):
    data = load("configs/mosi.py:lf_dnn").to_dict()
    for key in ("split", "group", "split_shares", "split_seed", "folds", "fold"):
        del data["data"][key]
    old = from_json(to_json(type(load("configs/mosi.py:lf_dnn"))(data)))
    assert to_json(old) == to_json(load("configs/mosi.py:lf_dnn"))


def test_a_store_keeps_the_column_that_convert_is_asked_for(tmp_path):
    data = feature_files.content()
    for part in data.values():
        part["speaker_id"] = [7 + k % 3 for k in range(len(part["id"]))]
    path = saved(tmp_path, data)
    splits, notes = mmsa.read(path, column="speaker_id")
    hints, _ = opening.infer(path, splits)
    store.write(opening.describe(path, splits, notes, hints), tmp_path / "store")
    read = store.read(tmp_path / "store", verify=True)
    assert read.splits["valid"].clip_columns["speaker_id"].tolist() == ["7", "8", "9"]
    divided = load_dataset(configured(tmp_path / "store", "data.group=speaker_id"))
    assert divided.spec == load_dataset(configured(path, "data.group=speaker_id")).spec
    short = dataclasses.replace(read.splits["test"], clip_columns={"speaker_id": np.array(["7"])})
    broken = dataclasses.replace(read, splits={**read.splits, "test": short})
    store.write(broken, tmp_path / "broken")
    with pytest.raises(DataError, match="convert again"):
        store.read(tmp_path / "broken")
