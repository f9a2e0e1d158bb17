"""Faces to features: MediaPipe's landmarks, expressions and pose in five named groups.

The groups follow the six of OpenFace's columns in Zheng et al. 2024. Landmarks are in the head's own
coordinates: the pose is taken out and the distance of the eyes' outer corners is 1, so that neither the
camera's distance nor its angle is read as a mood. Both are in the group head_pose alone.
"""

import hashlib
import importlib.metadata
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from msa_jax.data.recipe import Part
from msa_jax.data.spec import format_columns
from msa_jax.errors import DataError
from msa_jax.media import decode

#: MediaPipe's mesh numbers: the irises, the lids from the outer corner along the lower lid and back, and the
#: jaw, brows, nose and mouth of the usual 68 points (which count the eyes too, here with the lids).
_IRIS = tuple(range(468, 478))
_RIGHT_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_LEFT_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_FACE = (
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # mouth, outside
    *(78, 82, 13, 312, 308, 317, 14, 87),  # mouth, inside
)
_OUTER_CORNERS = (33, 263)
_LOOKS = tuple(f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up") for side in ("Left", "Right"))
#: MediaPipe's other 44 scores, in its order.
_EXPRESSIONS = (
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff"),
    *("cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft"),
    *("eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight"),
    *("mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight"),
    *("mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft"),
    *("mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft"),
    *("mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
    "_neutral",
)
_POSE = ("move_x", "move_y", "move_z", "turn_x", "turn_y", "turn_z")
MODEL = "face-model"
_WHERE = (
    "download face_landmarker.task from ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker and "
    "name it with --face-model, or leave faces out with --vision=none"
)


def _points(name: str, numbers: tuple[int, ...]) -> list[str]:
    return [f"{name}_{number}_{axis}" for number in numbers for axis in "xyz"]


_GROUPS = {
    "gaze": _LOOKS,
    "eye_lmk": (*_points("iris", _IRIS), *_points("lid", _RIGHT_LID + _LEFT_LID)),
    "head_pose": _POSE,
    "face_lmk": tuple(_points("face", _FACE)),
    "expression": _EXPRESSIONS,
}
COLUMNS = tuple(name for names in _GROUPS.values() for name in names)


def part(model: pathlib.Path | None, fps: float) -> Part:
    """The recipe.

    Args:
      model: MediaPipe's model bundle for face landmarks.
      fps: frames looked at per second.

    Raises:
      DataError: if the package or the bundle is missing.
    """
    if importlib.util.find_spec("mediapipe") is None:
        raise DataError("mediapipe is not here; it comes with the extra: pip install 'msa_jax[media]'.")
    if model is None:
        raise DataError(f"faces need MediaPipe's model bundle: {_WHERE}.")
    try:
        content = model.read_bytes()
    except OSError as error:
        raise DataError(f"{model} cannot be read ({error.strerror}); {_WHERE}.") from error
    groups: dict[str, str] = {}
    start = 0
    for name, names in _GROUPS.items():
        groups[name] = format_columns(tuple(range(start, start + len(names))))
        start += len(names)
    return Part(
        "mediapipe",
        {"mediapipe": importlib.metadata.version("mediapipe")},
        {"fps": fps},
        {MODEL: hashlib.sha256(content).hexdigest()},
        COLUMNS,
        groups,
        {MODEL: str(model.absolute())},
    )


def extract(
    path: pathlib.Path, model: pathlib.Path, fps: float, note: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray]:
    """A clip's face, at ``fps`` frames per second; the first that is found is followed.

    Frames without a face have no step.

    Returns:
      float32 [T, 388], and the seconds [T] of the steps.

    Raises:
      Absent: if the clip has no video, or none with a face.
      DataError: if it is damaged, or the bundle is not MediaPipe's.
    """
    rows, times, looked = [], [], 0
    with _landmarker(model) as landmarker:
        for number, (time, picture) in enumerate(decode.frames(path, fps, note)):
            looked += 1
            found = landmarker.detect_for_video(_image(picture), round(1000 * number / fps))
            if found.face_landmarks:
                rows.append(features(found, picture.shape[1], picture.shape[0]))
                times.append(time)
    if not rows:
        raise decode.Absent(f"{path} shows no face in any of {looked} frames")
    if len(rows) < looked:
        note(f"{looked - len(rows)} of {looked} frames show no face and have no step")
    return np.stack(rows).astype(np.float32), np.array(times)


def features(found: Any, width: int, height: int) -> np.ndarray:
    """What MediaPipe found in one frame, as the columns of :data:`COLUMNS`.

    Args:
      found: its result, with landmarks as shares of width and height (depth as a share of the width).
      width: of the frame, in pixels.
      height: of it.
    """
    from scipy.spatial.transform import Rotation

    scores = {category.category_name: category.score for category in found.face_blendshapes[0]}
    pose = np.asarray(found.facial_transformation_matrixes[0], np.float64)
    turned = Rotation.from_matrix(_orthogonal(pose[:3, :3]))
    # x to the right, y up, z to the camera, as the pose has them; images count down, and depth away.
    points = np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]], np.float64)
    points *= (width, -height, -width)
    corners = points[list(_OUTER_CORNERS)]
    head = turned.inv().apply(points - corners.mean(axis=0))
    head /= max(float(np.linalg.norm(corners[0] - corners[1])), 1e-9)
    return np.concatenate(
        [
            [scores.get(name, 0.0) for name in _LOOKS],
            head[list(_IRIS + _RIGHT_LID + _LEFT_LID)].reshape(-1),
            pose[:3, 3],
            turned.as_rotvec(),
            head[list(_FACE)].reshape(-1),
            [scores.get(name, 0.0) for name in _EXPRESSIONS],
        ]
    )


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to a matrix that also scales."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right


def _landmarker(model: pathlib.Path) -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode.VIDEO,
        num_faces=1,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    try:
        return vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{model} is no bundle of MediaPipe's face landmarker; {_WHERE}.") from error


def _image(picture: np.ndarray) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
