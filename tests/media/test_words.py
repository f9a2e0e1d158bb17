"""Transcripts beside clips, and words averaged over their time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_jax.errors import DataError
from msa_jax.media import collect, words
from msa_jax.media.extraction import Features
from msa_jax.media.words import Word

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,

2
00:00:03.250 --> 00:00:04,000 X1:10
it is
late.
"""


def test_subtitles_are_words_with_their_times():
    said = words.parse_srt(SRT.replace("\n", "\r\n"), "x.srt")
    assert said.transcript == "Hello there, it is late."
    assert said.timed == (Word("Hello there,", 1.0, 2.5), Word("it is late.", 3.25, 4.0))
    assert not said.by_word


def test_a_transcript_beside_the_clip(tmp_path):
    clip = tmp_path / "a b.mp4"
    assert words.beside(clip) is None
    (tmp_path / "a b.txt").write_text("\ufeffhello\n  there 你好\n", encoding="utf-8")
    assert words.beside(clip) == words.Words("hello there 你好")
    (tmp_path / "a b.srt").write_text(SRT)
    assert words.beside(clip).transcript == "Hello there, it is late."
    (tmp_path / "a b.srt").write_text("no subtitles")
    with pytest.raises(DataError, match="has no subtitles in the form of SubRip"):
        words.beside(clip)
    (tmp_path / "a b.srt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        words.beside(clip)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789:,.->\n\r <>{\\}a", max_size=300))
def test_any_text_is_subtitles_or_a_sentence(text):
    try:
        said = words.parse_srt(text, "x.srt")
    except DataError:
        return
    assert all(word.text and word.end >= word.start for word in said.timed)


def test_steps_are_averaged_over_words():
    """Worked by hand: words at 0-1, 1-1.1 and 2-3 seconds, a step every half second."""
    times = np.arange(6) / 2
    values = np.arange(6, dtype=np.float32)[:, None]
    timed = (Word("so", 0.0, 1.0), Word("a", 1.1, 1.2), Word("day", 2.0, 3.0))
    clip = Features({}, {"audio": times}, "so a day", timed, True, ())
    found = collect.per_word(values, times, clip, [None, 0, 1, 2, 2, None])
    np.testing.assert_allclose(found[:, 0], [2.5, 0.5, 2.0, 4.5, 4.5, 2.5])
    spans = [(0, 0), (0, 2), (3, 4), (5, 7), (7, 8), (0, 0)]
    assert [collect._word_of(clip, span) for span in spans] == [None, 0, 1, 2, 2, None]


def test_a_whisper_folder_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'msa_jax\[asr\]'"):
        words.asr_version(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    with pytest.raises(DataError, match="holds no Whisper model of CTranslate2"):
        words.asr_version(tmp_path)
