"""What ``/openapi.json`` says of each address."""

from collections.abc import Mapping
from typing import Any

from msa_jax.serve.limits import Limits
from msa_jax.serve.uploads import STRIDE, WINDOW

_REFUSAL = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "one sentence"}},
}
_SCORES = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
_ANSWER = {
    "type": "object",
    "properties": {
        "score": {
            "type": ["number", "null"],
            "description": "of the whole clip; null where it is not finite",
        },
        "class": {"type": ["string", "null"]},
        "scores": {**_SCORES, "description": "of single modalities: T, A, V"},
        "probabilities": {**_SCORES, "description": "of the classes, from a classifier"},
        "classes": {"type": "object", "description": "of single modalities, from a classifier"},
    },
}
_EFFECT = {
    "type": ["number", "null"],
    "description": "the score, or the predicted class's probability, less what it is without this",
}
_MEDIA = {
    "type": "object",
    "properties": {
        **_ANSWER["properties"],
        "transcript": {"type": "string"},
        "duration": {"type": "number", "description": "seconds"},
        "curve": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "start": {"type": "number"},
                    "end": {"type": "number"},
                    "score": {"type": ["number", "null"]},
                    "scores": _SCORES,
                    "words": {"type": "string"},
                },
            },
        },
        "parts": {
            **_SCORES,
            "description": "Shapley values of text, audio and vision, which add up to the score, or the "
            "predicted class's probability, less nothing_known",
        },
        "nothing_known": {
            "type": ["number", "null"],
            "description": "what a clip without all three would get",
        },
        "moved_by": {
            "type": "array",
            "description": "sub-features, the largest effects first",
            "items": {
                "type": "object",
                "properties": {
                    "modality": {"type": "string"},
                    "group": {"type": "string"},
                    "effect": _EFFECT,
                },
            },
        },
        "words": {
            "type": "array",
            "description": "in their order; not of long transcripts",
            "items": {"type": "object", "properties": {"word": {"type": "string"}, "effect": _EFFECT}},
        },
    },
}
_REFUSED = {
    400: "not what the model reads",
    413: "too long, or too many clips",
    503: "busy, or out of time",
}


def _answers(content: Mapping[str, Any], refused: Mapping[int, str] = _REFUSED) -> dict[Any, Any]:
    return {
        200: {"description": "the answer", "content": {"application/json": {"schema": content}}},
        **{
            status: {"description": meaning, "content": {"application/json": {"schema": _REFUSAL}}}
            for status, meaning in refused.items()
        },
    }


def _clip(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a clip's features, with the model's own widths."""
    whole = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    known: dict[str, Any] = {
        "text_bert": {
            "type": "array",
            "items": whole,
            "minItems": 3,
            "maxItems": 3,
            "description": "token ids, mask, segment ids",
        },
        "raw_text": {"type": "string", "description": "the words; in place of text_bert"},
    }
    for name, modality in spec["modalities"].items():
        step = {"type": "array", "items": {"type": "number"}}
        step |= {"minItems": modality["width"], "maxItems": modality["width"]}
        known[name] = {
            "type": "array",
            "items": step,
            "maxItems": modality["steps"],
            "description": f"steps of {modality['width']} raw features, at most {modality['steps']}",
        }
    texts = [name for name, read in spec["reads"].items() if read]
    return {
        "type": "object",
        "properties": {name: known[name] for name in (*texts, "audio", "vision")},
        "required": [*(texts if len(texts) == 1 else ()), "audio", "vision"],
        "additionalProperties": False,
    }


def predict(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``POST /predict``, for the model with this description."""
    form = {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "video or sound"},
            "window": {"type": "number", "description": f"seconds of a point of the curve ({WINDOW:g})"},
            "stride": {"type": "number", "description": f"seconds between points ({STRIDE:g})"},
        },
        "required": ["file"],
    }
    content = {"application/json": {"schema": _clip(spec)}, "multipart/form-data": {"schema": form}}
    return {
        "summary": "Score one clip: its features, or a media file",
        "responses": _answers(
            {"anyOf": [_ANSWER, _MEDIA]}, {**_REFUSED, 415: "neither JSON nor a form", 501: "no media here"}
        ),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def batch(spec: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Of ``POST /predict/batch``."""
    clips = {"type": "array", "items": _clip(spec), "minItems": 1, "maxItems": limits.clips}
    body = {"type": "object", "properties": {"clips": clips}, "required": ["clips"]}
    found = {"type": "object", "properties": {"clips": {"type": "array", "items": _ANSWER}}}
    return {
        "summary": "Score several clips by their features",
        "responses": _answers(found, {**_REFUSED, 415: "no JSON"}),
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}
        },
    }


_ANY = {"type": "object"}
HEALTH: dict[str, Any] = {
    "summary": "Whether the server answers, and how many clips wait",
    "responses": _answers(_ANY, {}),
}
SPEC: dict[str, Any] = {
    "summary": "The model: what it reads, what it says, and the limits",
    "responses": _answers(_ANY, {}),
}
