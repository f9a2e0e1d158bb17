"""On which side a file has its padding changes nothing of what is read."""

import feature_files
import numpy as np
import pytest
from feature_files import STEPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msa_jax.data import mmsa, unlabelled
from msa_jax.data.padding import front_padding, used_steps


def rolled(array: np.ndarray, lengths, axis: int = 0) -> np.ndarray:
    """Each clip's real steps, which stand first, moved to the end."""
    steps = array.shape[axis + 1]
    return np.stack([np.roll(x, steps - n, axis) for x, n in zip(array, lengths, strict=True)])


def front_twin(data):
    """The same file with its padding in front."""
    twin = {}
    for name, part in data.items():
        lengths = {"text": part["text_bert"][:, 1].sum(1).astype(int)}
        lengths |= {m: np.asarray(part[f"{m}_lengths"], int) for m in ("audio", "vision")}
        twin[name] = part | {m: rolled(part[m], lengths[m]) for m in STEPS}
        twin[name]["text_bert"] = rolled(part["text_bert"], lengths["text"], axis=1)
    return twin


def without(data, *keys):
    return {name: {k: v for k, v in part.items() if k not in keys} for name, part in data.items()}


def same(first, second):
    for name, split in first.items():
        other = second[name]
        for m in STEPS:
            np.testing.assert_array_equal(split.lengths[m], other.lengths[m])
            np.testing.assert_array_equal(split.values[m], other.values[m])
        if split.tokens is None:
            assert other.tokens is None
        else:
            np.testing.assert_array_equal(split.tokens, other.tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("twins")


@given(
    seed=st.integers(0, 1000),
    has_lengths=st.booleans(),
    has_tokens=st.booleans(),
    silent=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_twins_with_padding_on_either_side_are_read_alike(
    folder, seed, has_lengths, has_tokens, silent, data
):
    """Clips whose last frames are zeros included; of each split one clip is short enough to tell."""
    content = feature_files.content(seed)
    for part in content.values():
        for m in ("audio", "vision"):
            part[f"{m}_lengths"][0] = 1
            for row, length in enumerate(part[f"{m}_lengths"]):
                part[m][row, 1:length] += 1.0
                part[m][row, max(1, length - silent) : length] = 0
                part[m][row, length:] = 0
            part[m][0, 0] = 1
    keys = [] if has_lengths else ["audio_lengths", "vision_lengths"]
    keys += [] if has_tokens else ["text_bert"]
    twin = front_twin(content)
    behind = mmsa.read(feature_files.write(folder / "behind.pkl", without(content, *keys)))[0]
    front, notes = mmsa.read(feature_files.write(folder / "front.pkl", without(twin, *keys)))
    same(behind, front)
    assert any("padding in front" in note for note in notes)
    name = data.draw(st.sampled_from(list(content)))
    unsplit = feature_files.write(folder / "one.pkl", without(twin, *keys)[name])
    same({name: front[name]}, {name: unlabelled.read(unsplit)[0][""]})


def test_a_last_frame_of_zeros_is_a_frame(folder):
    """Two clips of three frames after three steps of padding; the second ends with a silent frame."""
    content = feature_files.content()
    rows = np.array([[0, 0, 0, 1, 2, 3], [0, 0, 0, 1, 2, 0]], np.float32)
    for part in content.values():
        count = len(part["id"])
        part["vision"] = np.resize(rows, (count, 6))[:, :, None]
        part["vision_lengths"] = [3] * count
    splits, notes = mmsa.read(feature_files.write(folder / "data.pkl", content))
    assert splits["train"].values["vision"][:2, :3, 0].tolist() == [[1, 2, 3], [1, 2, 0]]
    assert not splits["train"].values["vision"][:, 3:].any()
    assert notes[0] == "train vision: the padding in front of 5 clips was moved behind."


def clips(*rows):
    return np.array(rows, np.float32)[:, :, None]


@pytest.mark.parametrize(
    ("rows", "lengths", "starts", "undecided"),
    [
        # Nothing tells: zeros on both sides.
        ([[0, 0, 1, 1, 0, 0]], [4], [0], 1),
        ([[0, 0, 1, 1, 0, 0], [0] * 6], [4, 3], [0, 0], 1),
        # Other clips tell.
        ([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]], [4, 3], [2, 3], 0),
        ([[0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]], [4, 3], [0, 0], 0),
        ([[0, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]], [4, 3], [0, 0], 0),
        # They disagree.
        ([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]], [4, 3, 3], [0, 3, 0], 1),
        # A full clip, a clip of no steps, silence, and padding that is not zero.
        ([[0, 0, 0, 0, 0, 1], [1] * 6, [0] * 6, [1, 1, 9, 9, 9, 9]], [6, 0, 2, 2], [0] * 4, 0),
    ],
)
def test_what_decides_on_the_side(rows, lengths, starts, undecided):
    found, count = front_padding(clips(*rows), np.array(lengths))
    assert (found.tolist(), count) == (starts, undecided)


def test_an_undecided_clip_is_told(folder):
    content = feature_files.content()
    for part in content.values():
        part["vision"] = np.resize(np.array([0, 0, 1, 1, 0, 0], np.float32), (len(part["id"]), 6, 1))
        part["vision_lengths"] = [4] * len(part["id"])
    splits, notes = mmsa.read(feature_files.write(folder / "data.pkl", content))
    assert splits["train"].values["vision"][0, :, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert notes[0] == (
        "train vision: 5 clips begin and end with zeros, so their padding may be in front or behind; "
        "it counts as behind."
    )


def test_real_steps_without_lengths():
    starts, lengths = used_steps(clips([0, 0, 1, 0, 2, 0], [0] * 6, [1] * 6, [0, 0, 0, 0, 0, np.nan]))
    assert starts.tolist() == [2, 0, 0, 5]
    assert lengths.tolist() == [3, 0, 6, 1]
    starts, lengths = used_steps(clips([0, 0, 1, 0, 2, 0]), behind=True)
    assert (starts.tolist(), lengths.tolist()) == ([0], [5])
