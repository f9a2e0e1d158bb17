"""What is said in a clip: its transcript, and when each word is said where that is known."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import re
import tempfile
from typing import Any

import numpy as np

from msa_jax.errors import DataError
from msa_jax.media import decode

#: Samples a second that Whisper reads.
_RATE = 16000
ASR = "asr"
#: Endings of transcripts beside a clip, the first of which is taken.
TRANSCRIPTS = (".srt", ".txt")
#: Of a transcript's file; a film's subtitles have about 100 kB.
_MOST_BYTES = 4_000_000
_TIME = r"(\d{1,3}):(\d\d):(\d\d)[,.](\d{1,3})"
_CUE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"<[^<>]{0,100}>|\{\\[^{}]{0,100}\}")


@dataclasses.dataclass(frozen=True)
class Word:
    """A word, or a subtitle's words, and from when to when it is said, in seconds."""

    text: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Words:
    """What is said.

    Attributes:
      transcript: all of it; "" where nothing is said.
      timed: its parts in their order; empty where nobody knows the times.
      by_word: whether every part is a single word.
    """

    transcript: str
    timed: tuple[Word, ...] = ()
    by_word: bool = False


def beside(clip: pathlib.Path) -> Words | None:
    """The transcript in the ``.txt`` or ``.srt`` file of a clip's name; the ``.srt`` is taken first.

    Raises:
      DataError: if the file cannot be read or an ``.srt`` has no subtitles.
    """
    for suffix in TRANSCRIPTS:
        path = clip.with_suffix(suffix)
        if path.is_file():
            text = _read(path)
            return parse_srt(text, str(path)) if suffix == ".srt" else Words(" ".join(text.split()))
    return None


def parse_srt(text: str, where: str) -> Words:
    """SubRip subtitles.

    Args:
      text: of the file.
      where: its name, for messages.

    Raises:
      DataError: if it has no subtitles.
    """
    parts: list[Word] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip().split("\n")
        found = [(number, _CUE.match(line)) for number, line in enumerate(lines[:2])]
        number, cue = next(((n, match) for n, match in found if match), (0, None))
        if cue is None:
            continue
        said = " ".join(_TAG.sub("", " ".join(lines[number + 1 :])).split())
        hours = [int(x) for x in cue.groups()]
        start, end = (h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (hours[:4], hours[4:]))
        if said and end >= start:
            parts.append(Word(said, start, end))
    if not parts:
        raise DataError(f"{where} has no subtitles in the form of SubRip; correct it, or remove it.")
    return Words(" ".join(part.text for part in parts), tuple(parts))


def _read(path: pathlib.Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} is too large for a transcript; remove it or make it shorter.")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it so.") from None


def asr_version(folder: pathlib.Path) -> dict[str, str]:
    """The version and the model's sum that recognise speech, for the recipe of the text.

    Raises:
      DataError: if the package is not installed, or the folder holds no CTranslate2 model.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise DataError("faster-whisper is not here; it comes with the extra: pip install 'msa_jax[asr]'.")
    model = folder / "model.bin"
    if not model.is_file():
        raise DataError(
            f"{folder} holds no Whisper model of CTranslate2 (it has no model.bin); name the folder of one."
        )
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"faster-whisper": importlib.metadata.version("faster-whisper"), "asr-model": digest}


def recognised(path: pathlib.Path, folder: pathlib.Path, scratch: pathlib.Path) -> Words:
    """What a Whisper model hears, word by word.

    The sound is held in memory, 4 MB a minute.

    Args:
      path: the clip.
      folder: a Whisper model of CTranslate2.
      scratch: folder for the decoded samples.

    Raises:
      Absent: if the clip has no sound track, or a silent one.
      DataError: if it is damaged, or the model cannot be loaded.
    """
    with tempfile.TemporaryFile(dir=scratch) as file:
        decode.write_sound(path, _RATE, file)
        file.seek(0)
        sound = np.nan_to_num(np.frombuffer(file.read(), "<f4"), posinf=0, neginf=0)
    if np.abs(sound).max(initial=0) < decode.SILENCE:  # Whisper hears words in silence
        raise decode.Absent(f"{path} is silent from end to end")
    segments, _ = _whisper(folder).transcribe(sound, word_timestamps=True, vad_filter=False, temperature=0.0)
    heard = [word for segment in segments for word in segment.words or ()]
    timed = tuple(Word(w.word.strip(), float(w.start), float(w.end)) for w in heard if w.word.strip())
    return Words(" ".join(word.text for word in timed), timed, by_word=True)


@functools.cache
def _whisper(folder: pathlib.Path) -> Any:
    """The model, loaded once in a process."""
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
        )
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{folder} cannot be loaded as a Whisper model ({error!s:.100}).") from error
