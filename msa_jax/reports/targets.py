"""The figures that a run is measured against: the headline of Cai et al. 2025."""

#: UFEN+MTFN as printed in Tables 3 (CMU-MOSI), 4 (CMU-MOSEI) and 5 (CH-SIMS) of Cai et al. 2025,
#: under our metric names; shares as fractions. The tables have no Acc-3 and Acc-5 for the first two.
CAI_2025 = {
    "mosi": {
        "acc2_has0": 0.852,
        "f1_has0": 0.852,
        "acc2_non0": 0.866,
        "f1_non0": 0.867,
        "acc7": 0.467,
        "mae": 0.728,
        "corr": 0.792,
    },
    "mosei": {
        "acc2_has0": 0.848,
        "f1_has0": 0.849,
        "acc2_non0": 0.860,
        "f1_non0": 0.858,
        "acc7": 0.545,
        "mae": 0.535,
        "corr": 0.760,
    },
    "sims": {"acc2": 0.8156, "f1": 0.8127, "acc3": 0.6777, "acc5": 0.4520, "mae": 0.423, "corr": 0.583},
}
#: How the table's column is headed, and what a reader should know of it.
TARGET_NAME = "UFEN+MTFN, Cai et al. 2025"
TARGET_NOTE = "A run on frozen text features is not expected to reach the paper's headline figures."


def target_for(spec_name: str, task: str = "regression") -> dict[str, float]:
    """The published figures for a data set.

    Args:
      spec_name: the data set's name; "mosi", "mosei" and "sims" have figures.
      task: the article has figures for regression only.

    Returns:
      Our metric key -> value (fractions, MAE in label units); empty for any other data set.
    """
    return dict(CAI_2025.get(spec_name, {})) if task == "regression" else {}
