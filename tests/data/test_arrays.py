"""Plain arrays as clips."""

import numpy as np
import pytest

from msa_jax.data.arrays import split_of
from msa_jax.errors import DataError

ONE = {"text": np.ones((3, 2)), "audio": np.ones((5, 1)), "vision": np.zeros((0, 4))}


def test_a_clip_an_array_of_clips_and_a_list_of_clips():
    single = split_of(ONE)
    assert {m: n.tolist() for m, n in single.lengths.items()} == {"text": [3], "audio": [5], "vision": [0]}
    stacked = split_of({m: np.stack([x, x]) for m, x in ONE.items()})
    assert stacked.values["audio"].shape == (2, 5, 1)
    lists = split_of({m: [x, x[:2]] for m, x in ONE.items()}, ids=["a", "b"])
    assert lists.lengths["text"].tolist() == [3, 2]
    assert lists.values["text"][1].tolist() == [[1, 1], [1, 1], [0, 0]]
    assert lists.ids.tolist() == ["a", "b"]
    assert lists.values["vision"].shape == (2, 1, 4)


def test_tokens_and_transcripts_stand_in_for_text():
    rest = {m: x for m, x in ONE.items() if m != "text"}
    tokens = np.array([[7, 8, 0], [1, 1, 0], [0, 0, 0]])
    made = split_of(rest, text_bert=tokens)
    assert made.tokens is not None
    assert made.tokens.tolist() == [tokens.tolist()]
    assert made.lengths["text"].tolist() == [2]
    written = split_of(rest, raw_text="some words")
    assert written.raw_text is not None
    assert written.raw_text.tolist() == ["some words"]


def test_what_a_model_can_do_without_may_be_missing_or_none():
    absent = {"audio": 1, "vision": 4}
    made = split_of({"text": np.ones((3, 2))}, absent=absent)
    assert {m: x.shape[2] for m, x in made.values.items()} == {"text": 2, "audio": 1, "vision": 4}
    assert [made.lengths[m].tolist() for m in ("text", "audio", "vision")] == [[3], [0], [0]]
    some = split_of({"text": [np.ones((3, 2))] * 2, "audio": [None, np.ones((5, 1))]}, absent=absent)
    assert some.lengths["audio"].tolist() == [0, 5]
    with pytest.raises(DataError, match="clip 0 of audio has the shape"):
        split_of({**ONE, "audio": [None]}, absent={"vision": 4})
    said = split_of({"vision": np.ones((2, 4))}, raw_text=["well"], absent={**absent, "text": 2})
    assert said.values["text"].shape[2] == 0  # the transcript stands for it


@pytest.mark.parametrize(
    ("features", "more", "says"),
    [
        ({"text": np.ones((3, 2)), "audio": np.ones((5, 1))}, {}, "vision is missing"),
        ({"audio": np.ones((5, 1)), "vision": np.ones((5, 1))}, {}, "text is missing"),
        ({**ONE, "audio": [np.ones((5, 1))] * 2}, {}, "text 1, audio 2, vision 1"),
        ({**ONE, "audio": np.ones(5)}, {}, r"clip 0 of audio has the shape \(5,\)"),
        ({m: [x, x[:, :1]] for m, x in ONE.items()}, {}, r"clip 1 of text has the shape \(3, 1\)"),
        ({**ONE, "audio": "sound.wav"}, {}, "audio does not hold numbers"),
        ({**ONE, "audio": []}, {}, "audio holds no clips"),
        (ONE, {"ids": ["a", "b"]}, "2 ids for 1 clips"),
        (ONE, {"text_bert": np.ones((2, 4))}, "clip 0 of text_bert"),
    ],
)
def test_mistakes_are_one_sentence(features, more, says):
    with pytest.raises(DataError, match=says):
        split_of(features, **more)
