"""Scores clips with a trained model.

    msa-jax predict --workdir=RUN --input=FILE [--split=test] [--format=jsonl] [--out=FILE]

FILE is a feature pickle (all splits, some, one, or a single clip; labels are not needed) or a store. Each
clip gives a line: its split where the file has several, its id, score, class (negative, neutral or
positive, as Acc-3 of the data's metrics counts; none where scores have no sign), and the score of each
modality alone where the model has them; a classifier gives the probabilities of its classes in place of
the score. What else there is to say goes to the standard error output.
"""

import csv
import io
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_jax import messages, metrics
from msa_jax.commands.usage import Parser
from msa_jax.data import unlabelled
from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES, SPLITS, THREE_CLASSES, DatasetSpec
from msa_jax.files import check_target, write_whole
from msa_jax.messages import LOGGER

#: A line of the answer.
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """The command."""
    parser = Parser(
        "predict",
        "Scores clips with a finished run: one line per clip. Labels are not needed.",
        ["predict --workdir=runs/first --input=clips.pkl --out=scores.csv"],
    )
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--input",
        required=True,
        type=pathlib.Path,
        metavar="FILE",
        help="feature pickle (splits, one split, or one clip) or store",
    )
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="all", help="default: all that are there"
    )
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="default: the standard output")
    options = parser.parse_args(argv)
    messages.set_up(options, answers=True)
    if options.out is not None:
        check_target("--out", options.out, options.input, options.workdir)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.inference import Trained
    from msa_jax.training import build, pretrained

    build.use_compile_cache("")
    trained = Trained(options.workdir)
    tuned = pretrained.is_tuned(trained.config.model)
    splits, notes = trained.read(options.input, options.split)
    rule = "" if trained.config.model.compat else "; they count as 0"
    notes += [
        f"{broken}{rule}." for broken in unlabelled.broken_values(splits, MODALITIES[1 if tuned else 0 :])
    ]
    for note in notes:
        LOGGER.info("note: %s", note)
    rows: list[Row] = []
    for name, split in splits.items():
        start = {"split": name} if len(splits) > 1 else {}
        rows += [start | row for row in answers(split, trained.predict(split), trained.model_spec)]
    if strange := sum(not all(math.isfinite(v) for v in row.values() if type(v) is float) for row in rows):
        LOGGER.warning("%d clips have a score that is not finite.", strange)
    text = as_csv(rows) if options.format == "csv" else as_jsonl(rows)
    _deliver(text.encode("utf-8", "backslashreplace"), options.out, len(rows))


def answers(split: Split, predictions: Mapping[str, np.ndarray], spec: DatasetSpec) -> list[Row]:
    """One row per clip.

    Args:
      split: N clips, for their ids.
      predictions: per task float32 scores [N], or logits [N, K]; "M" is the clip's own.
      spec: of the model's data set: the names of the K classes, and which scores are neutral.

    Returns:
      Rows of "id", then "score", "class" and "score_T", ... for scores; "class", "probability_negative", ...
      and "class_T", ... for logits.
    """
    final = predictions["M"]
    columns: dict[str, Any] = {"id": split.ids.tolist()}
    others = {task: y for task, y in predictions.items() if task != "M"}
    if final.ndim == 1:
        columns["score"] = final.tolist()
        if spec.class_edges is not None:
            classes = metrics.sentiment_of(final, spec.metrics, spec.class_edges)
            columns["class"] = _named(classes, np.isfinite(final), THREE_CLASSES)
        columns |= {f"score_{task}": y.tolist() for task, y in others.items()}
    else:
        names = spec.class_names or THREE_CLASSES  # older runs have three classes and no names
        powers = np.exp(final - final.max(axis=1, keepdims=True), dtype=np.float64)
        shares = powers / powers.sum(axis=1, keepdims=True)
        columns["class"] = _named(final.argmax(axis=1), np.isfinite(final).all(axis=1), names)
        columns |= {
            f"probability_{name}": share.tolist() for name, share in zip(names, shares.T, strict=True)
        }
        for task, y in others.items():
            columns[f"class_{task}"] = _named(y.argmax(axis=1), np.isfinite(y).all(axis=1), names)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _named(classes: np.ndarray, known: Any, names: tuple[str, ...]) -> list[str | None]:
    return [names[k] if sure else None for k, sure in zip(classes, known, strict=True)]


def as_csv(rows: list[Row]) -> str:
    """A header and a line per row; numbers with the nine digits that make a float32 exact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([f"{v:.9g}" if type(v) is float else v for v in row.values()] for row in rows)
    return text.getvalue()


def as_jsonl(rows: list[Row]) -> str:
    """A JSON object per row; a score that is not finite is null."""

    def plain(value: Any) -> Any:
        if type(value) is not float:
            return value
        return float(f"{value:.9g}") if math.isfinite(value) else None

    lines = ({key: plain(value) for key, value in row.items()} for row in rows)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _deliver(content: bytes, out: pathlib.Path | None, clips: int) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        return
    write_whole(out, content, "make room, or name another file with --out")
    LOGGER.info("wrote %s: %d clips", out, clips)
