"""Scores clips with a trained model.

    msa-jax predict --workdir=RUN --input=FILE [--split=test] [--format=jsonl] [--out=FILE]
    msa-jax predict --workdir=RUN --input=CLIPS [--window=4 --stride=1 [--plot=FILE]]

FILE is a feature pickle (all splits, some, one, or a single clip; labels are not needed) or a store. CLIPS is
a media file, a folder of such or a manifest: features are made by the recipe of the run's training data. With
a window each of its places gives a line, with the words in it.

Each clip gives a line: its split where the file has several, its id, score, class (negative, neutral or
positive, as Acc-3 of the data's metrics counts; none where scores have no sign), and the score of each
modality alone where the model has them; a classifier gives the probabilities of its classes in place of
the score. What else there is to say goes to the standard error output.
"""

import argparse
import csv
import io
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from msa_jax import messages, metrics
from msa_jax.commands.usage import Parser, add_run_and_clips
from msa_jax.data import unlabelled
from msa_jax.data.dataset import Split
from msa_jax.data.spec import MODALITIES, THREE_CLASSES, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.files import check_target, write_whole
from msa_jax.media import is_media
from msa_jax.messages import LOGGER
from msa_jax.reports import curves

if TYPE_CHECKING:
    from msa_jax.inference import Trained

#: Models that media need, by the option that names where they lie now.
ROLES = {
    "face-model": "MediaPipe's face_landmarker.task, where it is not where it was in training",
    "encoder": "the text encoder, likewise",
    "asr": "Whisper model (CTranslate2) for clips without a transcript",
}
#: A line of the answer.
Row = dict[str, Any]


def main(argv: list[str]) -> int:
    """The command; returns 1 if a clip could not be scored."""
    parser = Parser(
        "predict",
        "Scores clips with a finished run: one line per clip. Labels are not needed.",
        ["predict --workdir=runs/first --input=clips.pkl --out=scores.csv"],
    )
    add_run_and_clips(parser)
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="default: the standard output")
    parser.add_argument(
        "--explain", action="store_true", help="say why too, as msa-jax explain does; with --format=jsonl"
    )
    media = parser.add_argument_group("for media")
    for role, what in ROLES.items():
        media.add_argument(f"--{role}", type=pathlib.Path, metavar="PATH", help=what)
    media.add_argument("--window", type=float, metavar="S", help="score over time: seconds looked at")
    media.add_argument("--stride", type=float, metavar="S", help="from a window to the next (default: 1)")
    media.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="the curves, as PNG, SVG or PDF")
    options = parser.parse_args(argv)
    messages.set_up(options, answers=True)
    for option in ("out", "plot"):
        if (target := getattr(options, option)) is not None:
            check_target(f"--{option}", target, options.input, options.workdir)
    if options.explain and (options.format != "jsonl" or options.window is not None):
        raise ConfigError("--explain needs --format=jsonl and goes with no --window; correct one of them.")
    from_media = is_media(options.input)
    _check_media_options(options, from_media)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.inference import Trained
    from msa_jax.training import build, pretrained

    build.use_compile_cache("")
    trained = Trained(options.workdir)
    if from_media:
        return _from_media(trained, options)
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
        found = answers(split, trained.predict(split), trained.model_spec)
        rows += [start | row for row in _with_reasons(found, trained, split, options)]
    _write(rows, options)
    return 0


def _check_media_options(options: argparse.Namespace, from_media: bool) -> None:
    """Refuses options that have nothing to act on.

    Raises:
      ConfigError: for such options.
    """
    given = [name for name in (*ROLES, "window", "stride", "plot") if _value(options, name) is not None]
    if options.explain and "encoder" in given:  # whose vocabulary has the words of the features
        given.remove("encoder")
    if given and not from_media:
        raise ConfigError(f"--{given[0]} is for media, and {options.input} holds features; leave it out.")
    if from_media and options.split != "all":
        raise ConfigError("--split is for feature files; list the clips that are wanted in a manifest.")
    for name in ("stride", "plot"):
        if _value(options, name) is not None and options.window is None:
            raise ConfigError(f"--{name} goes with --window; name one, in seconds.")
    if options.plot is not None and options.plot.suffix.lower() not in curves.SUFFIXES:
        known = ", ".join(curves.SUFFIXES)
        raise ConfigError(f"--plot={options.plot} ends in none of {known}; name such a file.")
    for name in ("window", "stride"):
        value = _value(options, name)
        if value is not None and not 0.05 <= value <= 3600:
            raise ConfigError(f"--{name}={value:g} is not between 0.05 and 3600 seconds.")


def _value(options: argparse.Namespace, name: str) -> Any:
    return getattr(options, name.replace("-", "_"))


def _from_media(trained: "Trained", options: argparse.Namespace) -> int:
    """Extracts and scores clips; returns 1 if a clip failed."""
    from msa_jax.media import fresh

    places = {role: _value(options, role) for role in ROLES}
    made = fresh.extract(options.input, *trained.plan(places))
    for reason in made.failed.values():
        LOGGER.warning("%s", reason)
    for clip in made.clips:
        for modality, note in made.features[clip.id].notes:
            LOGGER.info("note: %s: %s: %s.", clip.id, modality, note)
    spec = trained.model_spec
    if options.window is None:
        split = trained.split_of(made)
        rows = _with_reasons(answers(split, trained.predict(split), spec), trained, split, options)
    else:
        sliding, places_of = fresh.windows(made, options.window, options.stride or 1.0)
        split = trained.split_of(sliding)
        rows = []
        found = answers(split, trained.predict_any(split), spec)
        for (name, start, end), clip, row in zip(places_of, sliding.clips, found, strict=True):
            del row["id"]
            words = sliding.features[clip.id].transcript
            rows.append({"id": name, "start": start, "end": end, **row, "words": words})
    _write(rows, options)
    if options.plot is not None:
        curves.draw(rows, options.plot, spec)
        LOGGER.info("wrote %s", options.plot)
    return 1 if made.failed else 0


def _with_reasons(
    rows: list[Row], trained: "Trained", split: Split, options: argparse.Namespace
) -> list[Row]:
    """The rows with why, where that is asked for."""
    if not options.explain:
        return rows
    from msa_jax.commands import explain

    found = explain.rows_of(trained, split, options.encoder)
    known = ("id", "score", "class", "probability")
    reasons = [{key: value for key, value in one.items() if key not in known} for one in found]
    return [row | {"reasons": why} for row, why in zip(rows, reasons, strict=True)]


def _write(rows: list[Row], options: argparse.Namespace) -> None:
    """Delivers the rows, and says which are not finite."""
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
