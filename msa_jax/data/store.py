"""The store: a data set as a folder of plain ``.npy`` files that are read as memory maps.

``manifest.json`` lists every file with its size and SHA-256 sum, ``spec.json`` is the
:class:`~msa_jax.data.spec.DatasetSpec`, and each split has its arrays as ``train.values.text.npy``,
``train.lengths.text.npy``, ``train.labels.M.npy``, ``train.ids.npy`` and so on, named after the fields of
:class:`~msa_jax.data.dataset.Split`; ``train.clip_columns.speaker.npy`` where ``convert --group=speaker``
kept it, and ``train.media.npy``, the places of the clips' files, where ``extract`` made the store. Nothing in
it is pickled; ids and texts are fixed-width strings.
"""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.pickle.arrays import readable
from msa_jax.data.spec import MODALITIES, SPLITS, THREE_CLASSES, DatasetSpec
from msa_jax.errors import DataError
from msa_jax.files import check_new_folder, new_folder

MANIFEST = "manifest.json"
SPEC = "spec.json"
_FORMAT = "msa_jax store 1"
_BLOCK = 1 << 20
_TABLES = {
    "values",
    "lengths",
    "labels",
    "classes",
    "clip_columns",
}  # fields of a Split that are dicts of arrays
_TYPES = {
    **dict.fromkeys(("ids", "raw_text", "clip_columns", "media"), "<U"),
    **dict.fromkeys(("values", "labels"), "<f4"),
    **dict.fromkeys(("lengths", "classes", "tokens"), "<i4"),
}

#: Told the bytes that were just read or written.
Progress = Callable[[int], None]


def write(dataset: Dataset, folder: pathlib.Path, progress: Progress = lambda _: None) -> None:
    """Writes a data set as a new store, whole or not at all.

    The files go to a hidden folder beside ``folder``, reach the disk, and are renamed into place. An
    interruption (any exception, Ctrl-C included) removes them again.

    Args:
      dataset: what to write; its arrays are read some MB at a time.
      folder: absent, or an empty folder.
      progress: called with the bytes of every block.

    Raises:
      DataError: if ``folder`` is there already, cannot be written, or the disk is too small.
    """
    above = check_new_folder(folder)
    files, needed = _files(dataset), size(dataset)
    try:
        free = shutil.disk_usage(above).free
        if free < needed:
            raise DataError(
                f"{folder}: needs {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free there."
            )
        with new_folder(folder) as made:
            _write_files(dataset, files, made, progress)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}).") from error


def write_into(dataset: Dataset, folder: pathlib.Path, progress: Progress = lambda _: None) -> None:
    """Writes a store into a folder that holds other things too, in place of a store that is there.

    All is written before anything is replaced. While files are replaced there is no manifest, so that a store
    of which a part is old is never opened.

    Args:
      dataset: what to write; not read from this store.
      folder: is there.
      progress: called with the bytes of every block.

    Raises:
      DataError: if it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".store-") as name:
            made = pathlib.Path(name)
            _write_files(dataset, _files(dataset), made, progress)
            (folder / MANIFEST).unlink(missing_ok=True)
            for old in folder.glob("*.npy"):
                old.unlink()
            for new in sorted(made.iterdir(), key=lambda path: path.name == MANIFEST):  # it comes last
                new.rename(folder / new.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}).") from error


def _write_files(
    dataset: Dataset, files: Mapping[str, np.ndarray], made: pathlib.Path, progress: Progress
) -> None:
    sums = {name: _write_array(made / name, array, progress) for name, array in files.items()}
    sums[SPEC] = _write_text(made / SPEC, dataset.spec.to_json())
    manifest = {
        "format": _FORMAT,
        "notes": list(dataset.notes),
        "best_reachable": dict(dataset.best_reachable),
        "files": sums,
    }
    _write_text(made / MANIFEST, json.dumps(manifest, indent=1))


def size(dataset: Dataset) -> int:
    """Bytes of a data set's arrays."""
    return sum(array.nbytes for array in _files(dataset).values())


def read(folder: pathlib.Path, verify: bool = False) -> Dataset:
    """Opens a store; features come as read-only memory maps.

    Args:
      folder: what :func:`write` made.
      verify: also compare every file with its SHA-256 sum, which reads all of them.

    Raises:
      DataError: if a file is missing, was changed or does not fit the others.
    """
    try:
        manifest = _manifest(folder)
        for name, record in manifest["files"].items():
            found = (folder / name).stat().st_size
            if found != record["bytes"]:
                raise DataError(
                    f"{folder / name} has {found} bytes, expected {record['bytes']}; convert the data again."
                )
            if verify and sha256(folder / name) != record["sha256"]:
                raise DataError(
                    f"{folder / name} was changed (its SHA-256 sum differs); convert the data again."
                )
        spec = _read_spec(folder)
        splits = {name: _read_split(folder, name, spec, manifest["files"]) for name in SPLITS}
        return Dataset(spec, splits, tuple(manifest["notes"]), manifest["best_reachable"])
    except OSError as error:
        missing = error.filename or folder
        raise DataError(
            f"{missing} cannot be read ({error.strerror or error}); convert the data again."
        ) from error
    except DataError:
        raise
    except Exception as error:  # whatever damaged JSON or array headers set off
        raise DataError(f"{folder} is a damaged store ({error!r:.200}); convert the data again.") from error


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the manifest and checks its form, so that it can name no file outside the folder."""
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is no store (it has no {MANIFEST}); make one with 'msa-jax convert'.")
    manifest = json.loads((folder / MANIFEST).read_text())
    if manifest["format"] != _FORMAT:
        raise DataError(
            f"{folder} is a store of another version ({manifest['format']!r:.50}); convert it again."
        )
    known = re.compile(r"spec\.json|(train|valid|test)\.[a-z_]+(\.[a-zA-Z][a-zA-Z0-9_]*)?\.npy")
    if not all(known.fullmatch(file) for file in manifest["files"]):
        raise DataError(
            f"{folder / MANIFEST} lists files that a store does not have; convert the data again."
        )
    good = all(isinstance(note, str) for note in manifest["notes"])
    if not good or not all(isinstance(x, int | float) for x in manifest["best_reachable"].values()):
        raise DataError(f"{folder / MANIFEST} is damaged; convert the data again.")
    return manifest


def _read_spec(folder: pathlib.Path) -> DatasetSpec:
    """Reads the description and checks the numbers that later code computes with."""
    try:
        spec = DatasetSpec.from_json((folder / SPEC).read_text())
    except DataError as error:
        raise DataError(f"{folder / SPEC}: {error}") from error
    low, high = spec.label_range
    good = all(isinstance(x, int | float) for x in (low, high, *(spec.class_edges or ()))) and low < high
    good = good and (spec.class_edges is None or len(spec.class_edges) == 2)
    good = good and isinstance(spec.class_names, tuple) and all(isinstance(n, str) for n in spec.class_names)
    for modality in spec.modalities.values():
        scale = np.array([modality.mean, modality.std], np.float64)
        good = (
            good and scale.shape == (2, modality.width) and np.isfinite(scale).all() and (scale[1] > 0).all()
        )
    if not good:
        raise DataError(f"{folder / SPEC} is damaged; convert the data again.")
    return spec


def _files(dataset: Dataset) -> dict[str, np.ndarray]:
    return {f"{name}.{key}.npy": array for name in SPLITS for key, array in _arrays(dataset.splits[name])}


def _arrays(split: Split) -> Iterator[tuple[str, np.ndarray]]:
    """A split's arrays with their names in the store."""
    for field, dtype in _TYPES.items():
        value = getattr(split, field)
        if field in _TABLES:
            yield from ((f"{field}.{name}", np.asarray(array, dtype)) for name, array in value.items())
        elif value is not None:
            yield field, np.asarray(value, dtype)


def _read_split(folder: pathlib.Path, name: str, spec: DatasetSpec, files: dict[str, Any]) -> Split:
    """Maps one split's files and checks that they are what ``spec`` says."""
    fields: dict[str, Any] = {field: {} for field in _TABLES}
    count = spec.counts[name]
    for file in files:
        split, _, key = file.removesuffix(".npy").partition(".")
        field, _, part = key.partition(".")
        if split != name:
            continue
        array = np.lib.format.open_memmap(folder / file, mode="r")
        if not array.dtype.str.startswith(_TYPES[field]) or len(array) != count:
            raise DataError(
                f"{folder / file} holds {array.dtype} {array.shape}, not {count} clips; convert again."
            )
        if field == "values":
            fields[field][part] = array
        elif field in _TABLES:
            fields[field][part] = np.array(array)
        else:
            fields[field] = np.array(array)
    split = Split(**fields)
    for m in MODALITIES:
        modality, lengths = spec.modalities[m], split.lengths[m]
        shape, expected = split.values[m].shape, (count, modality.length, modality.width)
        inside = lengths.shape == (count,) and ((lengths >= 0) & (lengths <= modality.length)).all()
        if shape != expected or not inside:
            raise DataError(f"{folder}, split {name!r}: {m} does not fit {SPEC}; convert the data again.")
    labels = [*(split.labels[task] for task in spec.tasks), *split.classes.values()]
    known = len(spec.class_names) or len(THREE_CLASSES)
    numbered = all(((y >= 0) & (y < known)).all() for y in split.classes.values())
    texts = [split.ids, *split.clip_columns.values()]
    texts += [text for text in (split.raw_text, split.media) if text is not None]
    good = numbered and all(label.shape == (count,) and np.isfinite(label).all() for label in labels)
    good = good and all(text.shape == (count,) and readable(text) for text in texts)
    tokens_shape = None if split.tokens is None else split.tokens.shape
    if not good or tokens_shape != ((count, 3, spec.modalities["text"].length) if spec.has_tokens else None):
        raise DataError(
            f"{folder}, split {name!r}: labels, ids or tokens do not fit {SPEC}; convert the data again."
        )
    return split


def _write_array(path: pathlib.Path, array: np.ndarray, progress: Progress) -> dict[str, Any]:
    """Writes one ``.npy`` file block by block and returns its line of the manifest."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    digest = hashlib.sha256(start.getvalue())
    rows = max(1, _BLOCK // max(1, array[:1].nbytes))
    with path.open("xb") as file:
        file.write(start.getvalue())
        for first in range(0, len(array), rows):
            block = np.ascontiguousarray(array[first : first + rows])
            data = block.reshape(-1).view(np.uint8).data
            file.write(data)
            digest.update(data)
            progress(block.nbytes)
        return _finish(file, digest.hexdigest())


def _write_text(path: pathlib.Path, text: str) -> dict[str, Any]:
    with path.open("xb") as file:
        file.write(text.encode())
        return _finish(file, hashlib.sha256(text.encode()).hexdigest())


def _finish(file: BinaryIO, sha256: str) -> dict[str, Any]:
    """Sees the file onto the disk and returns its line of the manifest."""
    file.flush()
    os.fsync(file.fileno())
    return {"bytes": file.tell(), "sha256": sha256}


def sha256(path: pathlib.Path, progress: Progress = lambda _: None) -> str:
    """The SHA-256 sum of a file, read some MB at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
