"""The report of a run: one HTML page that needs nothing but itself."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from msa_jax import metrics
from msa_jax.data.spec import THREE_CLASSES, DatasetSpec, format_columns
from msa_jax.files import write_whole
from msa_jax.metrics import METRIC_NAMES, NUMBERS
from msa_jax.reports import confusion, explorer, figures, robustness, targets, templates
from msa_jax.reports.run import HEAD_NAMES, Run, ordered, read_run
from msa_jax.robust.table import Measured
from msa_jax.training import watched


def write_report(workdir: str | pathlib.Path) -> pathlib.Path:
    """Writes ``report.html`` from the other files of a finished run; the same files, the same page.

    Returns:
      Where the page is.

    Raises:
      RunError: if a file is missing or damaged, or the page cannot be written.
    """
    folder = pathlib.Path(workdir)
    path = folder / "report.html"
    write_whole(
        path, render(read_run(folder), (folder / explorer.FILE).exists(), robustness.read(folder)).encode()
    )
    return path


def render(run: Run, has_explorer: bool = False, measured: Sequence[Measured] = ()) -> str:
    """The page as HTML.

    Args:
      run: what its folder holds.
      has_explorer: whether the explorer lies beside the page, which then points to it.
      measured: what the run reached under protocols of missing data.
    """
    target = targets.target_for(run.spec, run.config["model"])
    mapped = figures.embed(run.fusion)
    return templates.render(
        "report.html",
        model=run.config["model"].get("name", "model"),
        spec=run.spec,
        result=run.result,
        epochs=len(run.history),
        seed=run.config["train"].get("seed"),
        headline=_headline(run),
        score_table=_score_table(run, target),
        target_note=targets.TARGET_NOTE if target else "",
        left_out="" if run.classifies else metrics.left_out(run.spec.metrics, run.spec.label_range),
        best_reachable=bool(run.result.get("best_reachable")),
        losses=_loss_drawings(run),
        scatter=None if run.classifies else _scatter(run),
        confusion=_confusion(run),
        heads=_heads(run),
        explorer=explorer.FILE if has_explorer else "",
        robustness=[robustness.section(one, _headline_keys(run), format_value) for one in measured],
        tsne=_tsne(run, mapped) if mapped else None,
        min_points=figures.MIN_POINTS,
        modalities=_modalities(run.spec),
        config={name: _flat(block) for name, block in run.config.items()},
    )


def format_value(metric: str, value: Any) -> str:
    """A metric for a table: shares as percent, MAE, Corr and their like with three decimals, "–" for none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.3f}" if metric in NUMBERS else f"{100 * value:.2f} %"


def _headline(run: Run) -> list[tuple[str, str]]:
    """(name, value) of the figures at the top, on the test split."""
    return [
        (METRIC_NAMES[key], format_value(key, run.result["test"].get(key))) for key in _headline_keys(run)
    ]


def _headline_keys(run: Run) -> tuple[str, ...]:
    """Two-class accuracy, MAE and Corr; of classes the accuracies and F1."""
    if run.classifies:
        three = run.class_names == THREE_CLASSES
        return ("acc3", "f1_3", "acc2_non0") if three else ("accuracy", "f1_weighted", "f1_macro")
    keys = metrics.regression_keys(run.spec.metrics, run.spec.label_range)
    return ("mae", "corr", "ccc") if "ccc" in keys else tuple(dict.fromkeys((keys[0], "mae", "corr")))


def _score_table(run: Run, target: Mapping[str, float]) -> dict[str, list]:
    """The metric table: a row per metric, a column per source of figures."""
    columns = {"test": run.result["test"], "validation": run.result["valid"]}
    if best := run.result.get(watched.RESULT):
        columns[watched.LABEL] = best["test"]
    if run.result.get("best_reachable"):
        columns["best reachable, test"] = run.result["best_reachable"]
    if target:
        columns[targets.TARGET_NAME] = target
    keys = metrics.regression_keys(run.spec.metrics, run.spec.label_range)
    if run.classifies:
        keys = metrics.classification_keys(run.class_names)
    if run.classifies and run.class_names == THREE_CLASSES:  # Acc-3 and its F1 have names of their own
        keys = tuple(key for key in keys if key not in ("accuracy", "f1_weighted"))
        keys = (*keys, "acc2_non0_compat", "f1_non0_compat")
    rows = [(METRIC_NAMES[key], [format_value(key, c.get(key)) for c in columns.values()]) for key in keys]
    return {"columns": list(columns), "rows": rows}


def _series(run: Run, split: str, key: str) -> list[float]:
    """One number per epoch; NaN where an epoch has none."""
    values = [row[split].get(key) for row in run.history]
    return [float(v) if isinstance(v, int | float) and math.isfinite(v) else math.nan for v in values]


def _loss_drawings(run: Run) -> list[figures.Drawing]:
    epochs, best = [row["epoch"] for row in run.history], run.result["best_epoch"]
    # In "valid" the terms are named loss_<term>, to tell them from the metrics.
    terms = ordered(key for key in run.history[0]["train"] if key != "loss")
    total = {split: {"loss": _series(run, split, "loss")} for split in ("train", "valid")}
    parts = {
        "train": {term: _series(run, "train", term) for term in terms},
        "valid": {term: _series(run, "valid", f"loss_{term}") for term in terms},
    }
    key = _headline_keys(run)[0] if run.classifies else "mae"
    name = METRIC_NAMES[key]
    score = {"train": {}, "valid": {name: _series(run, "valid", key)}}
    meaning = (
        "Share of clips whose class is right."
        if run.classifies
        else "Mean absolute error of the final prediction, in label units."
    )
    drawings = [
        figures.Drawing(
            "Loss",
            "All terms together, as trained. The dotted line marks the epoch whose model was kept.",
            _draw("loss", "Training and validation loss by epoch", epochs, total, best, "loss"),
        ),
        figures.Drawing(
            f"Validation {name}",
            meaning,
            _draw("score", f"Validation {name} by epoch", epochs, score, best, name),
        ),
    ]
    if terms:
        caption = "Each term of the loss, unweighted: solid on the training split, dashed on validation."
        drawing = _draw("terms", "Terms of the loss by epoch", epochs, parts, best, "loss term")
        drawings.append(figures.Drawing("Loss by task", caption, drawing))
    return drawings


def _draw(
    name: str, description: str, epochs: list[int], lines: Mapping[str, Mapping], best: int, ylabel: str
) -> Markup:
    painted = figures.draw(
        name, description, figures.curves, epochs, lines["train"], lines["valid"], best, ylabel
    )
    return Markup(painted)


def _scatter(run: Run) -> figures.Drawing:
    prediction = run.predictions["M"]
    shown = min(len(run.label), figures.MAX_POINTS)
    dots = "single clips" if shown == len(run.label) else f"{shown} of them, drawn at random"
    svg = figures.draw(
        "scatter",
        f"Predicted against true scores of {len(run.label)} test clips",
        figures.scatter,
        run.label,
        prediction,
        run.spec.label_range,
    )
    caption = f"The stronger a cell's colour, the more of the {len(run.label)} test clips; dots are {dots}. "
    return figures.Drawing(
        "Predicted and true scores", caption + "The dashed line is where both agree.", Markup(svg)
    )


def _tsne(run: Run, mapped: tuple[np.ndarray, np.ndarray]) -> figures.Drawing:
    rows, places = mapped
    svg = figures.draw(
        "tsne",
        f"Map of the fused features of {len(rows)} test clips, coloured by what is true of them",
        figures.tsne,
        places,
        run.label[rows],
        run.spec.label_range,
        "true score",
        run.class_names if run.classifies else (),
    )
    total = len(run.label)
    shown = f"all {total}" if len(rows) == total else f"{len(rows)} of {total}"
    colour = "their true class" if run.classifies else "their true score"
    caption = f"t-SNE of {shown} test clips, coloured by {colour}. Distances between groups mean little."
    return figures.Drawing("Fused features", caption, Markup(svg))


def _confusion(run: Run) -> list[Mapping[str, Any]]:
    """One table per class count: rows of (count, share of the row)."""
    names = run.class_names if run.classifies else ()
    found = confusion.matrices(run.spec.metrics, run.spec.label_range, names, run.label, run.predictions["M"])
    return [confusion.as_table(*matrix) for matrix in found.values()]


def _heads(run: Run) -> list[tuple[str, list[str]]]:
    """Per prediction of the model its test scores against the clip's own label; empty if only one."""
    if len(run.predictions) == 1 or run.classifies:
        return []
    keys = _headline_keys(run)
    rows = []
    for name in ordered(run.predictions):
        scores = metrics.regression_metrics(
            run.spec.metrics, run.predictions[name], run.label, run.spec.label_range
        )
        rows.append((HEAD_NAMES.get(name, name), [format_value(key, scores[key]) for key in keys]))
    return rows


def _modalities(spec: DatasetSpec) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "length": modality.length,
            "width": modality.width,
            "groups": [(group, len(c), format_columns(c)) for group, c in modality.groups.items()],
        }
        for name, modality in spec.modalities.items()
    ]


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """(dotted key, value as JSON) of a nested block."""
    if not isinstance(value, dict) or not value:
        return [(prefix, json.dumps(value, ensure_ascii=False))]
    return [
        row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    ]
