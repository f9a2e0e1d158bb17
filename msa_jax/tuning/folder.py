"""The folder of a tuning: run folders ``trials/NNNN/``, ``trials.csv``, ``best.json``, ``study/``.

Several processes may work in it. Locks, which the system frees when a process ends however it ends, say which
trials somebody trains; a trial that is under way by the journal and that nobody holds was left by a process
that was killed. Where a system has no such locks (Windows), only one process may work at a time.
"""

import csv
import functools
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.errors import RunError
from msa_jax.files import as_json, read_json, write_whole
from msa_jax.messages import LOGGER
from msa_jax.training import changes
from msa_jax.tuning.space import Space

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

#: The file that makes a folder a tuning's.
TUNING = "tuning.json"
#: Settings that may differ from those that the tuning began with: where data lies and how to compute.
_FREE = set(changes.FREE) - {"train.epochs", "train.patience"}
#: Shown of what differs.
_SHOWN = 5


@functools.cache
def _warn_once(why: str) -> None:
    LOGGER.warning(f"{why}: only one process may work at this tuning.")


class Lock:
    """A lock that at most one process holds.

    Args:
      path: of a file that stands for it; made if absent, and never removed.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._file: Any = None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock.

        Args:
          wait: until it is free.

        Returns:
          Whether it is held now.
        """
        file = open(self.path, "ab")  # noqa: SIM115 (open as long as the lock is held)
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.close()
                return False
            except OSError as error:  # some network file systems have no locks
                _warn_once(f"{self.path.parent} cannot hold locks ({error.strerror})")
        self._file = file
        return True

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class TuningFolder:
    """The folder of one tuning, made if absent.

    Raises:
      RunError: if the folder is that of a run or a study, or cannot be made.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        for file, kind in (("config.json", "run"), ("study.json", "study")):
            if (self.path / file).exists():
                raise RunError(
                    f"{self.path} is the folder of a {kind}; choose another --workdir for the tuning."
                )
        try:
            for name in ("trials", "locks"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make {self.path}: {error.strerror}; choose another --workdir.") from error

    @property
    def journal(self) -> pathlib.Path:
        """The file that records every trial, in Optuna's format."""
        return self.path / "journal.log"

    def trial(self, number: int) -> pathlib.Path:
        """The run folder of a trial."""
        return self.path / "trials" / f"{number:04d}"

    def lock(self, name: str | int) -> Lock:
        """The lock of a trial, by its number, or of a piece of work that one process at a time does."""
        return Lock(self.path / "locks" / (f"{name:04d}" if isinstance(name, int) else name))

    def claim(self, config: Config, space: Space, seed: int) -> None:
        """Records what is tuned here, or sees that it is what has been tuned so far.

        Args:
          config: of all trials, without what is drawn.
          space: what is drawn.
          seed: of the draws.

        Raises:
          RunError: if the folder belongs to another tuning.
        """
        record = {
            "config": json.loads(configuration.to_json(config)),
            "space": space.record(),
            "seed": seed,
        }
        path = self.path / TUNING
        if not path.exists():
            write_whole(path, as_json(record, indent=1).encode())
            return
        old = read_json(path, "use another --workdir")
        if not isinstance(old.get("config"), dict):
            raise RunError(f"{path} has no configuration; use another --workdir.")
        changed = changes.between(configuration.from_json(json.dumps(old["config"])), config)
        found = {key: pair for key, pair in changed.items() if key not in _FREE}
        # By way of JSON, so that numbers and lists are compared as they were written.
        for name, new in json.loads(as_json({"space": record["space"], "seed": seed})).items():
            if old.get(name) != new:
                found[name] = old.get(name), new
        if found:
            lines = [f"{key}: {a!r} -> {b!r}"[:200] for key, (a, b) in list(found.items())[:_SHOWN]]
            raise RunError(
                f"{self.path} belongs to another tuning; use another --workdir, or the same settings:\n  "
                + "\n  ".join(lines)
            )

    def write_trials(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """``trials.csv``: a line per trial, nothing rounded; what a trial lacks is empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / "trials.csv", text.getvalue().replace("\r\n", "\n").encode())

    def write_best(self, best: Mapping[str, Any]) -> None:
        """``best.json``: the winner; see :func:`msa_jax.tuning.run.tune`."""
        write_whole(self.path / "best.json", as_json(best, indent=1).encode())


class JournalLock(Lock):
    """The journal's lock, which also cuts off a line that a killed process (or a full disk) left unfinished.

    Optuna appends to the file, and could not read a broken line that another follows.

    Args:
      journal: the journal.
      path: of the lock.
    """

    def __init__(self, journal: pathlib.Path, path: pathlib.Path):
        super().__init__(path)
        self.journal = journal

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock; whoever has it finds whole lines only."""
        held = super().acquire(wait)
        if held:
            self._mend()
        return held

    def _mend(self) -> None:
        with open(self.journal, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if not size or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n":
                return
            file.seek(0)
            file.truncate(file.read(size).rfind(b"\n") + 1)
