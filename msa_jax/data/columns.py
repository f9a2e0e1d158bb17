"""What the feature columns of the public files are: names and named groups (sub-features).

The groups are those of Zheng et al. 2024. Columns are 0-based and ranges include both ends, as
:func:`msa_jax.data.spec.parse_columns` reads them. A file that was extracted anew may order its
columns otherwise: the groups are a setting of the configuration, and these are its defaults.
"""

from msa_jax.errors import DataError, nearest

#: CH-SIMS audio, 33 columns (librosa): zero-crossing rate, MFCC, constant-Q chromagram. The first is
#: called "log F0" in some papers, after a misleading name in the extraction code.
SIMS_AUDIO = {"ZCR": "0", "MFCC": "1-20", "CQT": "21-32"}

#: CH-SIMS vision, 709 columns: all that OpenFace 2 writes after its five columns of bookkeeping.
SIMS_VISION = {
    "Gaze": "0-7",
    "EyeLmk": "8-287",
    "HeadPose": "288-293",
    "FaceLmk": "294-633",
    "PDM": "634-673",
    "AU": "674-708",
}

#: CMU-MOSEI audio, 74 columns (COVAREP). The confidence of Rd has no group of its own in the paper.
MOSEI_AUDIO = {
    "F0": "0",
    "VUV": "1",
    "NAQ": "2",
    "QOQ": "3",
    "H1H2": "4",
    "PSP": "5",
    "MDQ": "6",
    "peakSlope": "7",
    "Rd": "8-9",
    "creak": "10",
    "MCEP": "11-35",
    "HMPDM": "36-60",
    "HMPDD": "61-73",
}

#: Facial action units: all have a presence (0 or 1), all but number 28 an intensity (0 to 5).
_ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)


def _numbered(names: str, count: int) -> list[str]:
    return [f"{name}_{i}" for name in names.split() for i in range(count)]


def _openface() -> list[str]:
    return [
        *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
        *("gaze_angle_x", "gaze_angle_y"),
        *_numbered("eye_lmk_x eye_lmk_y eye_lmk_X eye_lmk_Y eye_lmk_Z", 56),
        *(f"pose_{part}{axis}" for part in "TR" for axis in "xyz"),
        *_numbered("x y X Y Z", 68),
        *("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"),
        *_numbered("p", 34),
        *(f"AU{unit:02}_r" for unit in _ACTION_UNITS if unit != 28),
        *(f"AU{unit:02}_c" for unit in _ACTION_UNITS),
    ]


def _covarep() -> list[str]:
    single = ["F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope", "Rd", "Rd_conf", "creak"]
    return [*single, *_numbered("MCEP HMPDM", 25), *_numbered("HMPDD", 13)]


def _librosa() -> list[str]:
    return ["ZCR", *_numbered("MFCC", 20), *_numbered("CQT", 12)]


_NAMES = {
    ("sims", "audio"): _librosa,
    ("sims", "vision"): _openface,
    ("mosei", "audio"): _covarep,
    # The five columns that the publishers of CMU-MOSI's features selected.
    ("mosi", "audio"): lambda: [_covarep()[column] for column in (1, 3, 6, 25, 60)],
}

#: The public data sets by their (audio, vision) widths, with what is known of their columns.
KNOWN_WIDTHS = {(33, 709): "sims", (74, 35): "mosei", (5, 20): "mosi"}
#: The scores that their labels may have.
LABEL_RANGES = {"sims": (-1.0, 1.0), "mosei": (-3.0, 3.0), "mosi": (-3.0, 3.0)}
KNOWN_GROUPS = {
    "sims": {"audio": SIMS_AUDIO, "vision": SIMS_VISION},
    "mosei": {"audio": MOSEI_AUDIO},
    "mosi": {},
}


def column_names(dataset: str, modality: str) -> list[str]:
    """The columns of a public feature file, in order.

    Args:
      dataset: "sims" (also its version 2), "mosei" or "mosi".
      modality: "audio" or "vision"; what the vision columns of MOSEI and MOSI are, was never published.

    Raises:
      DataError: if nobody knows the names.
    """
    if (dataset, modality) not in _NAMES:
        known = [" ".join(pair) for pair in _NAMES]
        wanted = f"{dataset} {modality}"
        raise DataError(
            f"the column names of {wanted!r} are not known; known are {', '.join(known)}."
            f"{nearest(wanted, known)}"
        )
    return _NAMES[dataset, modality]()
