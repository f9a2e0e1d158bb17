"""The store: nothing is lost, nothing half-written stays, nothing damaged is read."""

import contextlib
import dataclasses
import errno
import json
import pathlib
import shutil

import feature_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from msa_jax.data import store
from msa_jax.data.opening import open_dataset
from msa_jax.errors import DataError


def make(path: pathlib.Path, unimodal: bool = True):
    data = feature_files.content(unimodal=unimodal)
    data["train"]["audio"][0, 0, :3] = [np.nan, np.inf, -np.inf]
    data["train"]["audio"][0, 0].view(np.uint32)[3] = 0x7FC12345  # a NaN with a payload of its own
    data["train"]["audio_lengths"][0] = 2
    data["valid"]["audio_lengths"][0] = 99
    dataset = open_dataset(feature_files.write(path / "data.pkl", data))
    return dataclasses.replace(dataset, best_reachable={"mae": 0.25})


@pytest.fixture
def dataset(tmp_path):
    return make(tmp_path)


@pytest.fixture
def folder(dataset, tmp_path):
    store.write(dataset, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    folder = tmp_path_factory.mktemp("master")
    store.write(make(folder), folder / "store")
    return folder / "store"


def same(a, b):
    if a is None or b is None:
        assert a is b
        return
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("unimodal", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_every_bit_comes_back(tmp_path, unimodal, verify):
    written = make(tmp_path, unimodal)
    store.write(written, tmp_path / "store")
    found = store.read(tmp_path / "store", verify=verify)
    assert found.spec == written.spec
    assert found.notes == written.notes != ()
    assert found.best_reachable == {"mae": 0.25}
    for name, split in written.splits.items():
        other = found.splits[name]
        for field in ("ids", "tokens", "raw_text"):
            same(getattr(split, field), getattr(other, field))
        for field in ("values", "lengths", "labels", "classes"):
            assert set(getattr(split, field)) == set(getattr(other, field))
            for key, array in getattr(split, field).items():
                same(array, getattr(other, field)[key])


def test_features_are_aligned_maps_that_cannot_be_written(folder):
    for split in store.read(folder).splits.values():
        for values in split.values.values():
            assert isinstance(values, np.memmap)
            assert not values.flags.writeable
            assert values.flags.aligned
            assert values.flags.c_contiguous


def test_other_axis_orders_and_odd_blocks(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 100)
    values = {m: np.asfortranarray(v) for m, v in dataset.splits["train"].values.items()}
    train = dataclasses.replace(dataset.splits["train"], values=values)
    written = dataclasses.replace(dataset, splits={**dataset.splits, "train": train})
    seen = []
    store.write(written, tmp_path / "store", seen.append)
    assert sum(seen) == store.size(written)
    for m, array in store.read(tmp_path / "store", verify=True).splits["train"].values.items():
        same(array, values[m])


def test_optional_parts_may_be_absent(dataset, tmp_path):
    splits = {
        name: dataclasses.replace(split, tokens=None, raw_text=None, classes={})
        for name, split in dataset.splits.items()
    }
    spec = dataclasses.replace(dataset.spec, has_tokens=False)
    store.write(dataclasses.replace(dataset, splits=splits, spec=spec), tmp_path / "store")
    split = store.read(tmp_path / "store").splits["valid"]
    assert (split.tokens, split.raw_text, split.classes) == (None, None, {})


def test_where_the_clips_lay_is_kept_and_may_be_unknown(dataset, tmp_path):
    assert store.read(_written(dataset, tmp_path / "unknown")).splits["test"].media is None
    splits = {
        name: dataclasses.replace(split, media=np.array([f"/clips/{i} ä.mp4" for i in split.ids.tolist()]))
        for name, split in dataset.splits.items()
    }
    folder = _written(dataclasses.replace(dataset, splits=splits), tmp_path / "store")
    for name, split in splits.items():
        same(store.read(folder, verify=True).splits[name].media, split.media)
    np.save(folder / "test.media.npy", np.array(["/clips/a.mp4"]))
    manifest = json.loads((folder / store.MANIFEST).read_text())
    manifest["files"]["test.media.npy"]["bytes"] = (folder / "test.media.npy").stat().st_size
    (folder / store.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"test\.media\.npy holds .* not 4 clips"):
        store.read(folder)


def _written(dataset, folder):
    store.write(dataset, folder)
    return folder


def test_the_folder_is_plain_numpy_and_json(folder):
    for file in folder.iterdir():
        if file.suffix == ".npy":
            np.load(file, allow_pickle=False)
        else:
            json.loads(file.read_text())


def test_an_empty_folder_may_be_filled(dataset, tmp_path):
    (tmp_path / "store").mkdir()
    store.write(dataset, tmp_path / "store")
    assert store.read(tmp_path / "store").spec == dataset.spec


def test_nothing_is_overwritten(dataset, folder, tmp_path):
    before = (folder / store.MANIFEST).stat()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (folder, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(DataError, match="exists already and is kept"):
            store.write(dataset, target)
    assert (folder / store.MANIFEST).stat() == before
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(DataError, match=r"is a file, so .* cannot be made"):
        store.write(dataset, tmp_path / "file" / "store")


def test_folders_around_a_new_store_are_made(dataset, tmp_path):
    store.write(dataset, tmp_path / "not" / "yet" / "store")
    assert store.read(tmp_path / "not" / "yet" / "store").spec == dataset.spec


@pytest.mark.parametrize(
    "fault", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device"), ValueError]
)
@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_fault_at_any_time_leaves_nothing(dataset, tmp_path, fault, after):
    calls = 0

    def fail(_):
        nonlocal calls
        calls += 1
        if calls == after:
            raise fault

    expected = DataError if isinstance(fault, OSError) else fault
    with pytest.raises(expected):
        store.write(dataset, tmp_path / "store", fail)
    assert calls == after
    assert [path.name for path in tmp_path.iterdir()] == ["data.pkl"]


def test_too_small_a_disk_is_seen_before_writing(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DataError, match=r"only 0\.0 GB are free"):
        store.write(dataset, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_is_no_store(tmp_path):
    with pytest.raises(DataError, match=r"is no store .*'msa-jax convert'"):
        store.read(tmp_path)


@pytest.mark.parametrize("name", ["train.values.text.npy", "spec.json", "test.ids.npy", "valid.labels.A.npy"])
def test_missing_and_shortened_files_are_named(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=rf"{name} has {len(data) - 1} bytes, expected {len(data)}"):
        store.read(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read .No such file"):
        store.read(folder)


def test_verify_finds_a_changed_bit(folder):
    path = folder / "test.values.vision.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    store.read(folder)
    with pytest.raises(DataError, match=r"vision\.npy was changed"):
        store.read(folder, verify=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "msa_jax store 99"), ("files", ["spec.json"]), ("files", {"../data.pkl": {"bytes": 1}}),
        ("files", {"/etc/passwd": {"bytes": 1}}), ("files", {"spec.json": 3}), ("files", {}), ("notes", [3]),
        ("notes", None), ("best_reachable", {"mae": "x"}), ("best_reachable", []),
    ],
)  # fmt: skip
def test_odd_manifests_are_refused(folder, key, value):
    manifest = json.loads((folder / store.MANIFEST).read_text())
    (folder / store.MANIFEST).write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(DataError, match="convert") as caught:
        store.read(folder)
    assert "\n" not in str(caught.value)


def rewrite(folder: pathlib.Path, name: str, data: bytes) -> None:
    """Changes a file together with its line in the manifest, as an attacker would."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / store.MANIFEST).read_text())
    manifest["files"][name]["bytes"] = len(data)
    (folder / store.MANIFEST).write_text(json.dumps(manifest))


def npy(folder: pathlib.Path, array: np.ndarray) -> bytes:
    np.save(folder.parent / "array.npy", array, allow_pickle=True)
    return (folder.parent / "array.npy").read_bytes()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("valid.values.text", np.zeros((3, 6, 5), np.float32)),
        ("valid.values.text", np.zeros((3, 6, 4), np.float64)),
        ("valid.lengths.audio", np.array([1, 2, 10], np.int32)),
        ("valid.lengths.audio", np.array([1, 2, -1], np.int32)),
        ("valid.lengths.audio", np.ones((3, 2), np.int32)),
        ("valid.labels.M", np.array([0, np.nan, 0], np.float32)),
        ("valid.labels.M", np.zeros(4, np.float32)),
        ("valid.ids", np.arange(3)),
        ("valid.ids", np.array(["a", "b", None], object)),
        ("valid.ids", np.full(3, 0x110000, np.uint32).view("<U1")),
        ("valid.tokens", np.zeros((3, 2, 6), np.int32)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder, name, array):
    rewrite(folder, f"{name}.npy", npy(folder, array))
    with pytest.raises(DataError, match="convert"):
        store.read(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"label_range": ["a", "b"]}, {"label_range": [1, -1]}, {"metrics": "x"}, {"counts": {}},
        {"modalities": {}}, {"tasks": ["M", "X"]}, {"has_tokens": False}, {"class_edges": [None, 1]},
        {"class_edges": [1.0]}, {"class_names": "abc"}, {"class_names": [1, 2, 3]}, {"class_names": ["a"]},
    ],
)  # fmt: skip
def test_odd_descriptions_are_refused(folder, change):
    spec = json.loads((folder / store.SPEC).read_text())
    rewrite(folder, store.SPEC, json.dumps({**spec, **change}).encode())
    with pytest.raises(DataError):
        store.read(folder)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b"", b"null", b'{"modalities": 3}'])
def test_no_json_at_all(folder, data):
    rewrite(folder, store.SPEC, data)
    with pytest.raises(DataError):
        store.read(folder)
    (folder / store.MANIFEST).write_bytes(data)
    with pytest.raises(DataError):
        store.read(folder)


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=120)
def test_mutated_stores_only_ever_give_data_errors(master, data):
    """Bytes are changed in the manifest, the description and the headers of the arrays."""
    name = data.draw(st.sampled_from(sorted(path.name for path in master.iterdir())))
    original = (master / name).read_bytes()
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, min(len(changed), 2000) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    try:
        (master / name).write_bytes(changed)
        with contextlib.suppress(DataError):
            store.read(master)
    finally:
        (master / name).write_bytes(original)


def test_a_column_group_cannot_fill_the_memory(folder):
    spec = json.loads((folder / store.SPEC).read_text())
    spec["modalities"]["audio"]["groups"] = {"all": "0-99999999999"}
    rewrite(folder, store.SPEC, json.dumps(spec).encode())
    with pytest.raises(DataError, match="'0-99999999999' is not a column list"):
        store.read(folder)
