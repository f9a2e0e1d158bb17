"""Who gets the rows of ``metrics.jsonl`` besides the file: TensorBoard, trackio.

A tracker writes into the run's folder and needs no network. A run that goes on logs no epoch twice: what was
logged of epochs after the checkpoint is taken back.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msa_jax.configuration import Config, flatten
from msa_jax.errors import ConfigError
from msa_jax.messages import LOGGER

#: A row of ``metrics.jsonl``.
Row = Mapping[str, Any]


class Tracker(Protocol):
    """What takes the rows of a run, each once. An OSError from it ends the tracking, not the training."""

    def log(self, row: Row) -> None:
        """Takes the row of an epoch that has just ended."""

    def close(self) -> None:
        """Sees everything onto the disk."""


class Kind(NamedTuple):
    """A tracker that ``train.trackers`` may name.

    Attributes:
      package: what must be importable.
      extra: of ours, that installs it.
      start: opens it for a run: its folder, configuration, and the rows of the epochs so far.
    """

    package: str
    extra: str
    start: Callable[[pathlib.Path, Config, Sequence[Row]], Tracker]


def scalars(row: Row) -> dict[str, float]:
    """The numbers of a row by name: "train/loss", "valid/mae", "learning_rate", ..."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in value.items()}
        elif name not in ("epoch", "step", "seconds"):
            found[name] = value
    return found


class TensorBoard:
    """Event files in ``tensorboard/``."""

    def __init__(self, folder: pathlib.Path, _config: Config, history: Sequence[Row]):
        from tensorboardX import SummaryWriter  # an extra

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=len(history) + 1)

    def log(self, row: Row) -> None:
        """Writes a point per number."""
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Trackio:
    """A trackio project in ``trackio/``, written by a process of its own.

    trackio takes its folder from the environment when it is imported, once for all runs of a program, may ask
    the network for a user's name, and prints. A process of its own can be told better.
    """

    def __init__(self, folder: pathlib.Path, config: Config, history: Sequence[Row]):
        place = folder.resolve() / "trackio"
        place.mkdir(exist_ok=True)
        self._said = place / "writer.log"
        # Where its data goes is not for the environment to say.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO_")}
        told = {"TRACKIO_DIR": str(place), "TRACKIO_STORAGE_MODE": "sqlite", "HF_HUB_OFFLINE": "1"}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "msa_jax.training.trackio_writer"],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=kept | told,
                text=True,
                start_new_session=True,  # Ctrl-C is for us; what is logged until then is still written
            )
        self._send({"name": folder.resolve().name, "config": flatten(config)})
        for row in history:
            self.log(row)

    def _send(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.close()  # which says more
            raise

    def log(self, row: Row) -> None:
        """Hands the row over."""
        self._send({"step": row["epoch"], "values": scalars(row)})

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
          OSError: if it was not.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end tells
            self._process.stdin.close()
        try:
            code = self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code:
            raise OSError(f"its process ended with {code}; {self._said} may say why")


#: By the name in ``train.trackers``.
KINDS = {
    "tensorboard": Kind("tensorboardX", "tensorboard", TensorBoard),
    "trackio": Kind("trackio", "track", Trackio),
}


def names(text: str) -> list[str]:
    """The names that ``train.trackers`` lists."""
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen(train: Config) -> list[str]:
    """The trackers of a run; ``train.tensorboard`` is the older way to name one of them."""
    return list(dict.fromkeys([*(["tensorboard"] if train.tensorboard else []), *names(train.trackers)]))


def require(train: Config) -> None:
    """Raises ConfigError for a tracker whose extra is not here."""
    for name in chosen(train):
        if importlib.util.find_spec(KINDS[name].package) is None:
            key = "train.trackers" if name in names(train.trackers) else "train.tensorboard"
            raise ConfigError(
                f"{key}={train[key.removeprefix('train.')]} needs the extra: "
                f"pip install 'msa_jax[{KINDS[name].extra}]', or leave it off."
            )


class Trackers:
    """The trackers of one run; of one that fails it says so, and goes on without.

    Args:
      folder: of the run.
      config: of the run.
      history: the rows of the epochs so far.
      wanted: names; () in the processes that write nothing.
    """

    def __init__(
        self, folder: pathlib.Path, config: Config, history: Sequence[Row], wanted: Sequence[str] = ()
    ):
        self._open: dict[str, Tracker] = {}
        for name in wanted:
            with self._given_up_if_broken(name):
                self._open[name] = KINDS[name].start(folder, config, history)

    @contextlib.contextmanager
    def _given_up_if_broken(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            LOGGER.warning("%s gets no more of this run: %s.", name, error)
            if tracker := self._open.pop(name, None):
                with contextlib.suppress(OSError):
                    tracker.close()

    def log(self, row: Row) -> None:
        """Hands a row to all."""
        for name, tracker in list(self._open.items()):
            with self._given_up_if_broken(name):
                tracker.log(row)

    def close(self) -> None:
        """Closes all."""
        for name, tracker in list(self._open.items()):
            with self._given_up_if_broken(name):
                tracker.close()
        self._open = {}
