"""Sound to features, block by block, so that a long clip takes no more memory than a short one."""

import functools
import importlib.metadata
import importlib.util
import io
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from msa_jax.data.columns import SIMS_AUDIO
from msa_jax.data.recipe import Part
from msa_jax.data.spec import format_columns
from msa_jax.errors import DataError
from msa_jax.files import in_turn
from msa_jax.media import decode

#: Of CH-SIMS's sound: samples a second, samples from one step to the next, and coefficients.
RATE, HOP, N_MFCC, N_CHROMA = 22050, 512, 20, 12
#: What MFCCs are cut off at, in decibels below the clip's loudest band; librosa's own default.
_TOP_DB = 80.0
#: Steps that are computed together, and beside them, for the filters of the constant-Q transform, of which
#: the longest has half a second.
_BLOCK, _MARGIN = 2048, 128

#: Samples a second for eGeMAPS, whose spectrum ends at 8 kHz.
EGEMAPS_RATE = 16000
#: eGeMAPS's 25 low-level descriptors by their names, in the groups of its article (Eyben et al. 2016).
_FREQUENCY = ("F0semitone", "jitter", "frequency_", "bandwidth_")
_ENERGY = ("Loudness", "shimmer", "HNR")


def part(extractor: str) -> Part:
    """The recipe of "librosa33" or "egemaps".

    Raises:
      DataError: if its package is not installed.
    """
    if extractor == "librosa33":
        _require("librosa", "media")
        columns = ("zcr", *(f"mfcc_{i}" for i in range(N_MFCC)), *(f"cqt_{i}" for i in range(N_CHROMA)))
        groups: dict[str, str] = dict(zip(("zcr", "mfcc", "cqt"), SIMS_AUDIO.values(), strict=True))
        version = {"librosa": importlib.metadata.version("librosa")}
        return Part(extractor, version, {"rate": RATE, "hop": HOP}, columns=columns, groups=groups)
    _require("opensmile", "egemaps")
    version = {"opensmile": importlib.metadata.version("opensmile")}
    columns = tuple(_smile().feature_names)
    return Part(extractor, version, {"rate": EGEMAPS_RATE}, columns=columns, groups=egemaps_groups(columns))


def extract(
    extractor: str, path: pathlib.Path, note: Callable[[str], None], scratch: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
    """A clip's sound features.

    Args:
      extractor: "librosa33" or "egemaps".
      path: the clip.
      note: told what was left out.
      scratch: folder for the decoded samples.

    Returns:
      float32 [T, D], and the seconds [T] at which the steps lie.

    Raises:
      Absent: if the clip has no sound track, or a silent or an empty one.
      DataError: if it is damaged.
    """
    rate = RATE if extractor == "librosa33" else EGEMAPS_RATE
    with tempfile.TemporaryFile(dir=scratch) as file:
        count = decode.write_sound(path, rate, file, note)
        if not count:
            raise decode.Absent(f"{path} has a sound track without samples")
        samples = Samples(file, count)
        if samples.loudest() < decode.SILENCE:
            raise decode.Absent(f"{path} is silent from end to end")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa warns of clips that are shorter than its windows
            return librosa33(samples) if extractor == "librosa33" else egemaps(samples)


class Samples:
    """Decoded samples in a file.

    Args:
      file: mono float32.
      count: how many.
    """

    def __init__(self, file: BinaryIO, count: int):
        self._file, self.count = file, count

    def read(self, start: int, stop: int) -> np.ndarray:
        """float32 [n], of those from ``start`` to ``stop`` that are there."""
        start, stop = max(0, start), min(self.count, stop)
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * (stop - start)), "<f4")

    def loudest(self) -> float:
        """The largest absolute sample; infinite samples count as none."""
        blocks = (self.read(i, i + _BLOCK * HOP) for i in range(0, self.count, _BLOCK * HOP))
        return max(float(np.abs(np.nan_to_num(block, posinf=0, neginf=0)).max(initial=0)) for block in blocks)


def librosa33(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """CH-SIMS's 33 columns: zero-crossing rate, 20 MFCCs (HTK mel), 12 of a constant-Q chromagram.

    Equal to librosa's on the whole clip but for rounding: what librosa takes from all steps (the loudest
    band, the tuning) is found in a first pass.

    Returns:
      float32 [T, 33], and seconds [T].
    """
    _compile()
    return _librosa33(samples)


@functools.cache
def _compile() -> None:
    """Has librosa's functions compiled, by one process at a time.

    Numba keeps them on the disk. Where two processes fill that cache at once it can be left broken, and kill
    each process that reads it from then on (numba/numba#10128).
    """
    tone = np.sin(2 * np.pi * 440 / RATE * np.arange(RATE)).astype("<f4")
    with in_turn("librosa.lock"):
        _librosa33(Samples(io.BytesIO(tone.tobytes()), len(tone)))


def _librosa33(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    import librosa

    loudest, tuning = _mel_peak(samples), _tuning(samples)
    rows = []
    for sound, keep in _blocks(samples):
        decibels = librosa.power_to_db(_mel(sound), top_db=None)
        decibels = np.maximum(decibels, loudest - _TOP_DB)
        mfcc = librosa.feature.mfcc(S=decibels, n_mfcc=N_MFCC)
        crossings = librosa.feature.zero_crossing_rate(sound, hop_length=HOP)
        chroma = librosa.feature.chroma_cqt(
            y=sound, sr=RATE, hop_length=HOP, n_chroma=N_CHROMA, tuning=tuning
        )
        steps = np.concatenate([crossings, mfcc, chroma]).astype(np.float32).T
        rows.append(steps[keep])
    features = np.concatenate(rows)
    return features, np.arange(len(features)) * (HOP / RATE)


def _blocks(samples: Samples) -> Iterator[tuple[np.ndarray, slice]]:
    """Sound with a margin on both sides, and which of its steps count.

    librosa centres its windows on multiples of the hop, and a clip of n samples has 1 + n // hop steps.
    """
    steps = 1 + samples.count // HOP
    for first in range(0, steps, _BLOCK):
        start, stop = max(0, first - _MARGIN), first + _BLOCK + _MARGIN
        sound = samples.read(start * HOP, min(samples.count, stop * HOP))
        last = min(steps, first + _BLOCK)
        yield np.nan_to_num(sound, posinf=0, neginf=0), slice(first - start, last - start)


def _mel(sound: np.ndarray) -> np.ndarray:
    """The mel spectrum of power [128, T]."""
    import librosa

    return librosa.feature.melspectrogram(y=sound, sr=RATE, hop_length=HOP, htk=True)


def _mel_peak(samples: Samples) -> float:
    """Decibels of the loudest band of the clip."""
    import librosa

    peak = max(float(_mel(sound)[:, keep].max()) for sound, keep in _blocks(samples))
    return float(librosa.power_to_db(np.array([[peak]]), top_db=None)[0, 0])


def _tuning(samples: Samples) -> float:
    """How far the clip's pitches lie from the scale, in bins; as ``librosa.estimate_tuning`` finds it."""
    import librosa

    found = []
    for sound, keep in _blocks(samples):
        pitch, strength = librosa.piptrack(y=sound, sr=RATE)
        pitch, strength = pitch[:, keep], strength[:, keep]
        found.append(np.stack([pitch[pitch > 0], strength[pitch > 0]]))
    pitch, strength = np.concatenate(found, axis=1)
    if not len(pitch):
        return 0.0
    return float(librosa.pitch_tuning(pitch[strength >= np.median(strength)], bins_per_octave=36))


def egemaps(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """openSMILE's 25 low-level descriptors of eGeMAPS v02, every 10 ms.

    openSMILE reads the clip's sound as a whole: 4 MB a minute.

    Returns:
      float32 [T, 25], and seconds [T].
    """
    found = _smile().process_signal(samples.read(0, samples.count), EGEMAPS_RATE)
    starts = found.index.get_level_values("start").total_seconds()
    return found.to_numpy(np.float32), np.asarray(starts, np.float64)


def egemaps_groups(columns: tuple[str, ...]) -> dict[str, str]:
    """The groups frequency, energy and spectrum of eGeMAPS's article."""

    def kind(name: str) -> str:
        if any(part in name for part in _ENERGY):
            return "energy"
        return "frequency" if any(part in name for part in _FREQUENCY) else "spectrum"

    kinds = [kind(name) for name in columns]
    numbers = {g: [i for i, k in enumerate(kinds) if k == g] for g in ("frequency", "energy", "spectrum")}
    return {group: format_columns(tuple(found)) for group, found in numbers.items()}


def _smile() -> Any:
    import opensmile

    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
    )


def _require(package: str, extra: str) -> None:
    """Refuses where a package of an extra is not installed."""
    if importlib.util.find_spec(package) is None:
        raise DataError(f"{package} is not here; it comes with the extra: pip install 'msa_jax[{extra}]'.")
