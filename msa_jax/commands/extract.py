"""Turns clips into features.

    msa-jax extract CLIPS --out=DIR --face-model=face_landmarker.task --encoder=ENCODER_DIR [--asr=DIR]

CLIPS is a folder, a manifest (see :mod:`msa_jax.media.clips`) or one file. DIR becomes a store for training
and prediction. What is done is kept: after a kill, or when clips were added or corrected, the same command
goes on. Clips that fail are listed in DIR/failed.csv with their reasons and stop nothing; the exit status is
1 then.
"""

import argparse
import collections
import os
import pathlib
import signal
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from msa_jax import messages
from msa_jax.commands.convert import stages
from msa_jax.commands.usage import Parser
from msa_jax.data.recipe import NONE, Recipe
from msa_jax.data.spec import METRIC_SETS
from msa_jax.errors import ConfigError, DataError, stopped_by_sigterm
from msa_jax.media import clips as sources
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import AUDIO, VISION, Plan
from msa_jax.media.folder import FAILED, NOTES, Folder
from msa_jax.media.pool import Pool
from msa_jax.messages import LOGGER

FORMATS = ("store", "pickle")


def main(arguments: list[str]) -> int:
    """Extracts; returns 0, 1 if a clip failed, or 128 and the signal's number after an interruption."""
    options = _parser().parse_args(arguments)
    messages.set_up(options)
    plan = Plan(
        options.audio,
        options.vision,
        options.face_model,
        options.fps,
        None if options.encoder == NONE else pathlib.Path(options.encoder),
        options.asr,
        options.align,
    )
    plan.check()
    for option in ("jobs", "clip_seconds"):
        if getattr(options, option) <= 0:
            raise ConfigError(f"--{option.replace('_', '-')} must be above 0.")
    given = {"metrics": options.metrics} if options.metrics else {}
    if options.label_range:
        given["label_range"] = tuple(options.label_range)
    found = sources.find(options.clips)
    folder = Folder(options.out, options.clips)
    recipe = plan.recipe()
    folder.check(recipe)
    if plan.encoder is not None:
        from msa_jax.weights import encode_text

        encode_text.load(plan.encoder)  # a broken one is told before hours of work
    try:
        with stopped_by_sigterm(), folder.held(recipe):
            failed = _extract(found, folder, plan, recipe, options)
            good = [clip for clip in found if clip.id not in failed]
            if not good:
                raise DataError(
                    f"none of {len(found)} clips could be extracted; {options.out / FAILED} says why."
                )
            _collect(good, folder, plan, recipe, given, options.format == "pickle")
    except KeyboardInterrupt as interruption:
        number = interruption.args[0] if interruption.args else signal.SIGINT
        print(
            f"interrupted by {signal.Signals(number).name}; what is done is kept in {options.out}, and the "
            "same command goes on."
        )
        return 128 + number
    if failed:
        LOGGER.warning("%d of %d clips failed; %s says why.", len(failed), len(found), options.out / FAILED)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "extract",
        "Turns clips into features: sound, faces and words, as a store to train and predict on.",
        [
            "extract clips/ --out=data/mine --face-model=face_landmarker.task --encoder=encoder/",
            "extract clips.csv --out=data/mine --vision=none --encoder=encoder/ --asr=whisper/",
        ],
    )
    add = parser.add_argument
    add("clips", type=pathlib.Path, metavar="CLIPS", help="folder of clips, manifest (CSV), or one clip")
    add("--out", type=pathlib.Path, required=True, metavar="DIR", help="the store; goes on where it is there")
    add(
        "--audio",
        choices=AUDIO,
        default=AUDIO[0],
        help="sound: CH-SIMS's 33 columns (default) or eGeMAPS's 25",
    )
    add(
        "--vision",
        choices=VISION,
        default=VISION[0],
        help="faces: by MediaPipe (default) or your OpenFace files",
    )
    add("--face-model", type=pathlib.Path, metavar="FILE", help="MediaPipe's face_landmarker.task")
    add("--fps", type=float, default=10.0, metavar="N", help="frames looked at per second (default: 10)")
    add("--encoder", required=True, metavar="DIR", help="BERT encoder that makes text features, or none")
    add(
        "--asr",
        type=pathlib.Path,
        metavar="DIR",
        help="Whisper model (CTranslate2) for clips without a transcript",
    )
    add("--align", choices=("words",), default="", help="average sound and faces over each word")
    add("--format", choices=FORMATS, default=FORMATS[0], help="pickle: also features.pkl in MMSA's layout")
    add("--metrics", choices=METRIC_SETS, help="default: by the range of the labels")
    add("--label-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="default: by the labels")
    add(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="clips at once (default: the cores)",
    )
    add(
        "--clip-seconds",
        type=float,
        default=3600,
        metavar="S",
        help="time that one clip may take (default: 3600)",
    )
    return parser


def _extract(
    found: Sequence[Clip], folder: Folder, plan: Plan, recipe: Recipe, options: argparse.Namespace
) -> dict[str, str]:
    """Makes the features that are not there yet; returns the failed clips' reasons by name."""
    left = [clip for clip in found if not folder.is_done(clip)]
    if len(left) < len(found):
        LOGGER.info("%d of %d clips are done already.", len(found) - len(left), len(found))
    failed: dict[str, str] = {}
    jobs = [(clip, folder.target(clip)) for clip in left]
    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(quiet=messages.quiet(), highlight=False, markup=False, soft_wrap=True)
    try:
        if not left:
            return {}
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("", total=len(left))
            with Pool(min(options.jobs, len(jobs)), options.clip_seconds) as pool:
                for clip, reason in pool.all(jobs, plan, recipe, folder.scratch):
                    progress.advance(bar)
                    if reason:
                        failed[clip.id] = reason
                        LOGGER.warning("%s", reason)
                    else:
                        LOGGER.debug("extracted %s", clip.id)
    finally:
        rows = [(clip.id, str(clip.path), failed[clip.id]) for clip in found if clip.id in failed]
        folder.write_table(FAILED, ("clip", "file", "reason"), rows)
    return failed


def _collect(
    clips: Sequence[Clip], folder: Folder, plan: Plan, recipe: Recipe, given: dict, as_pickle: bool
) -> None:
    """Writes the store, and says what it holds."""
    from msa_jax.media import collect  # needs JAX, which extraction does not wait for

    rows = [(clip.id, m, note) for clip in clips for m, note in folder.features(clip).notes]
    folder.write_table(NOTES, ("clip", "modality", "note"), rows)
    console = Console(quiet=messages.quiet(), highlight=False, markup=False, soft_wrap=True)
    with stages(console) as stage:
        try:
            dataset = collect.write(
                clips, folder.features, plan, recipe, folder.path, given, stage, as_pickle
            )
        except OSError as error:
            raise DataError(
                f"{folder.path} cannot be written ({error.strerror or error}); make room and run this again."
            ) from error
    for m, count in collections.Counter(m for _, m, _ in rows).items():
        LOGGER.info("note: %s: %d remarks on clips, in %s.", m, count, folder.path / NOTES)
    for note in dataset.notes:
        LOGGER.info("note: %s", note)
    count = ", ".join(f"{count} {name}" for name, count in dataset.spec.counts.items() if count)
    LOGGER.info("wrote %s: %s clips", folder.path, count)
