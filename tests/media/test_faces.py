"""Faces: named columns, and coordinates from which the camera is taken out."""

import types

import numpy as np
import pytest
from media_files import NO_SHARED, SHARED
from scipy.spatial.transform import Rotation

from msa_jax.data.spec import parse_columns
from msa_jax.errors import DataError
from msa_jax.media import faces

MODEL = SHARED / "face_landmarker" / "face_landmarker.task"


def found(turned=None, scale=100.0, moved=(300.0, 200.0), names=("jawOpen", "eyeLookInLeft")):
    """A result as MediaPipe gives it, of a head turned before a camera that sees no perspective."""
    rng = np.random.default_rng(0)
    head = rng.normal(size=(478, 3))
    turned = turned or Rotation.identity()
    seen = turned.apply(head) * scale * (1, -1, -1)
    seen[:, :2] += moved
    points = [types.SimpleNamespace(x=x / 640, y=y / 360, z=z / 640) for x, y, z in seen]
    pose = np.eye(4)
    pose[:3, :3] = turned.as_matrix() * 1.1
    pose[:3, 3] = (1.0, 2.0, -30.0)
    scores = [types.SimpleNamespace(category_name=name, score=k + 0.25) for k, name in enumerate(names)]
    return types.SimpleNamespace(
        face_landmarks=[points], facial_transformation_matrixes=[pose], face_blendshapes=[scores]
    )


def test_columns_are_of_one_group_each():
    assert len(faces.COLUMNS) == len(set(faces.COLUMNS)) == 352
    assert len(faces._LOOKS) + len(faces._EXPRESSIONS) == 52


def test_turning_moving_and_nearing_change_the_pose_alone():
    plain = faces.features(found(), 640, 360)
    turned = Rotation.from_rotvec((0.2, -0.4, 0.3))
    other = faces.features(found(turned, scale=60.0, moved=(100.0, 90.0)), 640, 360)
    pose = [i for i, name in enumerate(faces.COLUMNS) if name in faces._POSE]
    np.testing.assert_allclose(np.delete(other, pose), np.delete(plain, pose), atol=1e-9)
    np.testing.assert_allclose(other[pose], [1, 2, -30, 0.2, -0.4, 0.3], atol=1e-9)
    place = dict(zip(faces.COLUMNS, plain, strict=True))
    assert (place["jawOpen"], place["eyeLookInLeft"], place["mouthLeft"]) == (0.25, 1.25, 0.0)
    corners = [[place[f"lid_{n}_{axis}"] for axis in "xyz"] for n in (33, 263)]
    assert np.linalg.norm(np.subtract(*corners)) == pytest.approx(1)


def test_a_missing_bundle_is_named_with_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    with pytest.raises(DataError, match=r"download face_landmarker\.task from"):
        faces.part(None, 10.0)
    with pytest.raises(DataError, match=r"none\.task cannot be read .*; download"):
        faces.part(tmp_path / "none.task", 10.0)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'msa_jax\[media\]'"):
        faces.part(None, 10.0)


@pytest.mark.extras
def test_a_real_face(tmp_path):
    if not MODEL.exists():
        pytest.skip(NO_SHARED)
    pytest.importorskip("mediapipe")
    clip = SHARED / "media" / "single_face.mp4"
    values, times = faces.extract(clip, MODEL, 5.0, print)
    assert values.shape == (12, 352)
    np.testing.assert_allclose(times, np.arange(12) / 5)
    part = faces.part(MODEL, 5.0)
    head = values[:, list(parse_columns(part.groups["face_lmk"]))].reshape(12, 56, 3)
    jaw = head[:, :17]
    np.testing.assert_allclose(jaw[:, 0, 0], -jaw[:, 16, 0], atol=0.15)  # ears left and right of the nose
    assert (jaw[:, 8, 1] < head[:, 45, 1]).all()  # the chin below the lower lip
    assert (np.abs(head[:, 27:31, 0]) < 0.1).all()  # the nose in the middle
    broken = tmp_path / "broken.task"
    broken.write_bytes(b"PK" + bytes(100))
    with pytest.raises(DataError, match="is no bundle of MediaPipe's face landmarker"):
        faces.extract(clip, broken, 5.0, print)
