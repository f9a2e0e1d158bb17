"""The best test epoch: what published tables tell that pick the epoch by the test split.

``train.watch_test`` records the test scores of every epoch. They pick no model and stop nothing; at the end
the best of them is told beside the result, under a name that says what it is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax import metrics

#: What the best test epoch is called wherever it is shown.
LABEL = "best test epoch (as published tables; not a fair estimate)"
#: Its key in ``result.json``, and that of an epoch's test scores in ``metrics.jsonl``.
RESULT, ROW = "best_test_epoch", "watched_test"


def best_test_epoch(history: Sequence[Mapping[str, Any]], monitor: str) -> dict[str, Any]:
    """The epoch with the best test score, of several the first.

    Args:
      history: the rows of ``metrics.jsonl``, each with test scores.
      monitor: the score that picks, which is also the one that picks by the validation split.

    Returns:
      "label", what it is; "epoch", from 1; "picked_by", the score; "test", all test scores of the epoch.
    """
    sign = 1 if monitor in metrics.LOWER_IS_BETTER else -1

    def rank(row: Mapping[str, Any]) -> float:
        value = row[ROW].get(monitor)
        return sign * value if value is not None and math.isfinite(value) else math.inf

    best = min(history, key=rank)
    return {"label": LABEL, "epoch": best["epoch"], "picked_by": monitor, "test": dict(best[ROW])}
