"""Reasons behind the server: parts that add up, effects of removal, and nothing is compiled for a clip."""

import dataclasses

import encoder_files
import jax
import numpy as np
import pytest
import random_run

from msa_jax.data.spec import MODALITIES
from msa_jax.explain.reasons import explain
from msa_jax.inference import Trained
from msa_jax.serve.clips import blank, joined
from msa_jax.serve.reasons import Explainer
from msa_jax.serve.run_scorer import RunScorer


@pytest.fixture(scope="module", params=["lf_dnn", "mfn,task=classification"])
def trained(request, tmp_path_factory) -> Trained:
    return Trained(random_run.make(tmp_path_factory.mktemp("reasons") / "run", request.param))


def clip_of(split, row):
    """One clip of a split."""
    rows = slice(row, row + 1)
    return type(split)(
        split.ids[rows],
        {m: np.asarray(split.values[m][rows]) for m in MODALITIES},
        {m: split.lengths[m][rows] for m in MODALITIES},
        {},
    )


def test_parts_add_up_and_groups_are_those_of_the_command(trained):
    split = random_run.dataset(0).splits["valid"]
    [reasons] = explain(trained, clip_of(split, 1))
    answer = Explainer(trained, None)(clip_of(split, 1))
    assert answer["nothing_known"] == pytest.approx(reasons.nothing, abs=1e-6)
    assert sum(answer["parts"].values()) == pytest.approx(reasons.score - reasons.nothing, abs=1e-6)
    found = {(row["modality"], row["group"]): row["effect"] for row in answer["moved_by"]}
    known = {(m, group): effect for m, own in reasons.groups.items() for group, effect in own.items()}
    assert found == pytest.approx(known, abs=1e-6)
    assert len(found) > 2
    sizes = [abs(row["effect"]) for row in answer["moved_by"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "words" not in answer


def test_a_modality_that_is_not_there_has_no_groups_that_moved_anything(trained):
    clip = clip_of(random_run.dataset(0).splits["valid"], 0)
    clip = dataclasses.replace(clip, lengths={**clip.lengths, "vision": np.array([0], np.int32)})
    answer = Explainer(trained, None)(clip)
    if trained.config.data.reduce == "none":  # else the model reads zeros, which are not the mean
        assert answer["parts"]["vision"] == 0
    assert {row["modality"] for row in answer["moved_by"]} == {"audio"}


def test_words_have_their_names_up_to_a_number(trained, tmp_path, monkeypatch):
    split = random_run.dataset(0).splits["valid"]
    (tmp_path / "vocab.txt").write_text("\n".join(encoder_files.WORDS))
    clip = clip_of(split, int(split.lengths["text"].argmax()))
    steps = int(clip.lengths["text"][0])
    said = dataclasses.replace(clip, raw_text=np.array([" ".join(["words"] * (steps - 2))]))
    explainer = Explainer(trained, tmp_path)
    [reasons] = explain(trained, clip)
    effects = [effect for _, effect in reasons.stretches["text"][1:-1]]  # the first and last are no words
    found = explainer(said)["words"]
    assert [row["word"] for row in found] == ["words"] * (steps - 2)
    assert [row["effect"] for row in found] == pytest.approx(effects, abs=1e-6)
    monkeypatch.setattr("msa_jax.serve.reasons._WORDS", steps - 3)
    assert "words" not in explainer(said)


@pytest.mark.parametrize("model", ["lf_dnn", "mfn"])
def test_nothing_is_compiled_for_a_clip(tmp_path, model):
    scorer = RunScorer(random_run.make(tmp_path / "run", model))
    if scorer.trained.config.data.reduce == "none":
        scorer.trained.shapes = [(4, 5, 5), (9, 12, 10)]
    explainer = Explainer(scorer.trained, None)
    spec = scorer.spec()
    for text, audio, vision in spec["shapes"]:
        explainer.warm_up(joined([blank(spec, (text, audio, vision))]))
    traces = explainer.program.traces
    assert traces == len(spec["shapes"])
    splits = random_run.dataset(0).splits.values()
    clips = [clip_of(split, row) for split in splits for row in range(len(split))]
    compiled = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for clip in clips:
            assert set(explainer(clip)["parts"]) == set(MODALITIES)
    finally:
        jax.monitoring.clear_event_listeners()
    assert (compiled, explainer.program.traces) == ([], traces)
