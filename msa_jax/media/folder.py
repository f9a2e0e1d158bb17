"""The folder of an extraction: what is done is kept, so that the same command goes on after any end.

``extract.json`` says by which recipe features are made, ``clips/`` holds those of every clip, ``failed.csv``
and ``notes.csv`` what went wrong, and beside them lie the files of the store, once every clip was tried.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from msa_jax.data.recipe import Part, Recipe, differences
from msa_jax.errors import DataError
from msa_jax.files import as_json, locked, read_json, write_whole
from msa_jax.media.clips import Clip
from msa_jax.media.extraction import Features, source_of

RECIPE, CLIPS, FAILED, NOTES = "extract.json", "clips", "failed.csv", "notes.csv"
_FORMAT = "msa_jax extraction 1"
_ADVICE = "make room, or name another --out"


class Folder:
    """Where an extraction writes, and nowhere else.

    Args:
      path: made where it is not there.
      source: the folder, manifest or file whose clips it holds.
    """

    def __init__(self, path: pathlib.Path, source: pathlib.Path):
        self.path, self.source = path, str(source.resolve())
        self.scratch = path / ".scratch"

    def check(self, recipe: Recipe) -> None:
        """Refuses a folder that holds something else, other clips, or features of another recipe.

        Raises:
          DataError: for such a folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; name a folder with --out.")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        if not (self.path / RECIPE).exists():
            raise DataError(f"{self.path} holds something else and is kept as it is; name another --out.")
        record = read_json(self.path / RECIPE, "name another --out")
        if record.get("format") != _FORMAT or not isinstance(record.get("recipe"), dict):
            raise DataError(f"{self.path / RECIPE} is of another version; name another --out.")
        if record.get("source") != self.source:
            raise DataError(
                f"{self.path} holds the clips of {record.get('source')!s:.200} and is kept as it is; name "
                "another --out."
            )
        before = {m: Part.from_record(part) for m, part in record["recipe"].items()}
        grave, slight = differences(before, recipe)
        if grave or slight:
            raise DataError(
                f"{self.path} holds features of another recipe ({'; '.join(grave + slight):.300}); name "
                "another --out, or extract as before."
            )

    @contextlib.contextmanager
    def held(self, recipe: Recipe) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it.

        Raises:
          DataError: if it cannot be written, or another process extracts into it.
        """
        try:
            (self.path / CLIPS).mkdir(parents=True, exist_ok=True)
            self.scratch.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.path} cannot be made ({error.strerror}); name another --out.") from error
        with locked(
            self.path / ".lock", DataError(f"another process extracts into {self.path}; let it end.")
        ):
            parts = {m: dataclasses.asdict(p) for m, p in recipe.items()}
            record = {"format": _FORMAT, "source": self.source, "recipe": parts}
            write_whole(self.path / RECIPE, as_json(record, indent=1).encode(), _ADVICE)
            try:
                yield
            finally:
                for left in self.scratch.iterdir():
                    left.unlink()
                self.scratch.rmdir()

    def target(self, clip: Clip) -> pathlib.Path:
        """The file of a clip's features. A clip's name may be anything, so its sum names the file."""
        return self.path / CLIPS / f"{hashlib.sha256(clip.id.encode()).hexdigest()[:24]}.npz"

    def is_done(self, clip: Clip) -> bool:
        """Whether a clip's features are there and of its files as they are now."""
        try:
            with np.load(self.target(clip), allow_pickle=False) as held:
                return json.loads(held["said"].tobytes())["source"] == source_of(clip)
        except Exception:  # absent, or damaged in any way: made again
            return False

    def features(self, clip: Clip) -> Features:
        """A clip's features."""
        return Features.read(self.target(clip))

    def write_table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Writes ``failed.csv`` or ``notes.csv``, or takes it away where there is nothing to say."""
        if not rows:
            (self.path / name).unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([header, *rows])
        write_whole(self.path / name, text.getvalue().encode("utf-8", "backslashreplace"), _ADVICE)
