"""What a harmless pickle comes out as."""

import collections
import datetime
import io
import pathlib
import pickle
from typing import ClassVar

import feature_files
import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from msa_jax.data import mmsa
from msa_jax.data.pickle import machine
from msa_jax.data.pickle.arrays import Latin1, Span, StoredArray
from msa_jax.data.pickle.names import Foreign
from msa_jax.errors import DataError

PROTOCOLS = tuple(range(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


def load(folder: pathlib.Path, value, protocol: int = 4):
    path = folder / "value.pkl"
    # A feature file is a dict, by which protocols 0 and 1 are known.
    path.write_bytes(pickle.dumps({"value": value}, protocol=protocol))
    return machine.load(path)["value"]


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
@hypothesis.settings(max_examples=40)
def test_plain_values_come_back(folder, protocol, value):
    assert plain(load(folder, value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=40)
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
    data = pickle.dumps({"array": np.arange(3.0), "scalar": np.float64(2)}, protocol=protocol)
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
        array, scalar = machine.load(path).values()
        np.testing.assert_array_equal(array.load(), [0, 1, 2])
        assert scalar.load() == 2


class Python2Pickler(pickle._Pickler):  # pyright: ignore[reportAttributeAccessIssue]
    """Writes what Python 2 wrote: bytes and ASCII or Latin-1 texts alike as its own strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # pyright: ignore[reportAttributeAccessIssue]

    def save_string(self, value):
        data = value.encode("latin-1") if isinstance(value, str) else bytes(value)
        if self.proto == 0:
            self.write(b"S" + repr(data)[1:].encode() + b"\n")
        elif len(data) < 256:
            self.write(b"U" + bytes([len(data)]) + data)
        else:
            self.write(b"T" + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python_2(value, protocol: int) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol, fix_imports=True).dump(value)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_files_of_python_2(folder, protocol):
    data = feature_files.content()
    for part in data.values():
        part["raw_text"] = ["na\xefve", 'it\'s "so"\n', "x" * 5000, "", "\xe9" * 5000][: len(part["id"])]
        part["tags"] = {"caf\xe9"}
    path = folder / "python2.pkl"
    path.write_bytes(python_2(data, protocol))
    splits, notes = mmsa.read(path)
    assert notes == []
    for name, split in splits.items():
        assert split.ids.tolist() == data[name]["id"]
        assert split.raw_text is not None
        assert split.raw_text.tolist() == data[name]["raw_text"]
        np.testing.assert_array_equal(split.values["audio"], data[name]["audio"])
        np.testing.assert_array_equal(split.labels["M"], data[name]["regression_labels"])


def test_protocol_0_line_by_line(folder):
    """{'a': [u'\xe9', 1L, 2.5, True, None], 'b': ('x', numpy.arange(2))} as text."""
    lines = [
        *(b"(dp1", b"S'a'", b"(lp2", rb"V\u00e9", b"aL1L", b"aF2.5", b"aI01", b"aNasS'b'", b"(S'x'"),
        *(b"cnumpy.core.multiarray", b"_reconstruct", b"p3", b"(cnumpy", b"ndarray", b"p4", b"(I0", b"tp5"),
        *(b"S'b'", b"p6", b"tp7", b"Rp8", b"(I1", b"(I2", b"tp9", b"cnumpy", b"dtype", b"p10", b"(S'i8'"),
        *(b"p11", b"I0", b"I1", b"tp12", b"Rp13", b"(I3", b"S'<'", b"p14", b"NNNI-1", b"I-1", b"I0", b"tp15"),
        *(b"bI00", b"S'" + rb"\x00" * 8 + rb"\x01" + rb"\x00" * 7 + b"'", b"p16", b"tp17", b"btp18", b"s."),
    ]
    path = folder / "python2.pkl"
    path.write_bytes(b"\n".join(lines))
    value = machine.load(path)
    assert value["a"] == ["\xe9", 1, 2.5, True, None]
    assert value["b"][0].text() == "x"
    np.testing.assert_array_equal(value["b"][1].load(), [0, 1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=25)
def test_masked_arrays_come_back_with_nan(folder, protocol, data):
    kinds = st.sampled_from(["<f4", ">f8", "<i4"])
    array = data.draw(hnp.arrays(kinds, hnp.array_shapes(max_dims=3), elements=st.integers(0, 9)))
    mask = data.draw(hnp.arrays(bool, array.shape))
    order = data.draw(st.permutations(range(array.ndim)))
    masked = np.ma.array(array, mask=mask).transpose(order)
    stored = load(folder, masked, protocol)
    expected = np.where(masked.mask, np.nan, masked.data.astype(np.float64))
    np.testing.assert_array_equal(stored.load(np.float64), expected)
    np.testing.assert_array_equal(stored.view(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_masked_objects_and_whole_numbers(folder, protocol):
    objects = load(folder, np.ma.array(np.array(["a", 1], object), mask=[0, 1]), protocol)
    assert objects.objects() == ["a", None]
    numbers = load(folder, np.ma.array([1, 2], mask=[0, 1]), protocol)
    with pytest.raises(DataError, match="masked array of int64 hides values"):
        numbers.load()


# What pandas 3.1 writes for Series([1.0, 2.0]), without its inner parts.
SERIES = (
    b"\x80\x04}\x8c\x05value\x8c\x06pandas\x8c\x06Series\x93)\x81}(\x8c\x04_mgr\x8c\x1epandas.core.internals.managers"
    b"\x8c\x12SingleBlockManager\x93)\x81(\x8c\x16pandas._libs.internals\x8c\x0f_unpickle_block\x93K\x01\x85R"
    b"\x8c\x08builtins\x8c\x05slice\x93K\x00K\x02K\x01\x87Rtb\x8c\x04_typ\x8c\x06seriesubs."
)


def test_objects_of_other_packages_are_only_their_names(folder):
    path = folder / "foreign.pkl"
    path.write_bytes(SERIES)
    assert machine.load(path) == {"value": Foreign("pandas.Series")}
    for value, name in (
        (pathlib.PurePosixPath("a"), "pathlib.PurePosixPath"),
        (datetime.datetime(2020, 1, 1), "datetime.datetime"),
        (1j, "builtins.complex"),
        (slice(3), "builtins.slice"),
    ):
        for protocol in range(2, 6):
            assert load(folder, value, protocol) == Foreign(name)


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
