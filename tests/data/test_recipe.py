"""Recipes: stored whole, and compared by name."""

import dataclasses
import json

import pytest

from msa_jax.data.recipe import Part, differences
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import DataError

FACES = Part(
    "mediapipe",
    {"mediapipe": "1.2.3"},
    {"fps": 10.0},
    {"face-model": "64184e22" * 8},
    ("a", "b"),
    {"gaze": "0", "rest": "1"},
    {"face-model": "models/face.task"},
)


def with_(**changed):
    return {"vision": dataclasses.replace(FACES, **changed)}


def test_a_description_keeps_its_recipe():
    modalities = {m: ModalitySpec(2, 3) for m in ("text", "audio", "vision")}
    spec = DatasetSpec("mine", modalities, (-1.0, 1.0), "sims", recipe={"vision": FACES})
    assert DatasetSpec.from_json(spec.to_json()) == spec
    record = json.loads(spec.to_json())
    del record["recipe"]
    assert DatasetSpec.from_json(json.dumps(record)).recipe == {}
    for broken in (1, {"extractor": 2}, {"extractor": "x", "packages": [1]}):
        with pytest.raises(DataError):
            DatasetSpec.from_json(json.dumps(record | {"recipe": {"audio": broken}}))


@pytest.mark.parametrize(
    ("changed", "grave", "slight"),
    [
        ({}, [], []),
        ({"provenance": {}}, [], []),
        ({"packages": {"mediapipe": "1.2.4"}}, [], ["vision: mediapipe 1.2.4, trained with 1.2.3"]),
        ({"packages": {"mediapipe": "1.3.0"}}, ["vision: mediapipe 1.3.0, trained with 1.2.3"], []),
        ({"arguments": {"fps": 25.0}}, ["vision: fps 25.0, trained with 10.0"], []),
        ({"files": {}}, ["vision: face-model nothing, trained with 64184e226418"], []),
        ({"extractor": "openface"}, ["vision: extractor openface, trained with mediapipe"], []),
        ({"columns": ("a",)}, ["vision: columns 1 others, trained with 2 of them"], []),
    ],
)
def test_what_differs_is_named(changed, grave, slight):
    assert differences({"vision": FACES}, with_(**changed)) == (grave, slight)


def test_a_modality_that_one_does_not_name_is_not_compared():
    assert differences({"vision": FACES}, {}) == ([], [])
    assert differences({}, {"vision": FACES}) == ([], [])
    assert FACES.title() == "mediapipe (mediapipe 1.2.3; fps 10.0)"
