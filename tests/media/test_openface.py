"""The user's own OpenFace files."""

import numpy as np
import pytest
from media_files import NO_SHARED, SHARED

from msa_jax.data.columns import column_names
from msa_jax.errors import DataError
from msa_jax.media import openface
from msa_jax.media.decode import Absent

NAMES = ("frame", "face_id", "timestamp", "confidence", "success", *column_names("sims", "vision"))


def write(path, frames, names=NAMES, joint=","):
    lines = [joint.join(names)]
    for number, (confidence, success, value, face) in enumerate(frames):
        cells = [number + 1, face, number / 30, confidence, success, *[value] * (len(names) - 5)]
        lines.append(joint.join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("joint", [",", ", "])
def test_five_frames_are_one_step_and_unsure_faces_none(tmp_path, joint):
    frames = [(0.9, 1, k, 0) for k in range(12)]
    frames[1], frames[2] = (0.3, 1, 99, 0), (0.9, 0, 99, 0)
    frames[5:10] = [(0.1, 0, 99, 0)] * 5
    said = []
    values, times = openface.extract(write(tmp_path / "a.csv", frames, joint=joint), said.append)
    assert values.shape == (2, 709)
    np.testing.assert_allclose(values[:, 0], [(0 + 3 + 4) / 3, 10.5])
    np.testing.assert_allclose(times, [0, 10 / 30])
    assert said == ["7 of 12 frames in a.csv have no sure face and are left out"]


def test_a_second_face_is_not_mixed_in(tmp_path):
    frames = [(0.9, 1, value, face) for value, face in ((1, 0), (5, 1)) * 5]
    values, _ = openface.extract(write(tmp_path / "a.csv", frames), print)
    np.testing.assert_allclose(values, np.ones((1, 709)))


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(Absent, match="has no sure face in any of 5 frames"):
        openface.extract(write(tmp_path / "a.csv", [(0.1, 1, 0, 0)] * 5), print)
    with pytest.raises(DataError, match="lacks 1 columns of OpenFace 2, 'AU45_c' among them"):
        openface.extract(write(tmp_path / "a.csv", [], NAMES[:-1]), print)
    path = write(tmp_path / "a.csv", [(0.9, 1, "x", 0)])
    with pytest.raises(DataError, match="line 2, is not a line of OpenFace's"):
        openface.extract(path, print)
    with pytest.raises(DataError, match="cannot be read"):
        openface.extract(tmp_path / "absent.csv", print)


def test_a_real_line():
    path = SHARED / "media" / "openface22_one_frame.csv"
    if not path.exists():
        pytest.skip(NO_SHARED)
    values, times = openface.extract(path, print)
    assert values.shape == (1, 709)
    assert times[0] == 0
