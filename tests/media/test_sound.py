"""Sound features equal librosa's on the whole clip, however it is cut into blocks."""

import io

import numpy as np
import pytest
from media_files import tone, write_clip

from msa_jax.data.spec import parse_columns
from msa_jax.media import sound
from msa_jax.media.decode import Absent

pytestmark = pytest.mark.extras


def kept(values):
    return sound.Samples(io.BytesIO(values.astype("<f4").tobytes()), len(values))


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")
def test_librosa33_is_librosa_whole_and_in_blocks(monkeypatch):
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    y = (tone(9) / 32768 + rng.normal(scale=0.01, size=9 * 22050)).astype(np.float32)
    y[:40000] *= 0.001  # so that the cut below the loudest band matters
    features, times = sound.librosa33(kept(y))  # first: it has librosa compiled by one process at a time
    whole = np.concatenate(
        [
            librosa.feature.zero_crossing_rate(y, hop_length=512),
            librosa.feature.mfcc(y=y, sr=22050, n_mfcc=20, htk=True, hop_length=512),
            librosa.feature.chroma_cqt(y=y, sr=22050, hop_length=512),
        ]
    ).T
    np.testing.assert_array_equal(features, whole)
    np.testing.assert_allclose(times, np.arange(len(whole)) * 512 / 22050)
    monkeypatch.setattr(sound, "_BLOCK", 120)
    features, _ = sound.librosa33(kept(y))
    np.testing.assert_allclose(features[:, :21], whole[:, :21], atol=2e-3, rtol=1e-5)
    np.testing.assert_allclose(features[:, 21:], whole[:, 21:], atol=1e-3)


def test_the_recipe_names_every_column_once():
    pytest.importorskip("librosa")
    pytest.importorskip("opensmile")
    widths = {"librosa33": 33, "egemaps": 25}
    groups = {"librosa33": {"zcr", "mfcc", "cqt"}, "egemaps": {"frequency", "energy", "spectrum"}}
    for extractor, width in widths.items():
        part = sound.part(extractor)
        assert len(set(part.columns)) == width
        assert set(part.groups) == groups[extractor]
        columns = sorted(c for text in part.groups.values() for c in parse_columns(text))
        assert columns == list(range(width))
    smile = sound.part("egemaps")
    energy = [smile.columns[c] for c in parse_columns(smile.groups["energy"])]
    assert [name.partition("_")[0] for name in energy] == ["Loudness", "shimmerLocaldB", "HNRdBACF"]


def test_egemaps_has_a_step_every_ten_milliseconds(tmp_path):
    pytest.importorskip("opensmile")
    pytest.importorskip("av")
    path = write_clip(tmp_path / "a.wav", tone(1.0))
    features, times = sound.extract("egemaps", path, print, tmp_path)
    assert features.shape[1] == 25
    np.testing.assert_allclose(np.diff(times), 0.01, atol=1e-6)
    assert 0.9 < times[-1] < 1.0


def test_silence_is_no_sound(tmp_path):
    pytest.importorskip("av")
    path = write_clip(tmp_path / "a.wav", np.zeros(5000, np.int16))
    with pytest.raises(Absent, match="is silent from end to end"):
        sound.extract("librosa33", path, print, tmp_path)
