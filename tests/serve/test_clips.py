"""Requests become clips or one sentence; predictions become plain values."""

import json

import numpy as np
import pytest
import serving
from serving import clip

from msa_jax.serve.answers import answers
from msa_jax.serve.clips import Reader, joined
from msa_jax.serve.limits import Refused

SPEC = serving.FakeScorer().spec()
#: Of a model that was trained on clips without sound or faces.
LENIENT = {
    **SPEC,
    "modalities": {m: {**record, "may_be_absent": m != "text"} for m, record in SPEC["modalities"].items()},
}
TOKENS = {**LENIENT, "reads": {"text": False, "text_bert": True, "raw_text": True}}
SPOKEN = {"audio": [], "vision": []}


def read(content, spec=SPEC):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Reader(spec, 3).one(body)


def test_clips_of_any_length_are_joined():
    clips = [read(clip((2, 3, 1))), read(clip((6, 0, 8), 0.25), LENIENT)]
    split = joined(clips)
    assert {m: x.shape for m, x in split.values.items()} == {
        "text": (2, 6, 4),
        "audio": (2, 3, 3),
        "vision": (2, 8, 2),
    }
    assert {m: n.tolist() for m, n in split.lengths.items()} == {
        "text": [2, 6],
        "audio": [3, 0],
        "vision": [1, 8],
    }
    assert split.values["text"][0].tolist() == [[0.5] * 4] * 2 + [[0.0] * 4] * 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no JSON (Expecting value)"),
        (b'{"text": 1', "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": [[' + b"1" * 5000 + b"]]}", "too many digits"),
        (b'{"text": [[NaN]]}', "holds NaN"),
        (b'{"text": [[-Infinity]]}', "holds -Infinity"),
        ([clip()], "the clip is no JSON object"),
        ({**clip(), "visoin": []}, "unknown key 'visoin'. Did you mean 'vision'?"),
        ({**clip(), "\udc80zz": 1}, "unknown key '\\udc80zz'. The keys are text, audio, vision."),
        ({"text": [[0] * 4]}, "audio of the clip is missing"),
        ({**clip(), "audio": None}, "audio of the clip is missing"),
        ({**clip(), "audio": []}, "audio of the clip has no steps, and the model was not trained for that"),
        ({"audio": [], "vision": []}, "needs text"),
        ({**clip(), "audio": [[1, 2, "3"]]}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": [[1, 2, None]]}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": [[1, 2, True]]}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": [[1, 2, {}]]}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": [[1, 2, 10**30]]}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": "abc"}, "audio of the clip does not hold numbers alone"),
        ({**clip(), "audio": [[1, 2, 1e300]]}, "too large for float32"),
        (json.dumps({**clip(), "audio": [[1, 2, 0.5]]}).replace("0.5", "1e999").encode(), "not finite"),
        ({**clip(), "audio": [[1, 2, 3], [1, 2]]}, "steps of unlike length"),
        ({**clip(), "audio": [1, 2, 3]}, "audio of the clip has 1 axes"),
        ({**clip(), "audio": [[]]}, "audio of the clip has 0 columns"),
        ({**clip(), "audio": [[1, 2, 3, 4]]}, "has 4 columns, but the model was trained on 3"),
        (clip((2, 10, 1)), "audio of the clip has 10 steps; the model is served for up to 9"),
    ],
)
def test_what_is_no_clip_is_one_sentence(content, sentence):
    with pytest.raises(Refused) as refusal:
        read(content)
    text = str(refusal.value)
    assert sentence in text
    assert "\n" not in text
    assert text.endswith((".", "?"))


def test_a_model_trained_for_it_takes_clips_without_a_modality():
    whole = clip((2, 3, 1))
    for without in (
        {**whole, "audio": []},
        {**whole, "audio": None},
        {"text": whole["text"], "vision": [[1, 2]]},
    ):
        made = read(without, LENIENT)
        assert made.values["audio"].shape == (0, 3)
    with pytest.raises(Refused, match="needs text"):
        read({"audio": whole["audio"], "vision": whole["vision"]}, LENIENT)
    everything = {m: {**record, "may_be_absent": True} for m, record in SPEC["modalities"].items()}
    silent = read({"vision": whole["vision"]}, {**SPEC, "modalities": everything})
    assert joined([silent, read(whole)]).lengths["text"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"clips": []}, 'give {"clips": [...]}'),
        ({"clip": [clip()]}, "Did you mean 'clips'?"),
        ({"clips": [clip()] * 4}, "there are 4 clips; a request may have 3"),
        ({"clips": [clip(), {**clip(), "text": [[1]]}]}, "text of clip 1 has 1 columns"),
    ],
)
def test_what_is_no_batch_is_one_sentence(content, sentence):
    with pytest.raises(Refused, match=r"^.*$") as refusal:
        Reader(SPEC, 3).many(json.dumps(content).encode())
    assert sentence in str(refusal.value)


def test_token_ids_and_transcripts_stand_for_the_text():
    tokens = read({**SPOKEN, "text_bert": [[5, 6, 0], [1, 1, 0], [0, 0, 0]]}, TOKENS)
    split = joined([tokens])
    assert tokens.kind == "text_bert"
    assert (split.tokens.tolist(), split.lengths["text"].tolist()) == ([[[5, 6, 0], [1, 1, 0], [0] * 3]], [2])
    words = joined([read({**SPOKEN, "raw_text": "well"}, TOKENS)])
    assert words.raw_text.tolist() == ["well"]
    for wrong, sentence in (
        ({"text": [[0] * 4]}, "unknown key 'text'"),
        ({"raw_text": "a", "text_bert": [[1], [1], [0]]}, "found text_bert and raw_text"),
        ({"raw_text": 5}, "is no text"),
        ({"raw_text": "\ud800"}, "half a character"),
        ({"raw_text": "w" * 20_001}, "20001 characters"),
        ({"text_bert": [[1], [1]]}, "shape [2, 1]"),
        ({"text_bert": [[1.5], [1], [0]]}, "no token ids"),
        ({"text_bert": [[-1], [1], [0]]}, "no token ids"),
        ({"text_bert": [[1, 1], [0, 1], [0, 0]]}, "no token ids"),
        ({"text_bert": [[1] * 7] * 3}, "has 7 tokens"),
    ):
        with pytest.raises(Refused) as refusal:
            read({**SPOKEN, **wrong}, TOKENS)
        assert sentence in str(refusal.value)


def test_answers_name_classes_and_leave_out_what_is_not_known():
    found = answers({"M": np.float32([0.05, -0.7, np.nan]), "T": np.float32([1, 2, np.inf])}, SPEC)
    assert found == [
        {"score": 0.0500000007, "class": "neutral", "scores": {"T": 1.0}},
        {"score": -0.699999988, "class": "negative", "scores": {"T": 2.0}},
        {"score": None, "class": None, "scores": {"T": None}},
    ]
    unsigned = answers({"M": np.float32([3])}, {**SPEC, "tasks": ["M"], "class_edges": None, "classes": []})
    assert unsigned == [{"score": 3.0}]
    logits = {"M": np.log(np.float32([[1, 1, 2]])), "A": np.float32([[0, 9, 0]])}
    [row] = answers(logits, {**SPEC, "tasks": ["M", "A"]})
    assert (row["class"], row["classes"]) == ("positive", {"A": "neutral"})
    assert row["probabilities"] == pytest.approx({"negative": 0.25, "neutral": 0.25, "positive": 0.5})
