"""Manifests and folders: which clips there are, and what is wrong with them, in a sentence."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.errors import DataError
from msa_jax.media import clips, is_media


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.wav", "in/c.MKV", "notes.txt", "a.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def manifest(folder, *lines):
    path = folder / "clips.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_folder_gives_the_clips_inside_it_too(folder):
    found = clips.find(folder)
    assert [clip.id for clip in found] == ["a", "b", "in/c"]
    assert [clip.openface for clip in found] == [folder / "a.csv", None, None]
    assert found[0].transcript is None


def test_a_manifest_says_all_there_is_to_say(folder):
    path = manifest(
        folder,
        "clip,id,transcript,label,label_T,split,openface,speaker",
        'a.mp4,one,"Yes, it was  great",1.5,-1,train,a.csv,eva',
        "in/c.MKV,,,-2,0,test,,你好",
    )
    first, second = clips.find(path)
    assert (first.id, first.path, first.transcript) == ("one", folder / "a.mp4", "Yes, it was  great")
    assert (first.labels, first.split, first.columns) == ({"M": 1.5, "T": -1.0}, "train", {"speaker": "eva"})
    assert first.openface == folder / "a.csv"
    assert (second.id, second.transcript, second.openface) == ("in/c", None, None)
    assert second.columns == {"speaker": "你好"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file", "a.mp4"], "has no column 'clip'"),
        (["Clip,id", "a.mp4,1"], "Did you mean 'Clip'?"),
        (["clip"], "lists no clips"),
        (["clip", "z.mp4"], "line 2: 'z.mp4' is not a file in"),
        (["clip,split", "a.mp4,trian"], "unknown split 'trian', not one of .* Did you mean 'train'?"),
        (["clip,split", "a.mp4,train", "b.wav,"], "do not both have a split"),
        (["clip,label", "a.mp4,1", "b.wav,"], "do not both have labels"),
        (["clip,label", "a.mp4,good"], "the label 'good' is not a number"),
        (["clip,label", "a.mp4,nan"], "the label 'nan' is not a number"),
        (["clip,lable", "a.mp4,1"], "did you mean 'label'?"),
        (["clip,id", "a.mp4,x", "b.wav,x"], "several clips are called 'x'"),
        (["clip,who is it", "a.mp4,x"], "a column 'who is it'; name it with letters"),
        (["clip,clip", "a.mp4,x"], "two columns of one name"),
        (["clip", "a.mp4,b,c"], "line 2, has other columns than the first line"),
        (["clip,openface", "a.mp4,none.csv"], "there is no .*none.csv"),
        (['clip,id', 'a.mp4,"x'], "is not a CSV file in UTF-8"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_manifest_is_named(folder, lines, said):
    with pytest.raises(DataError, match=said):
        clips.find(manifest(folder, *lines))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="holds no clips"):
        clips.find(tmp_path)
    with pytest.raises(DataError, match="there is no"):
        clips.find(tmp_path / "absent.mp4")
    (tmp_path / "x.csv").write_bytes(b"clip\n\xff\xfe")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        clips.find(tmp_path / "x.csv")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(b"clip,id,label,split\n" + content)
    with contextlib.suppress(DataError):
        clips.find(path)


def test_what_counts_as_media(folder):
    assert is_media(folder)
    assert is_media(folder / "a.MP4")
    assert is_media(folder / "clips.csv")
    assert not is_media(folder / "features.pkl")
    (folder / "manifest.json").write_text("{}")
    assert not is_media(folder)
