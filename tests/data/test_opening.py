"""Opening a pickle or a store, with and without hints."""

import dataclasses
import json

import feature_files
import numpy as np
import pytest

from msa_jax.configuration import load
from msa_jax.data import clean, columns, store
from msa_jax.data.opening import Hints, load_dataset, open_dataset, open_split
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import DataError

HINTS = Hints("mine", "mosi", (-3.0, 3.0), {"audio": {"low": "0-1", "high": "2,4"}, "vision": {}})


@pytest.fixture(params=["pickle", "store"])
def saved(request, tmp_path):
    """Saves a content as a pickle or a store and returns the path."""

    def save(data):
        path = feature_files.write(tmp_path / "data.pkl", data)
        if request.param == "pickle":
            return path
        store.write(open_dataset(path), tmp_path / "store")
        return tmp_path / "store"

    return save


def with_widths(audio, vision, scale=1.0):
    data = feature_files.content()
    rng = np.random.default_rng(0)
    for part in data.values():
        count = len(part["id"])
        part["audio"] = rng.normal(size=(count, 9, audio)).astype(np.float32)
        part["vision"] = rng.normal(size=(count, 7, vision)).astype(np.float32)
        part["regression_labels"] = scale * np.sign(part["regression_labels"])
    return data


def test_the_description_with_hints(saved):
    data = feature_files.content(unimodal=True)
    spec = open_dataset(saved(data), HINTS).spec
    assert (spec.name, spec.metrics, spec.label_range) == ("mine", "mosi", (-3.0, 3.0))
    assert spec.tasks == ("M", "T", "A", "V")
    assert spec.counts == feature_files.COUNTS
    assert spec.has_tokens
    assert not spec.synthetic
    assert spec.modalities["audio"].groups == {"low": (0, 1), "high": (2, 4)}
    for m, modality in spec.modalities.items():
        assert (modality.width, modality.length) == (feature_files.WIDTHS[m], feature_files.STEPS[m])


def test_statistics_are_of_the_real_training_steps(saved):
    data = feature_files.content()
    data["train"]["audio"][0, 0, 0] = np.nan
    data["train"]["audio_lengths"][0] = 1
    data["train"]["audio"][0, 1:] = 1e6  # behind the clip's end
    dataset = open_dataset(saved(data))
    train = dataset.splits["train"]
    for m, modality in dataset.spec.modalities.items():
        real = np.arange(modality.length) < train.lengths[m][:, None]
        values = np.where(np.isfinite(train.values[m]), train.values[m], np.nan)[real].astype(np.float64)
        np.testing.assert_allclose(modality.mean, np.nanmean(values, 0), rtol=1e-9)
        np.testing.assert_allclose(modality.std, np.nanstd(values, 0), rtol=1e-9)


def test_notes_count_broken_values_and_cut_lengths(saved):
    data = feature_files.content()
    data["test"]["audio"][0, 0, :3] = [np.nan, np.inf, -np.inf]
    data["train"]["vision_lengths"][2] = 8
    assert open_dataset(saved(data)).notes == (
        "train vision_lengths: 1 lengths over 7 steps were cut to 7.",
        "test audio: 1 NaN and 2 infinite values in 3 columns; they count as 0.",
    )


@pytest.mark.parametrize(
    ("audio", "vision", "scale", "expected"),
    [
        (33, 709, 1.0, ("sims", "sims", (-1, 1))),
        (74, 35, 3.0, ("mosei", "mosi", (-3, 3))),
        (74, 35, 0.5, ("mosei", "mosi", (-3, 3))),
        (5, 20, 3.0, ("mosi", "mosi", (-3, 3))),
        (5, 19, 1.0, ("data", "sims", (-1, 1))),
        (5, 19, 2.0, ("data", "mosi", (-3, 3))),
        (5, 19, 4.0, ("data", "mosi", (-4, 4))),
        # Public widths by chance: the labels are not those of the public set.
        (33, 709, 2.0, ("data", "mosi", (-3, 3))),
        (74, 35, 5.0, ("data", "mosi", (-5, 5))),
        (5, 20, 9.0, ("data", "mosi", (-9, 9))),
    ],
)
def test_without_hints_widths_and_labels_decide(saved, audio, vision, scale, expected):
    dataset = open_dataset(saved(with_widths(audio, vision, scale)))
    spec = dataset.spec
    assert (spec.name, spec.metrics, spec.label_range) == expected
    public = columns.KNOWN_WIDTHS.get((audio, vision))
    assert any("the widths of" in note for note in dataset.notes) == (public not in (None, expected[0]))
    known = columns.KNOWN_GROUPS.get(expected[0], {})
    for m, modality in spec.modalities.items():
        assert list(modality.groups) == list(known.get(m, {}))


@pytest.mark.parametrize(
    ("widths", "low", "high", "expected"),
    [
        ((5, 19), 1, 5, ("data", "plain", (1, 5))),
        ((5, 19), 0, 1, ("data", "plain", (0, 1))),
        ((33, 709), 1, 5, ("data", "plain", (1, 5))),
        ((5, 20), 0, 3, ("mosi", "mosi", (-3, 3))),
    ],
)
def test_labels_without_a_negative_one(saved, widths, low, high, expected):
    data = with_widths(*widths)
    for part in data.values():
        part["regression_labels"] = np.linspace(low, high, len(part["id"])).astype(np.float32)
        del part["classification_labels"]
    spec = open_dataset(saved(data)).spec
    assert (spec.name, spec.metrics, spec.label_range) == expected
    assert spec.class_edges == (None if expected[1] == "plain" else (-0.5, 0.5))


@pytest.mark.parametrize(
    ("metrics", "edges"), [("mosi", (-0.5, 0.5)), ("sims", (-0.1, 0.1)), ("plain", None)]
)
def test_edges_of_neutral_scores_are_those_of_the_metric_set(saved, metrics, edges):
    data = with_widths(5, 19)
    spec = open_dataset(saved(data), dataclasses.replace(HINTS, metrics=metrics)).spec
    assert spec.class_edges == edges
    assert DatasetSpec.from_json(spec.to_json()) == spec


def test_one_split_is_that_of_the_whole_data_set(saved):
    data = load("configs/mosi.py:lf_dnn", [f"data.path={saved(feature_files.content())}"]).data
    same_split(open_split(data, "test"), load_dataset(data).splits["test"])


def test_one_split_of_generated_clips():
    data = load("configs/synthetic.py:lf_dnn", ["data.synthetic.counts=(4,3,2)"]).data
    same_split(open_split(data, "valid"), load_dataset(data).splits["valid"])


def same_split(one, other):
    assert one.ids.tolist() == other.ids.tolist()
    for m in one.values:
        np.testing.assert_array_equal(one.values[m], other.values[m])
    assert (one.raw_text is None) == (other.raw_text is None)
    assert one.raw_text is None or one.raw_text.tolist() == other.raw_text.tolist()


def test_a_split_of_data_that_has_gone_is_one_sentence(tmp_path):
    data = load("configs/mosi.py:lf_dnn", [f"data.path={tmp_path / 'gone.pkl'}"]).data
    with pytest.raises(DataError, match=r"there is no .*gone.pkl"):
        open_split(data, "test")


def test_descriptions_of_other_versions_are_read():
    """Those of earlier ones lack names of classes and keep the edges that they have."""
    spec = DatasetSpec(
        "mine", {m: ModalitySpec(2, 3) for m in ("text", "audio", "vision")}, (-1.0, 1.0), "sims",
        class_names=("a", "b"), class_edges=(-0.1, 0.1),
    )  # fmt: skip
    record = json.loads(spec.to_json())
    later = record | {"weather": {"rain": 1}}
    later["modalities"]["audio"]["rate"] = 16000
    assert DatasetSpec.from_json(json.dumps(later)) == spec
    del record["class_names"]
    earlier = DatasetSpec.from_json(json.dumps(record | {"class_edges": [0.0, 0.0]}))
    assert (earlier.class_names, earlier.class_edges) == ((), (0.0, 0.0))


def test_a_store_obeys_hints_as_its_pickle_does(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", with_widths(33, 709))
    store.write(open_dataset(path), tmp_path / "store")
    assert open_dataset(tmp_path / "store", HINTS).spec == open_dataset(path, HINTS).spec


def test_a_label_outside_the_range_is_named(saved):
    data = feature_files.content()
    data["valid"]["regression_labels"][1] = -3
    hints = dataclasses.replace(HINTS, label_range=(-1.0, 1.0))
    for part in ("train", "test"):
        data[part]["regression_labels"] = np.zeros(len(data[part]["id"]))
    data["valid"]["regression_labels"][[0, 2]] = 0
    match = r"split 'valid': clip 'valid1\$_\$1' has the M score -3, outside the label range -1 to 1"
    path = saved(data)
    with pytest.raises(DataError, match=match):
        open_dataset(path, hints)


def test_float32_labels_at_the_edge_are_inside(saved):
    data = with_widths(5, 19, 0.7)
    open_dataset(saved(data), dataclasses.replace(HINTS, label_range=(-0.7, 0.7)))


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ({"audio": {"all": "0-5"}}, r"column group 'all' asks for columns '0-5'"),
        ({"audio": {"a": "0-1", "b": "1-2"}}, "repeats a column"),
        ({"audio": {"a": "x"}}, "'x' is not a column list"),
        ({"video": {"a": "0"}}, "column groups for 'video', but .* Did you mean 'audio'|'vision'"),
    ],
)
def test_groups_that_do_not_fit(saved, groups, match):
    path = saved(feature_files.content())
    with pytest.raises(DataError, match=match):
        open_dataset(path, dataclasses.replace(HINTS, groups=groups))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pkl: there is no such file"):
        open_dataset(tmp_path / "nothing.pkl")


def test_real_mosi_statistics(shared_data, tmp_path):
    """CMU-MOSI's real audio, as one vector a clip: the statistics are those of the published table."""
    clips = np.load(shared_data / "mosi" / "mosi_utterance.npz")
    data = {}
    for name in ("train", "valid", "test"):
        at = clips["official_split"] == name
        data[name] = {
            "id": clips["id"][at],
            "regression_labels": clips["regression_label"][at],
            **{m: clips[m][at][:, None] for m in ("text", "audio", "vision")},
        }
    dataset = open_dataset(feature_files.write(tmp_path / "mosi.pkl", data))
    assert dataset.spec.counts == {"train": 1284, "valid": 229, "test": 686}
    for m in ("text", "audio", "vision"):
        values = data["train"][m][:, 0].astype(np.float64)
        std = np.where(values.min(0) < values.max(0), values.std(0), 1)
        modality = dataset.spec.modalities[m]
        np.testing.assert_allclose(modality.mean, values.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(modality.std, std, rtol=1e-7)
        scaled = clean.standardise(data["train"][m], np.array(modality.mean), np.array(modality.std))
        assert np.abs(scaled.mean((0, 1), dtype=np.float64)).max() < 1e-3
    assert ModalitySpec(100, 1, {}, modality.mean, modality.std, absent=0) == modality
