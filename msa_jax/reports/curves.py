"""Scores over time, drawn."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax.data.spec import DatasetSpec

#: Of the picture file.
SUFFIXES = (".png", ".svg", ".pdf")
#: Clips that one picture shows.
_MOST = 12
_NAMES = {"score": "all", "score_T": "text", "score_A": "sound", "score_V": "faces"}


def draw(rows: Sequence[Mapping[str, Any]], path: pathlib.Path, spec: DatasetSpec) -> None:
    """Draws the score of every clip over time, and those of the single modalities where there are any.

    Args:
      rows: of ``predict --window``: "id", "start", "end" and scores or probabilities.
      path: the picture, with one of :data:`SUFFIXES`.
      spec: of the model's data, for the range of scores.
    """
    import matplotlib.figure

    names = list(dict.fromkeys(row["id"] for row in rows))[:_MOST]
    figure = matplotlib.figure.Figure(figsize=(8, 2.4 * len(names)), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(len(names), 1, number)
        mine = [row for row in rows if row["id"] == name]
        middles = [(row["start"] + row["end"]) / 2 for row in mine]
        for key, label in _lines(mine[0]).items():
            axes.plot(
                middles, [row[key] for row in mine], label=label, lw=2 if key == "score" else 1, marker="."
            )
        if "score" in mine[0]:
            axes.set_ylim(*spec.label_range)
            axes.axhline(0, color="grey", lw=0.5)
        axes.set(title=name, ylabel="score" if "score" in mine[0] else "probability")
        axes.legend(fontsize="small", loc="upper right")
    axes.set_xlabel("seconds")
    figure.savefig(path, dpi=150)


def _lines(row: Mapping[str, Any]) -> dict[str, str]:
    """The columns that are drawn, and what they are called."""
    scores = {key: label for key, label in _NAMES.items() if key in row}
    start = "probability_"
    return scores or {key: key.removeprefix(start) for key in row if key.startswith(start)}
