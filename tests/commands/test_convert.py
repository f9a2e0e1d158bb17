"""The convert command: exact, small in memory, and gone without a trace when it is stopped."""

import io
import json
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import feature_files
import numpy as np
import pytest
from rich.console import Console

from msa_jax.commands import convert
from msa_jax.data import store
from msa_jax.errors import ConfigError, DataError


def command(*arguments, **options):
    words = [sys.executable, "-W", "error", "-m", "msa_jax", "convert", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


def test_from_pickle_to_store(tmp_path):
    data = feature_files.content(unimodal=True)
    data["train"]["audio"][0, 0, 0] = np.inf
    data["train"]["audio_lengths"][0] = 3
    path = feature_files.write(tmp_path / "my data [1].pkl", data)
    done = command(path, tmp_path / "store")
    assert (done.returncode, done.stderr) == (0, "")
    assert "writing: 100 %" in done.stdout
    assert "note: train audio: 0 NaN and 1 infinite values in 1 columns; they count as 0." in done.stdout
    assert f"wrote {tmp_path / 'store'}: my data [1], 5 train, 3 valid, 4 test clips" in done.stdout
    dataset = store.read(tmp_path / "store", verify=True)
    for name, split in dataset.splits.items():
        for m in feature_files.STEPS:
            np.testing.assert_array_equal(split.values[m], data[name][m])


def test_a_terminal_gets_a_progress_bar(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with convert.stages(console) as stage:
        convert.convert(path, tmp_path / "store", {}, stage)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "checking" in shown
    assert "writing" in shown
    assert "100 %" not in shown
    size = store.size(store.read(tmp_path / "store")) / 1000
    assert f"{size:.1f}/{size:.1f} kB" in shown


def test_a_column_beside_the_clips_is_kept_on_request(tmp_path):
    data = feature_files.content()
    for part in data.values():
        part["speaker"] = np.arange(len(part["id"]))
    path = feature_files.write(tmp_path / "data.pkl", data)
    assert convert.main([str(path), str(tmp_path / "with"), "--group=speaker"]) == 0
    assert convert.main([str(path), str(tmp_path / "without")]) == 0
    kept = store.read(tmp_path / "with", verify=True).splits["valid"].clip_columns
    assert {name: column.tolist() for name, column in kept.items()} == {"speaker": ["0", "1", "2"]}
    assert store.read(tmp_path / "without").splits["valid"].clip_columns == {}
    with pytest.raises(ConfigError, match="names no column"):
        convert.main([str(path), str(tmp_path / "third"), "--group=../x"])
    assert not (tmp_path / "third").exists()


def test_name_metrics_and_range_can_be_given(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    options = ["--name", "films", "--metrics", "sims", "--label-range", "-5", "5"]
    assert convert.main([str(path), str(tmp_path / "store"), *options]) == 0
    spec = store.read(tmp_path / "store").spec
    assert (spec.name, spec.metrics, spec.label_range) == ("films", "sims", (-5.0, 5.0))


def test_names_of_classes_can_be_given(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    assert convert.main([str(path), str(tmp_path / "store"), "--class-names", "low", "middle", "high"]) == 0
    assert store.read(tmp_path / "store").spec.class_names == ("low", "middle", "high")


@pytest.mark.parametrize("fault", ["hostile", "missing", "occupied"])
def test_faults_are_one_sentence(tmp_path, fault):
    path = tmp_path / "data.pkl"
    if fault == "hostile":
        path.write_bytes(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.")
    if fault == "occupied":
        feature_files.write(path, feature_files.content())
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    done = command(path, tmp_path / "store")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert {"hostile": "call 'os.system'", "missing": "no such", "occupied": "exists"}[fault] in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_an_existing_store_is_refused_before_reading(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine").touch()
    with pytest.raises(DataError, match="exists already"):
        convert.main([str(tmp_path / "never read.pkl"), str(tmp_path / "store")])


def big_file(path: pathlib.Path, protocol: int, dtype: str = "f4", megabytes: int = 60) -> int:
    """Writes a file of so many MB of features and returns the bytes of its arrays."""
    rng = np.random.default_rng(0)
    clips = megabytes * 1_000_000 // (np.dtype(dtype).itemsize * 4 * 40 * 100)
    data = {}
    for name, count in (("train", 2 * clips), ("valid", clips), ("test", clips)):
        data[name] = {"id": [f"{name}{i}" for i in range(count)], "regression_labels": np.zeros(count)}
        for m, width in (("text", 60), ("audio", 30), ("vision", 10)):
            data[name][m] = rng.normal(size=(count, 40, width)).astype(dtype)
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return sum(part[m].nbytes for part in data.values() for m in feature_files.STEPS)


MEASURE = """
import sys
from msa_jax.commands import convert
sys.path.insert(0, sys.argv[1])
from peak_memory import grows_by_at_most
with grows_by_at_most(float(sys.argv[2])):
    convert.main(sys.argv[3:])
"""


@pytest.mark.parametrize(("protocol", "dtype"), [(2, "f4"), (4, "f4"), (5, "f4"), (2, "f8"), (4, ">f4")])
def test_peak_memory_is_at_most_1_2_times_the_arrays(tmp_path, protocol, dtype):
    """In a process of its own, which has no memory to spare from earlier tests."""
    limit = 1.2 * big_file(tmp_path / "big.pkl", protocol, dtype)
    folder = pathlib.Path(__file__).parents[1]
    words = [sys.executable, "-c", MEASURE, folder, limit, tmp_path / "big.pkl", tmp_path / "store"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Stops itself with a real signal while the n-th block is written.
STOPPED = """
import os, signal, sys
from msa_jax.commands import convert
from msa_jax.data import store
write, blocks = store.write, 0
def counted(dataset, folder, progress):
    def step(count):
        global blocks
        blocks += 1
        progress(count)
        if blocks == int(sys.argv[1]):
            os.kill(os.getpid(), int(sys.argv[2]))
    write(dataset, folder, step)
store.write = counted
# Whoever runs the tests in a shell's background has them ignore Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(convert.main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("block", [1, 9])
def test_a_signal_while_writing_leaves_nothing(tmp_path, number, block):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    words = [sys.executable, "-c", STOPPED, str(block), str(int(number)), str(path), str(tmp_path / "store")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + number
    assert f"interrupted by {number.name}; {tmp_path / 'store'} was not made." in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_signal_from_outside_leaves_nothing(tmp_path):
    path = tmp_path / "big.pkl"
    big_file(path, 4, megabytes=150)
    words = [sys.executable, "-m", "msa_jax", "convert", str(path), str(tmp_path / "store")]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    while len(list(tmp_path.iterdir())) == 1 and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(signal.SIGTERM)
    said = running.stdout.read()
    running.stdout.close()
    assert running.wait(timeout=60) == 128 + signal.SIGTERM, said
    assert list(tmp_path.iterdir()) == [path]


def test_the_manifest_lists_every_file(tmp_path):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    convert.main([str(path), str(tmp_path / "store")])
    manifest = json.loads((tmp_path / "store" / store.MANIFEST).read_text())
    assert {*manifest["files"], store.MANIFEST} == {file.name for file in (tmp_path / "store").iterdir()}
