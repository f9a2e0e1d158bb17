"""The field's metrics for sentiment scores, and for classes.

The definitions are those that MMSA users compare by, on CMU-MOSI and CMU-MOSEI (metric set
"mosi") and on CH-SIMS (metric set "sims"); scores of any other kind have the metric set "plain". All
values are fractions, unrounded float64, and every comparison happens in float32, where a label of 0.1
lies exactly on a bin edge of 0.1. Nothing here knows a model.

Metrics that ask for a score's sign, or for classes around 0, mean nothing where 0 does not lie inside
the label range (scores of 1 to 5, say): they are left out there (:func:`left_out`).
"""

from msa_jax.metrics.classification import (
    CLASSIFICATION_KEYS,
    classification_keys,
    classification_metrics,
)
from msa_jax.metrics.counting import accuracy, confusion, macro_f1, weighted_f1
from msa_jax.metrics.regression import RegressionSums, confusion_matrices, regression_metrics
from msa_jax.metrics.resampled import resampled_classification, resampled_regression
from msa_jax.metrics.sets import (
    CLASS_NAMES,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    NUMBERS,
    REGRESSION_KEYS,
    left_out,
    regression_keys,
    score_classes,
    sentiment_of,
)

__all__ = [
    "CLASSIFICATION_KEYS",
    "CLASS_NAMES",
    "LOWER_IS_BETTER",
    "METRIC_NAMES",
    "NUMBERS",
    "PEER_NAMES",
    "REGRESSION_KEYS",
    "RegressionSums",
    "accuracy",
    "classification_keys",
    "classification_metrics",
    "confusion",
    "confusion_matrices",
    "left_out",
    "macro_f1",
    "regression_keys",
    "regression_metrics",
    "resampled_classification",
    "resampled_regression",
    "score_classes",
    "sentiment_of",
    "weighted_f1",
]

#: What MMSA calls our metrics. It has no name for Acc-3 on MOSI and MOSEI, which it never reports.
PEER_NAMES = {
    "mosi": {
        "acc2_has0": "Has0_acc_2",
        "f1_has0": "Has0_F1_score",
        "acc2_non0": "Non0_acc_2",
        "f1_non0": "Non0_F1_score",
        "acc5": "Mult_acc_5",
        "acc7": "Mult_acc_7",
        "mae": "MAE",
        "corr": "Corr",
    },
    "sims": {
        "acc2": "Mult_acc_2",
        "f1": "F1_score",
        "acc3": "Mult_acc_3",
        "acc5": "Mult_acc_5",
        "mae": "MAE",
        "corr": "Corr",
    },
    "classification": {
        "acc3": "Acc_3",
        "f1_3": "F1_score_3",
        "acc2_has0": "Has0_acc_2",
        "f1_has0": "Has0_F1_score",
        "acc2_non0_compat": "Non0_acc_2",
        "f1_non0_compat": "Non0_F1_score",
    },
}
