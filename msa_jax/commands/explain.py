"""Why a finished run gives clips their scores.

    msa-jax explain --workdir=RUN --input=FILE [--split=test] [--clips=ID,ID] [--pictures=DIR] [--attention]

One JSON object per clip: the score, what it would be if nothing were known of the clip, each modality's
Shapley value, and the effects of groups of columns, of words and of stretches of time. What stands in for a
part that is taken away is said with it. On request also what every attention module of the model reads.
"""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msa_jax import messages
from msa_jax.commands.usage import Parser, add_compile_cache, add_run_and_clips
from msa_jax.data.rows import Rows
from msa_jax.data.spec import MODALITIES, THREE_CLASSES
from msa_jax.errors import DataError
from msa_jax.files import check_target, write_whole
from msa_jax.messages import LOGGER

if TYPE_CHECKING:
    from msa_jax.data.dataset import Split
    from msa_jax.explain.attention import Maps
    from msa_jax.explain.reasons import Reasons
    from msa_jax.inference import Trained

_ADVICE = "make room, or name another place"


def main(argv: list[str]) -> int:
    """The command; returns 1 if a clip could not be read."""
    options = _parser().parse_args(argv)
    messages.set_up(options, answers=True)
    for option in ("out", "pictures"):
        target = getattr(options, option)
        if target is not None and not (option == "pictures" and target.is_dir()):
            check_target(f"--{option}", target, options.input, options.workdir)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.inference import Trained
    from msa_jax.training import build

    build.use_compile_cache(options.compile_cache)
    trained = Trained(options.workdir)
    maps = None
    if options.attention:
        from msa_jax.explain.attention import Maps

        maps = Maps(trained)
    lines: list[dict[str, Any]] = []
    splits, failed = _splits(trained, options.input, options.split)
    for split in _chosen(splits, options.input, _ids(options.clips)):
        found = rows_of(trained, split, options.encoder)
        if maps is not None:
            _add_maps(found, maps, split)
        lines += found
    text = "".join(json.dumps(line, ensure_ascii=False, default=_rounded) + "\n" for line in lines)
    if options.out is None:
        print(text, end="")
    else:
        write_whole(options.out, text.encode("utf-8", "backslashreplace"), _ADVICE)
        LOGGER.info("wrote %s: %d clips", options.out, len(lines))
    if options.pictures is not None:
        from msa_jax.reports import reasons

        reasons.draw(lines, options.pictures)
        LOGGER.info("wrote pictures of %d clips in %s", len(lines), options.pictures)
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser(
        "explain",
        "Why a finished run gives clips their scores: the part of each modality, group of columns, word and "
        "stretch of time, one JSON object per clip.",
        ["explain --workdir=runs/first --input=clips.pkl --clips=a,b --pictures=why"],
    )
    add_run_and_clips(parser)
    parser.add_argument("--clips", default="", metavar="ID,ID", help="these alone")
    parser.add_argument(
        "--encoder",
        type=pathlib.Path,
        metavar="DIR",
        help="whose vocabulary the text was made with, where the run does not know; else words are steps",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="default: the standard output")
    parser.add_argument("--pictures", type=pathlib.Path, metavar="DIR", help="a picture per clip too, as SVG")
    parser.add_argument(
        "--attention",
        action="store_true",
        help="what each attention module reads, too, in lines and pictures; best for few --clips",
    )
    add_compile_cache(parser)
    return parser


def _ids(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _splits(trained: "Trained", path: pathlib.Path, wanted: str) -> "tuple[list[Split], bool]":
    """The clips that are there, and whether some could not be read."""
    from msa_jax.media import fresh, is_media

    if is_media(path):
        made = fresh.extract(path, *trained.plan({}))
        for reason in made.failed.values():
            LOGGER.warning("%s", reason)
        return [trained.split_of(made)], bool(made.failed)
    found, notes = trained.read(path, wanted)
    for note in notes:
        LOGGER.info("note: %s", note)
    return list(found.values()), False


def _chosen(splits: "list[Split]", path: pathlib.Path, ids: Sequence[str]) -> "list[Split]":
    """Those clips alone that are named; all where none is."""
    if not ids:
        return splits
    if unknown := set(ids) - {str(name) for split in splits for name in split.ids}:
        raise DataError(f"{path} has no clip {min(unknown)!r}; name clips by their ids.")
    rows = [np.flatnonzero(np.isin(split.ids, list(ids))) for split in splits]
    return [_taken(split, own) for split, own in zip(splits, rows, strict=True) if len(own)]


def _taken(split: "Split", rows: np.ndarray) -> "Split":
    """Some clips of a split."""

    def of(array: Any) -> Any:
        return None if array is None else np.asarray(array)[rows]

    return type(split)(
        np.asarray(split.ids)[rows],
        {m: Rows.of([split.values[m]]).take(rows) for m in MODALITIES},
        {m: of(split.lengths[m]) for m in MODALITIES},
        {},
        tokens=of(split.tokens),
        raw_text=of(split.raw_text),
    )


def rows_of(trained: "Trained", split: "Split", encoder: pathlib.Path | None) -> list[dict[str, Any]]:
    """A line per clip.

    Args:
      trained: the run.
      split: N clips as they are stored.
      encoder: whose vocabulary made the text; None for that of the run, if it has one.

    Raises:
      DataError: for clips without a modality that the run was not trained to do without.
    """
    from msa_jax.explain.reasons import explain
    from msa_jax.explain.words import words_of
    from msa_jax.training.run_folder import TOKENIZER

    trained.require_modalities(split)
    own = trained.workdir / TOKENIZER
    folder = encoder or (own if own.is_dir() else None)
    words = None if folder is None else words_of(trained.checked(split), folder)
    found = explain(trained, split, words)
    if not any(reasons.stretches[m] for reasons in found for m in ("audio", "vision")):
        LOGGER.info(
            "note: this run reads the mean of sound and picture over time, so no stretch of them has a part."
        )
    return [_row(trained, str(name), reasons) for name, reasons in zip(split.ids, found, strict=True)]


def _row(trained: "Trained", name: str, reasons: "Reasons") -> dict[str, Any]:
    """A clip's line; numbers with six digits, null where one is not finite."""
    row: dict[str, Any] = {"id": name, "score": _short(reasons.score)}
    if reasons.predicted is not None:
        names = trained.model_spec.class_names or THREE_CLASSES
        row = {"id": name, "class": names[reasons.predicted], "probability": _short(reasons.score)}
    row["nothing_known"] = _short(reasons.nothing)
    row["modalities"] = {m: _short(part) for m, part in reasons.modalities.items()}
    row["groups"] = {m: {g: _short(e) for g, e in own.items()} for m, own in reasons.groups.items()}
    for m, title in (("text", "words"), ("audio", "audio"), ("vision", "vision")):
        row[title] = [
            {
                **({"word": stretch.label} if stretch.label else {}),
                "steps": [stretch.start, stretch.end],
                "effect": _short(effect),
            }
            for stretch, effect in reasons.stretches[m]
        ]
    row["stands_in"] = "training mean"
    return row


def _add_maps(rows: list[dict[str, Any]], maps: "Maps", split: "Split") -> None:
    """Adds to the lines of a split's clips what each attention module reads; the weights stay arrays."""
    for clip in maps(split):
        rows[clip.row] |= {
            "steps": dict(clip.steps),
            "attention": [one._asdict() for one in clip.maps],
        }


def _rounded(weights: np.ndarray) -> list:
    """Weights [Tq, Tk] with four digits, null where one is not finite."""
    rounded = np.round(weights.astype(np.float64), 4)
    return [[x if math.isfinite(x) else None for x in row] for row in rounded.tolist()]


def _short(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None
