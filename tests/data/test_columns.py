"""The columns of the public files, against an OpenFace file and the papers' totals."""

import csv

import pytest

from msa_jax.data import columns
from msa_jax.data.spec import ModalitySpec, parse_columns
from msa_jax.errors import DataError

# Zheng et al. 2024: the groups in order with their numbers of columns.
SIZES = {
    ("sims", "audio"): {"ZCR": 1, "MFCC": 20, "CQT": 12},
    ("sims", "vision"): {"Gaze": 8, "EyeLmk": 280, "HeadPose": 6, "FaceLmk": 340, "PDM": 40, "AU": 35},
    ("mosei", "audio"): {
        **dict.fromkeys(("F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope"), 1),
        **{"Rd": 2, "creak": 1, "MCEP": 25, "HMPDM": 25, "HMPDD": 13},
    },
}  # fmt: skip


@pytest.mark.parametrize(("key", "total"), list(zip(SIZES, (33, 709, 74), strict=True)))
def test_groups_cover_all_columns_once_in_order(key, total):
    groups = {name: parse_columns(text) for name, text in columns.KNOWN_GROUPS[key[0]][key[1]].items()}
    assert {name: len(at) for name, at in groups.items()} == SIZES[key]
    assert list(groups) == list(SIZES[key])
    assert [c for at in groups.values() for c in at] == list(range(total))
    assert len(columns.column_names(*key)) == total
    ModalitySpec(width=total, length=1, groups=groups)


@pytest.mark.parametrize(
    ("dataset", "modality", "group", "first", "last"),
    [
        ("sims", "audio", "ZCR", "ZCR", "ZCR"),
        ("sims", "audio", "MFCC", "MFCC_0", "MFCC_19"),
        ("sims", "audio", "CQT", "CQT_0", "CQT_11"),
        ("sims", "vision", "Gaze", "gaze_0_x", "gaze_angle_y"),
        ("sims", "vision", "EyeLmk", "eye_lmk_x_0", "eye_lmk_Z_55"),
        ("sims", "vision", "HeadPose", "pose_Tx", "pose_Rz"),
        ("sims", "vision", "FaceLmk", "x_0", "Z_67"),
        ("sims", "vision", "PDM", "p_scale", "p_33"),
        ("sims", "vision", "AU", "AU01_r", "AU45_c"),
        ("mosei", "audio", "F0", "F0", "F0"),
        ("mosei", "audio", "VUV", "VUV", "VUV"),
        ("mosei", "audio", "NAQ", "NAQ", "NAQ"),
        ("mosei", "audio", "QOQ", "QOQ", "QOQ"),
        ("mosei", "audio", "H1H2", "H1H2", "H1H2"),
        ("mosei", "audio", "PSP", "PSP", "PSP"),
        ("mosei", "audio", "MDQ", "MDQ", "MDQ"),
        ("mosei", "audio", "peakSlope", "peakSlope", "peakSlope"),
        ("mosei", "audio", "Rd", "Rd", "Rd_conf"),
        ("mosei", "audio", "creak", "creak", "creak"),
        ("mosei", "audio", "MCEP", "MCEP_0", "MCEP_24"),
        ("mosei", "audio", "HMPDM", "HMPDM_0", "HMPDM_24"),
        ("mosei", "audio", "HMPDD", "HMPDD_0", "HMPDD_12"),
    ],
)
def test_each_group_holds_its_names(dataset, modality, group, first, last):
    names = columns.column_names(dataset, modality)
    at = parse_columns(columns.KNOWN_GROUPS[dataset][modality][group])
    assert (names[at[0]], names[at[-1]]) == (first, last)


def test_sims_vision_is_what_openface_writes(shared_data):
    with open(shared_data / "media" / "openface22_one_frame.csv", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file))]
    assert header[:5] == ["frame", "face_id", "timestamp", "confidence", "success"]
    assert columns.column_names("sims", "vision") == header[5:]
    assert len(header) == 5 + 709


def test_mosi_audio_is_five_columns_of_covarep():
    assert columns.column_names("mosi", "audio") == ["VUV", "QOQ", "MDQ", "MCEP_14", "HMPDM_24"]


def test_unknown_columns():
    with pytest.raises(DataError, match=r"'mosei vision' are not known; known are sims audio"):
        columns.column_names("mosei", "vision")
