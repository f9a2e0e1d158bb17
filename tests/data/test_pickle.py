"""What a harmless pickle comes out as."""

import collections
import pathlib
import pickle

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from msa_jax.data.pickle import machine
from msa_jax.data.pickle.arrays import Latin1, Span, StoredArray
from msa_jax.errors import DataError

PROTOCOLS = (2, 3, 4, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


def load(folder: pathlib.Path, value, protocol: int = 4):
    path = folder / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return machine.load(path)


def plain(value):
    """Turns what the reader leaves unread into the values that were meant."""
    if isinstance(value, StoredArray):
        return value.objects() if value.dtype.kind == "O" else value.load()[()]
    if isinstance(value, Latin1):
        return b"".join(value.pieces())
    if isinstance(value, Span):
        return value.decode() if value.text else b"".join(value.pieces())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
nested = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@hypothesis.given(value=nested)
@hypothesis.settings(max_examples=40, deadline=None)
def test_plain_values_come_back(folder, protocol, value):
    assert plain(load(folder, value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=40, deadline=None)
def test_arrays_of_any_type_shape_and_order_come_back(folder, protocol, data):
    kinds = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64))
    kinds = kinds | hnp.unicode_string_dtypes(max_len=5) | hnp.byte_string_dtypes(max_len=5)
    array = data.draw(hnp.arrays(kinds, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    stored = load(folder, array, protocol)
    assert stored.shape == array.shape
    assert stored.dtype == array.dtype
    np.testing.assert_array_equal(stored.load(), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", ">i8"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_large_arrays_come_back_as_float32(folder, protocol, dtype, axes):
    array = (np.arange(24 * 40 * 11).reshape(24, 40, 11) % 1999).astype(dtype).transpose(axes)
    stored = load(folder, {"a": array}, protocol)["a"]
    np.testing.assert_array_equal(stored.load(np.float32), array)
    np.testing.assert_array_equal(stored.view(np.float32), array)


def test_large_float32_is_mapped_and_cannot_be_written(folder):
    values = load(folder, np.ones((50, 60), np.float32), 4).view(np.float32)
    assert isinstance(values, np.memmap)
    assert not values.flags.writeable


def test_pieces_may_cut_anywhere(folder, monkeypatch):
    """Reads by 7 bytes cut both elements and the two-byte characters of protocol 2."""
    monkeypatch.setattr("msa_jax.data.pickle.arrays._PIECE", 7)
    array = np.random.default_rng(0).normal(size=3000)
    for protocol in PROTOCOLS:
        np.testing.assert_array_equal(load(folder, array, protocol).load(), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_of_the_standard_library(folder, protocol):
    nested = collections.defaultdict(list, {"a": [1, 2]})
    value = {"o": collections.OrderedDict(x=1), "d": nested, "s": {7}, "e": b"", "n": np.float32(0.5)}
    assert plain(load(folder, value, protocol)) == {
        "o": {"x": 1},
        "d": {"a": [1, 2]},
        "s": [7],
        "e": b"",
        "n": 0.5,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_and_2_names(folder, protocol):
    data = pickle.dumps([np.arange(3.0), np.float64(2)], protocol=protocol)
    path = folder / "names.pkl"
    for core in (b"numpy.core", b"numpy._core"):
        # The length in front of each name of protocols 4 and 5 is one byte.
        changed = data
        for module in (b"multiarray", b"numeric"):
            for old in (b"numpy.core." + module, b"numpy._core." + module):
                new = core + b"." + module
                changed = changed.replace(
                    b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new
                )
                changed = changed.replace(b"c" + old + b"\n", b"c" + new + b"\n")
        assert core + b"." in changed
        path.write_bytes(changed)
        array, scalar = machine.load(path)
        np.testing.assert_array_equal(array.load(), [0, 1, 2])
        assert scalar.load() == 2


def test_long_strings_stay_in_the_file(folder):
    text, data = "é" * 5000, b"\xff" * 5000
    stored_text, stored_data = load(folder, [text, data])
    assert (stored_text.decode(), plain(stored_data)) == (text, data)


def test_objects_come_back_flat(folder):
    stored = load(folder, np.array([["a", b"b"], ["c", 1]], object))
    assert stored.objects() == ["a", b"b", "c", 1]
    with pytest.raises(DataError, match="objects where numbers"):
        stored.load()


def test_many_strings_are_fast_enough(folder, monkeypatch):
    """As many strings as MOSEI has clips, several times over: far from the limit on instructions."""
    monkeypatch.setattr(machine, "MAX_INSTRUCTIONS", 1_000_000)
    clips = [f"clip {i}" for i in range(23_000)]
    value = {key: [f"{key} {clip}" for clip in clips] for key in ("id", "raw_text", "annotations")}
    assert load(folder, value) == value
