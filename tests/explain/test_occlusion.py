"""Effects of groups, worked by hand on scores that are sums of columns."""

import numpy as np
import pytest

from msa_jax.data.dataset import Split
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.explain.occlusion import Effect, group_effects

SPEC = DatasetSpec(
    "mine",
    {
        "text": ModalitySpec(1, 2, {}, (2.0,), (1.0,)),
        "audio": ModalitySpec(3, 2, {"pitch": (0, 2), "noise": (1,)}, (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)),
        "vision": ModalitySpec(1, 2, {}, (0.0,), (1.0,)),
    },
    (-3.0, 3.0),
    "mosi",
)


def clip(**changed):
    values = {
        "text": np.array([[[3.0], [5.0]]], np.float32),
        "audio": np.array([[[2.0, -1.0, 5.0], [4.0, -1.0, 5.0]]], np.float32),
        "vision": np.array([[[9.0], [9.0]]], np.float32),
    }
    lengths = {"text": np.array([2]), "audio": np.array([2]), "vision": np.array([0])}
    return Split(np.array(["a"]), values, lengths, {}, **changed)


def total(split):
    """Means over steps of text and audio, summed; 10 where there is no transcript."""
    audio = split.values["audio"].mean(axis=1).sum(axis=1)
    text = split.values["text"].mean(axis=1).sum(axis=1) if split.values["text"].shape[2] else 0
    silent = 0 if split.raw_text is None else np.where(split.raw_text == "", 10.0, 0.0)
    return {"M": audio + text + silent}


def test_a_groups_effect_is_what_its_columns_add_to_their_mean():
    """Pitch: 3 and 5 against 1 and 1; noise: -1 against 0; text: 4 against 2; vision is not there."""
    assert group_effects(clip(), SPEC, total) == [
        Effect("audio", "pitch", 6.0),
        Effect("text", "", 2.0),
        Effect("audio", "noise", -1.0),
    ]


def test_text_that_a_model_encodes_itself_is_hidden_by_an_empty_transcript():
    own = clip(raw_text=np.array(["words"]))
    bare = Split(
        own.ids,
        {**own.values, "text": np.zeros((1, 2, 0), np.float32)},
        own.lengths,
        {},
        raw_text=own.raw_text,
    )
    found = {effect.modality: effect.effect for effect in group_effects(bare, SPEC, total)}
    assert found["text"] == -10.0


def test_of_classes_the_probability_of_the_predicted_one_counts():
    def logits(split):
        pitch = split.values["audio"][:, 0, 0]
        return {"M": np.stack([np.zeros_like(pitch), np.log(pitch)], axis=1)}

    found = {(e.modality, e.group): e.effect for e in group_effects(clip(), SPEC, logits)}
    assert found["audio", "pitch"] == pytest.approx(2 / 3 - 1 / 2)
    assert found["audio", "noise"] == pytest.approx(0)
