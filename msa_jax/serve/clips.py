"""From the JSON of a request to clips, checked against what the model reads."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from msa_jax.data.arrays import split_of
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Shape
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import nearest
from msa_jax.serve.limits import Refused

#: Characters of a transcript.
_TEXT = 20_000
#: Token ids are 32-bit numbers that a float32 holds, too.
_LARGEST_ID = 2**24


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
      values: per modality float32 [T, D]; without "text" where the model encodes the text itself.
      tokens: int32 [3, T], ids, mask and segment ids; or None.
      raw_text: the transcript, or None.
    """

    values: Mapping[str, np.ndarray]
    tokens: np.ndarray | None = None
    raw_text: str | None = None

    @property
    def kind(self) -> str:
        """What stands for the text; clips of one batch have the same."""
        return "text_bert" if self.tokens is not None else "text" if "text" in self.values else "raw_text"

    @property
    def steps(self) -> Shape:
        """Steps of text, audio and vision; a transcript counts as one."""
        words = 1 if self.kind == "raw_text" else len(self.values.get("text", ()))
        if self.tokens is not None:
            words = self.tokens.shape[1]
        return words, len(self.values["audio"]), len(self.values["vision"])


def joined(clips: Sequence[Clip]) -> Split:
    """Clips of one kind as a split."""
    features = {m: [clip.values[m] for clip in clips] for m in clips[0].values}
    tokens = None if clips[0].tokens is None else [clip.tokens for clip in clips]
    texts = None if clips[0].raw_text is None else [str(clip.raw_text) for clip in clips]
    return split_of(features, tokens, texts)


def blank(spec: Mapping[str, Any], shape: Shape) -> Clip:
    """A clip of zeros that fills a padded shape, with token ids where the model reads these."""
    steps = dict(zip(MODALITIES, shape, strict=True))
    values = {m: np.zeros((steps[m], spec["modalities"][m]["width"]), np.float32) for m in MODALITIES}
    if spec["reads"]["text"]:
        return Clip(values)
    words = values.pop("text").shape[0]
    tokens = np.zeros((3, words), np.int32)
    tokens[1] = 1
    return Clip(values, tokens=tokens)


class Reader:
    """Reads requests for one model.

    Args:
      spec: of the model, see :func:`msa_jax.serve.scorer.described`.
      most: clips of a request.
    """

    def __init__(self, spec: Mapping[str, Any], most: int):
        self.spec, self.most = spec, most
        self.texts = [name for name, read in spec["reads"].items() if read]
        self.keys = [*self.texts, "audio", "vision"]

    def one(self, body: bytes) -> Clip:
        """The clip of a body such as ``{"text": [[...]], "audio": [[...]], "vision": [[...]]}``.

        Raises:
          Refused: if it is anything else.
        """
        return self._clip(_parsed(body), "the clip", _has_booleans(body))

    def many(self, body: bytes) -> list[Clip]:
        """The clips of a body such as ``{"clips": [{"text": ...}, ...]}``.

        Raises:
          Refused: if it is anything else, or there are too many.
        """
        content = _parsed(body)
        if isinstance(content, dict):
            _check_keys(content, ["clips"], "the request")
        clips = content.get("clips") if isinstance(content, dict) else None
        if not isinstance(clips, list) or not clips:
            raise Refused('give {"clips": [...]} with one object for each clip.')
        if len(clips) > self.most:
            raise Refused(f"there are {len(clips)} clips; a request may have {self.most}.", 413)
        strict = _has_booleans(body)
        return [self._clip(clip, f"clip {number}", strict) for number, clip in enumerate(clips)]

    def _clip(self, content: Any, where: str, strict: bool) -> Clip:
        if not isinstance(content, dict):
            raise Refused(f"{where} is no JSON object; give one with {', '.join(self.keys)}.")
        _check_keys(content, self.keys, where)
        given = [name for name in self.texts if content.get(name) is not None]
        silent = not given and self.texts == ["text"] and self.spec["modalities"]["text"]["may_be_absent"]
        if len(given) != 1 and not silent:
            found = " and ".join(given) or "none of them"
            raise Refused(f"{where} needs {' or '.join(self.texts)}; found {found}.")
        values = {
            m: self._features(m, content.get(m), f"{m} of {where}", strict)
            for m in MODALITIES
            if m != "text" or silent or given == ["text"]
        }
        if given == ["text_bert"]:
            return Clip(values, tokens=self._tokens(content["text_bert"], where, strict))
        text = content["raw_text"] if given == ["raw_text"] else None
        return Clip(values, raw_text=None if text is None else _text(text, where))

    def _features(self, m: str, given: Any, where: str, strict: bool) -> np.ndarray:
        """[T, D] of one modality."""
        width, most = self.spec["modalities"][m]["width"], self.spec["modalities"][m]["steps"]
        if given is None or given == []:
            if self.spec["modalities"][m]["may_be_absent"]:
                return np.zeros((0, width), np.float32)
            found = "is missing" if given is None else "has no steps, and the model was not trained for that"
            raise Refused(f"{where} {found}; give a list of steps with {width} numbers each.")
        x = _numbers(given, where, f"give a list of steps with {width} numbers each", strict)
        if x.ndim != 2:
            raise Refused(f"{where} has {x.ndim} axes; give a list of steps with {width} numbers each.")
        if x.shape[1] != width:
            raise Refused(
                f"{where} has {x.shape[1]} columns, but the model was trained on {width}; extract the "
                "features as for its training data."
            )
        if len(x) > most:
            raise Refused(f"{where} has {len(x)} steps; the model is served for up to {most}.", 413)
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise Refused(f"{where} holds a number that is not finite or too large for float32.")
        return x

    def _tokens(self, given: Any, where: str, strict: bool) -> np.ndarray:
        """[3, T] token ids, mask and segment ids."""
        name, most = f"text_bert of {where}", self.spec["modalities"]["text"]["steps"]
        advice = "give three lists of whole numbers: token ids, mask and segment ids"
        x = _numbers(given, name, advice, strict)
        if x.ndim != 2 or x.shape[0] != 3 or not x.shape[1]:
            raise Refused(f"{name} has the shape {list(x.shape)}; {advice}.")
        if x.shape[1] > most:
            raise Refused(f"{name} has {x.shape[1]} tokens; the model is served for up to {most}.", 413)
        whole = (x == np.floor(x)) & (x >= 0) & (x <= _LARGEST_ID)  # False for NaN
        ordered = (np.diff(x[1]) <= 0).all() and (x[1:] <= 1).all()
        if not whole.all() or not ordered:
            raise Refused(
                f"{name} holds no token ids; {advice}, 0 or 1 in the mask and the real tokens first."
            )
        return x.astype(np.int32)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reasons = {
            UnicodeDecodeError: "it is not UTF-8",
            RecursionError: "it is nested too deeply",
            ValueError: "a number has too many digits",
        }
        reason = reasons.get(type(error)) or str(error).partition(": line")[0]
        raise Refused(f"the body is no JSON ({reason[:100]}); give one object.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise Refused(f"the body holds {name}, which JSON does not have; leave out what is unknown, or give 0.")


def _has_booleans(body: bytes) -> bool:
    """Whether numbers must be looked at one by one: NumPy takes true for 1 and does not tell."""
    return b"true" in body or b"false" in body


def _numbers(given: Any, where: str, advice: str, strict: bool) -> np.ndarray:
    """An array of the numbers in lists."""
    if not isinstance(given, list) or (strict and _any_boolean(given)):
        raise Refused(f"{where} does not hold numbers alone; {advice}.")
    try:
        x = np.asarray(given)
    except ValueError:  # NumPy's word for rows of unlike length
        raise Refused(f"{where} has steps of unlike length; {advice}.") from None
    if x.dtype.kind not in "iuf":
        raise Refused(f"{where} does not hold numbers alone; {advice}.")
    return x


def _any_boolean(given: Any) -> bool:
    if isinstance(given, list):
        return any(map(_any_boolean, given))
    return isinstance(given, bool)


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise Refused(f"raw_text of {where} is no text; give the words in quotes.")
    if len(given) > _TEXT:
        raise Refused(f"raw_text of {where} has {len(given)} characters; {_TEXT} are allowed.", 413)
    try:
        given.encode()
    except UnicodeEncodeError:
        raise Refused(f"raw_text of {where} holds half a character (a lone surrogate).") from None
    return given


def _check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in content:
        if key not in known:
            shown = key[:50].encode("ascii", "backslashreplace").decode()
            advice = nearest(key[:50], known) or f" The keys are {', '.join(known)}."
            raise Refused(f"{where} has an unknown key '{shown}'.{advice}")
