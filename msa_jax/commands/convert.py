"""Turns a feature pickle into a store, which opens at once and needs no memory of its own.

    msa-jax convert FILE.pkl DIR [--name mosi] [--metrics mosi] [--label-range -3 3]
                              [--class-names NAME ...] [--group speaker]
                              [--encode-text ENCODER_DIR [--encode-layers last|mean]]

Every value is kept as float32, NaN and infinities included. DIR appears when all of it is written;
after an error or an interruption nothing is left. With --encode-text the text's features are made anew
from the transcripts, by an encoder's hidden states (see :mod:`msa_jax.weights.encode_text`).
"""

import argparse
import contextlib
import dataclasses
import pathlib
import signal
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.data import mmsa, store
from msa_jax.data.division import COLUMN_NAME
from msa_jax.data.opening import describe, infer
from msa_jax.data.spec import METRIC_SETS
from msa_jax.errors import ConfigError, stopped_by_sigterm
from msa_jax.files import check_new_folder
from msa_jax.messages import LOGGER

#: Starts a stage of so many bytes; returns what to call with the bytes of every block.
Stage = Callable[[str, int], Callable[[int], None]]


def main(arguments: list[str]) -> int:
    """Converts; returns 0, or 128 and the signal's number after an interruption."""
    parser = Parser(
        "convert",
        "Turns a feature pickle into a store, which is read without being loaded into memory.",
        ["convert unaligned_50.pkl data/mosi"],
    )
    parser.add_argument("file", type=pathlib.Path, help="feature pickle in the public MMSA layout")
    parser.add_argument("folder", type=pathlib.Path, help="the store to make; must not exist yet")
    parser.add_argument("--name", help="a short name for tables; default: inferred from the columns")
    parser.add_argument("--metrics", choices=METRIC_SETS, help="default: inferred from columns and labels")
    parser.add_argument(
        "--label-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="default: the same"
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="of the class labels, from class 0; default: the file's",
    )
    parser.add_argument(
        "--group",
        default="",
        metavar="COLUMN",
        help="also keep this column of N texts or whole numbers, such as speaker, for data.group",
    )
    parser.add_argument(
        "--encode-text",
        type=pathlib.Path,
        metavar="ENCODER_DIR",
        help="make text features and tokens from the transcripts, with the encoder of this folder",
    )
    parser.add_argument(
        "--encode-layers",
        default="last",
        metavar="last|mean",
        help="with --encode-text: of the encoder's last layer (default), or the mean of all",
    )
    options = parser.parse_args(arguments)
    _check(options)
    messages.set_up(options)
    given = {key: getattr(options, key) for key in ("name", "metrics") if getattr(options, key) is not None}
    if options.label_range:
        given["label_range"] = tuple(options.label_range)
    if options.class_names:
        given["class_names"] = tuple(options.class_names)
    console = Console(quiet=messages.quiet(), highlight=False, markup=False, soft_wrap=True)
    try:
        with stopped_by_sigterm(), stages(console) as stage:
            encoder = options.encode_text, options.encode_layers
            convert(options.file, options.folder, given, stage, *encoder, options.group)
    except KeyboardInterrupt as interruption:
        number = interruption.args[0] if interruption.args else signal.SIGINT
        done = "is complete" if options.folder.exists() else "was not made"
        print(f"interrupted by {signal.Signals(number).name}; {options.folder} {done}.")
        return 128 + number
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises ConfigError for options that name nothing, or do not go together."""
    if options.group and not COLUMN_NAME.fullmatch(options.group):
        raise ConfigError(
            f"--group={options.group!r:.80} names no column: letters, digits and _, a letter first."
        )
    if options.encode_layers != "last" and options.encode_text is None:
        raise ConfigError(
            f"--encode-layers={options.encode_layers} needs an encoder; name it with --encode-text."
        )


def convert(
    file: pathlib.Path,
    folder: pathlib.Path,
    given: dict,
    stage: Stage,
    encoder: pathlib.Path | None = None,
    layers: str = "last",
    column: str = "",
) -> None:
    """Writes the store ``folder`` with what the pickle ``file`` holds.

    Args:
      file: the pickle.
      folder: the store; must not exist.
      given: fields of :class:`~msa_jax.data.opening.Hints` that are not to be inferred.
      stage: shows the progress.
      encoder: folder of the encoder that makes the text features; None: the file's are kept.
      layers: of the encoder that the features are made of, "last" or "mean".
      column: the key of a further text or whole number per clip that is kept; "" for none.

    Raises:
      ConfigError: for other layers.
      DataError: if the file or the encoder cannot be used, or the store cannot be written.
    """
    check_new_folder(folder)
    LOGGER.info("reading %s", file)
    if encoder is None:
        splits, notes = mmsa.read(file, column=column)
    else:
        from msa_jax.weights import encode_text  # needs JAX, which plain conversions do not wait for

        loaded = encode_text.load(encoder, layers)
        splits, notes = mmsa.read(file, by_transcripts=True, column=column)
        splits, more = encode_text.encode(loaded, splits, stage)
        notes = [*notes, *more]
    inferred, more = infer(file, splits)
    hints, notes = dataclasses.replace(inferred, **given), [*notes, *more]
    values = sum(array.nbytes for split in splits.values() for array in split.values.values())
    dataset = describe(file, splits, notes, hints, stage("checking", values))
    store.write(dataset, folder, stage("writing", store.size(dataset)))
    for note in dataset.notes:
        LOGGER.info("note: %s", note)
    clips = ", ".join(f"{count} {name}" for name, count in dataset.spec.counts.items())
    size = store.size(dataset) / 1e6
    LOGGER.info("wrote %s: %s, %s clips, %.1f MB", folder, dataset.spec.name, clips, size)


@contextlib.contextmanager
def stages(console: Console) -> Iterator[Stage]:
    """A progress bar per stage; where nobody watches, a line per quarter."""
    if not console.is_terminal:
        yield _quarters
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:

        def stage(title: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(title, total=total)
            return lambda count: progress.advance(task, count)

        yield stage


def _quarters(title: str, total: int) -> Callable[[int], None]:
    done, shown = 0, 0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if (quarter := 4 * done // max(1, total)) > shown:
            shown = quarter
            LOGGER.info("%s: %d %%", title, 25 * quarter)

    return advance
