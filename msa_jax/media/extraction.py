"""One clip to features, by a plan that is the same for all clips of a data set."""

import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from msa_jax.data.recipe import NONE, Part, Recipe
from msa_jax.errors import ConfigError, DataError
from msa_jax.files import write_whole
from msa_jax.media import decode, faces, openface, sound, words
from msa_jax.media.clips import Clip
from msa_jax.media.decode import Absent
from msa_jax.media.words import Word

AUDIO, VISION = ("librosa33", "egemaps", NONE), ("mediapipe", "openface", NONE)
ENCODER = "encoder"
#: Frames per second that a plan may ask for.
_FPS = (0.1, 60.0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is extracted, and with what.

    Attributes:
      audio: one of :data:`AUDIO`.
      vision: one of :data:`VISION`.
      face_model: MediaPipe's bundle, for vision "mediapipe".
      fps: frames looked at per second.
      encoder: folder of the BERT encoder that makes text features; None leaves text out.
      asr: folder of a Whisper model for clips without a transcript; None for none.
      longest: seconds that a clip may play; 0: any number.
      align: "words": sound and faces are averaged over each token's word; "": they keep their own steps.
    """

    audio: str = "librosa33"
    vision: str = "mediapipe"
    face_model: pathlib.Path | None = None
    fps: float = 10.0
    encoder: pathlib.Path | None = None
    asr: pathlib.Path | None = None
    align: str = ""
    longest: float = 0.0

    def check(self) -> None:
        """Refuses what does not go together, before anything is read.

        Raises:
          ConfigError: for such a plan.
        """
        if self.audio == self.vision == NONE and self.encoder is None:
            raise ConfigError("nothing is to be extracted; name an --audio, a --vision or an --encoder.")
        if not _FPS[0] <= self.fps <= _FPS[1]:
            raise ConfigError(
                f"--fps={self.fps:g} is not between {_FPS[0]:g} and {_FPS[1]:g} frames per second."
            )
        if self.asr is not None and self.encoder is None:
            raise ConfigError("--asr makes transcripts, which an --encoder makes features of; name one.")
        if self.align and self.encoder is None:
            raise ConfigError("--align=words needs words; name an --encoder.")

    def recipe(self) -> Recipe:
        """How features are made by this plan, with the versions and files that are here.

        Raises:
          DataError: if a package or a file is missing.
        """
        text, audio, vision = Part(NONE), Part(NONE), Part(NONE)
        if self.encoder is not None:
            text = self._text()
        if self.audio != NONE:
            audio = sound.part(self.audio)
        if self.vision != NONE:
            vision = openface.part() if self.vision == "openface" else faces.part(self.face_model, self.fps)
        if self.align:
            aligned = {"align": self.align}
            audio = dataclasses.replace(audio, arguments={**audio.arguments, **aligned})
            vision = dataclasses.replace(vision, arguments={**vision.arguments, **aligned})
        return {"text": text, "audio": audio, "vision": vision}

    def _text(self) -> Part:
        assert self.encoder is not None
        provenance = {ENCODER: str(self.encoder.absolute())}
        if self.asr is not None:
            provenance |= {words.ASR: str(self.asr.absolute()), **words.asr_version(self.asr)}
        return Part("bert", files={ENCODER: encoder_sum(self.encoder)}, provenance=provenance)


def plan_of(recipe: Recipe, places: Mapping[str, pathlib.Path | None]) -> Plan:
    """The plan that made a recipe's features.

    Args:
      recipe: of data or of a run.
      places: role ("face-model", "encoder", "asr") -> file or folder, before what the recipe remembers.

    Raises:
      DataError: if the features are of no recipe that is known here.
    """

    def place(part: Part, role: str) -> pathlib.Path | None:
        known = part.provenance.get(role)
        return places.get(role) or (None if known is None else pathlib.Path(known))

    text, audio, vision = (recipe.get(m, Part(NONE)) for m in ("text", "audio", "vision"))
    known = text.extractor in ("bert", NONE) and audio.extractor in AUDIO and vision.extractor in VISION
    if not known:
        made = ", ".join(part.extractor for part in (text, audio, vision))
        raise DataError(f"features were made by {made:.200}, which this version does not know.")
    return Plan(
        audio.extractor,
        vision.extractor,
        place(vision, faces.MODEL),
        float(vision.arguments.get("fps", 10.0)),
        place(text, ENCODER),
        place(text, words.ASR),
        str(audio.arguments.get("align", "")),
    )


def encoder_sum(folder: pathlib.Path) -> str:
    """A sum of an encoder's weights, by which it is known again.

    Raises:
      DataError: if the folder has no weights in the layout of Hugging Face.
    """
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not weights:
        raise DataError(
            f"{folder} holds no encoder (no .safetensors file); name the folder of a BERT encoder in "
            "the layout of Hugging Face."
        )
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Features:
    """What was made of a clip.

    Attributes:
      values: "audio" and "vision", float32 [T, D]; without steps where the clip has nothing of the kind.
      times: the seconds [T] of their steps.
      transcript: what is said; "" where nothing is, or text is left out.
      timed: its parts with their times, where these are known.
      by_word: whether each part is one word.
      notes: modality -> what was left out, sentences without an end.
      source: sums up the clip's files, to see whether they have changed (:func:`source_of`).
    """

    values: Mapping[str, np.ndarray]
    times: Mapping[str, np.ndarray]
    transcript: str
    timed: tuple[Word, ...]
    by_word: bool
    notes: tuple[tuple[str, str], ...]
    source: str = ""

    def write(self, path: pathlib.Path) -> None:
        """Writes them as one ``.npz`` file, whole or not at all."""
        said = {
            "transcript": self.transcript,
            "timed": [dataclasses.astuple(word) for word in self.timed],
            "by_word": self.by_word,
            "notes": self.notes,
            "source": self.source,
        }
        arrays = {m: self.values[m] for m in self.values} | {f"{m}_times": t for m, t in self.times.items()}
        content = io.BytesIO()
        np.savez(content, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        write_whole(path, content.getvalue(), "make room, or name another --out")

    @classmethod
    def read(cls, path: pathlib.Path) -> "Features":
        """Reads what :meth:`write` wrote.

        Raises:
          DataError: if the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                said = json.loads(held["said"].tobytes())
                values = {m: held[m] for m in ("audio", "vision")}
                times = {m: held[f"{m}_times"] for m in ("audio", "vision")}
            timed = tuple(Word(*word) for word in said["timed"])
            notes = tuple((str(m), str(note)) for m, note in said["notes"])
            return cls(values, times, said["transcript"], timed, said["by_word"], notes, said["source"])
        except Exception as error:  # whatever a damaged archive sets off
            raise DataError(f"{path} is damaged ({error!s:.100}); remove it.") from error


def source_of(clip: Clip) -> str:
    """A sum of what a clip's features come from: the sizes and times of its files, and its transcript."""
    files = [clip.path, clip.openface, *(clip.path.with_suffix(suffix) for suffix in words.TRANSCRIPTS)]
    found = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p is not None and p.exists()]
    return hashlib.sha256(json.dumps([found, clip.transcript]).encode()).hexdigest()


def extract(clip: Clip, plan: Plan, recipe: Recipe, scratch: pathlib.Path) -> Features:
    """Makes a clip's features.

    What a clip lacks (sound, a face, words) has no steps and a note.

    Args:
      clip: which.
      plan: what is made.
      recipe: of the plan; says how many columns there are.
      scratch: folder for decoded sound.

    Raises:
      DataError: if the clip is damaged or is none, or has nothing at all of what is wanted.
    """
    if plan.longest and (found := decode.duration(clip.path)) > plan.longest:
        raise DataError(f"{clip.path} plays {found:.0f} seconds, more than {plan.longest:g}; cut it.")
    notes: list[tuple[str, str]] = []
    values, times = {}, {}

    def attempt(modality: str, extractor: str, made: Callable[[], Any]) -> None:
        width = len(recipe[modality].columns) or 1
        values[modality], times[modality] = np.zeros((0, width), np.float32), np.zeros(0)
        if extractor == NONE:
            return
        try:
            values[modality], times[modality] = made()
        except Absent as absent:
            notes.append((modality, str(absent)))

    def note(modality: str) -> Callable[[str], None]:
        return lambda text: notes.append((modality, text))

    attempt("audio", plan.audio, lambda: sound.extract(plan.audio, clip.path, note("audio"), scratch))
    attempt("vision", plan.vision, lambda: _vision(clip, plan, note("vision")))
    said = words.Words("")
    if plan.encoder is not None:
        try:
            said = _words(clip, plan, scratch)
        except Absent as absent:
            notes.append(("text", str(absent)))
    if not said.transcript and not any(len(x) for x in values.values()):
        raise DataError(f"{clip.path} has nothing to extract: {'; '.join(text for _, text in notes):.500}.")
    if plan.align and said.transcript and not said.by_word:
        raise DataError(
            f"{clip.path}: --align=words needs the time of every word, which its transcript does not have; "
            "leave the transcript out and name an --asr model."
        )
    source = source_of(clip)
    return Features(values, times, said.transcript, said.timed, said.by_word, tuple(notes), source)


def _vision(clip: Clip, plan: Plan, note: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    if plan.vision == "openface":
        if clip.openface is None:
            raise DataError(
                f"{clip.path} has no OpenFace file; name it in the manifest's column 'openface', or put "
                f"it beside the clip as {clip.path.stem}.csv."
            )
        return openface.extract(clip.openface, note)
    assert plan.face_model is not None  # the recipe saw to it
    return faces.extract(clip.path, plan.face_model, plan.fps, note)


def _words(clip: Clip, plan: Plan, scratch: pathlib.Path) -> words.Words:
    """The manifest's transcript, else that beside the clip, else what is heard."""
    said = words.Words(" ".join(clip.transcript.split())) if clip.transcript else words.beside(clip.path)
    if said is None and plan.asr is not None:
        said = words.recognised(clip.path, plan.asr, scratch)
        if not said.transcript:
            raise Absent(f"{clip.path} has no words that {plan.asr.name} hears")
    if said is None or not said.transcript:
        raise Absent(
            f"{clip.path} has no transcript; put one into the manifest or into {clip.path.stem}.txt, or name "
            "an --asr model"
        )
    return said
