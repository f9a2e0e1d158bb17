"""Sound and frames of a media file: times, rotation, what is missing, and what is hostile."""

import io
import pathlib

import numpy as np
import pytest
from media_files import pictures, tone, turned, write_clip

from msa_jax.errors import DataError
from msa_jax.media import decode
from msa_jax.media.decode import Absent

pytestmark = pytest.mark.extras


@pytest.fixture(autouse=True)
def _av():
    pytest.importorskip("av")


def samples(path, rate=8000):
    file = io.BytesIO()
    count = decode.write_sound(path, rate, file)
    found = np.frombuffer(file.getvalue(), "<f4")
    assert len(found) == count
    return found


def test_sound_keeps_its_length_and_loudness_at_another_rate(tmp_path):
    path = write_clip(tmp_path / "a b 你好.wav", tone(1.5, 44100), rate=44100)
    found = samples(path)
    assert len(found) == pytest.approx(12000, abs=8)
    loud = np.sqrt(np.mean((tone(1.5, 44100) / 32768) ** 2))
    assert np.sqrt(np.mean(found**2)) == pytest.approx(loud, rel=0.02)


def test_six_channels_become_one(tmp_path):
    sound = np.stack([tone(0.5, pitch=100 * k) for k in range(1, 7)])
    found = samples(write_clip(tmp_path / "film.wav", sound, layout="5.1"), 22050)
    assert len(found) == pytest.approx(11025, abs=8)
    assert np.abs(found).max() > 0.01


def shown(path, fps):
    """Times and the brightness of the picture's middle."""
    found = list(decode.frames(path, fps))
    return [time for time, _ in found], [int(picture[24, 40, 0]) for _, picture in found]


def test_pictures_come_at_the_times_that_are_asked_for(tmp_path):
    path = write_clip(tmp_path / "v.mkv", frames=pictures(10), fps=10)
    times, bright = shown(path, 5)
    assert times == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(bright, [10 + 16 * k for k in range(5)], atol=3)
    times, bright = shown(path, 20)
    assert len(times) == 20
    np.testing.assert_allclose(bright, [10 + 8 * (k // 2) for k in range(20)], atol=3)


def test_a_variable_rate_is_read_by_time_stamps(tmp_path):
    path = write_clip(tmp_path / "v.mkv", frames=pictures(5), times=[0, 100, 500, 1500, 1600])
    times, bright = shown(path, 10)
    numbers = [0, 1, 1, 1, 1, *[2] * 10, 3, 4]
    assert times == pytest.approx([k / 10 for k in range(len(times))])
    assert len(bright) in (16, 17)  # how long the last picture stays, the file does not say
    np.testing.assert_allclose(bright, [10 + 8 * k for k in numbers][: len(bright)], atol=3)


def test_a_picture_does_not_stay_for_hours(tmp_path):
    path = write_clip(tmp_path / "v.mkv", frames=pictures(2), times=[0, 3_600_000])
    times, _ = shown(path, 10)
    assert len(times) in range(50, 53)
    assert times[-1] >= 3600


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phones_rotation_is_undone(tmp_path, degrees):
    """A player turns the picture clockwise; the stripe on the left goes to the top, the right, or below."""
    path = write_clip(tmp_path / "v.mp4", frames=pictures(3))
    _, picture = next(decode.frames(turned(path, tmp_path / "t.mp4", degrees), 10))
    assert picture.shape == ((64, 48, 3) if degrees != 180 else (48, 64, 3))
    edge = {90: picture[:4], 180: picture[:, -4:], 270: picture[-4:]}[degrees]
    assert edge.mean() > 200
    assert picture.mean() < 100


def test_what_a_clip_lacks_is_absent(tmp_path):
    sound = write_clip(tmp_path / "s.wav", tone(0.2))
    silent = write_clip(tmp_path / "v.mp4", frames=pictures(3))
    assert decode.duration(sound) == pytest.approx(0.2, abs=0.01)
    assert decode.duration(silent) == pytest.approx(0.3, abs=0.01)
    with pytest.raises(Absent, match="has no video"):
        next(decode.frames(sound, 10))
    with pytest.raises(Absent, match="has no sound track"):
        samples(silent)


def test_what_is_no_clip_is_refused_in_a_sentence(tmp_path):
    cases = {
        "empty.mp4": (b"", "is empty"),
        "text.mp4": (b"hello " * 100, "is not a video or sound file"),
        "picture.mp4": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image, not a clip"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said):
            decode.duration(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        decode.duration(tmp_path / "absent.mp4")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".sdp"])
def test_a_playlist_opens_no_other_file(tmp_path, playlist, suffix):
    clip = write_clip(tmp_path / "secret.wav", tone(0.2))
    path = tmp_path / f"list{suffix}"
    path.write_text(playlist.format(clip=clip.name))
    with pytest.raises(DataError, match="is not a video or sound file"):
        decode.duration(path)


def test_a_cut_file_is_damaged_or_short_but_never_a_traceback(tmp_path):
    path = write_clip(tmp_path / "v.mp4", tone(1.0), pictures(10))
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError):  # the index of an MP4 stands at its end
            samples(cut)
    mkv = write_clip(tmp_path / "v.mkv", tone(1.0), pictures(10))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(mkv.read_bytes()[:-2000])
    assert 0 < len(samples(cut)) < 8000


def test_a_path_is_no_address_of_ffmpegs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "a.wav", tone(0.2))
    odd = pathlib.Path("concat:a.wav")
    clip.rename(odd)
    assert decode.duration(odd) > 0
