"""Runs and exports behind the server say what the run says, and nothing compiles after the start."""

import pathlib

import encoder_files
import feature_files
import jax
import numpy as np
import pytest
import random_run

from msa_jax.configuration import load
from msa_jax.data.opening import load_dataset
from msa_jax.errors import DataError, MsaJaxError, RunError
from msa_jax.export import checking, exporting
from msa_jax.serve.batcher import warm_up
from msa_jax.serve.clips import Clip, joined
from msa_jax.serve.export_scorer import ExportScorer
from msa_jax.serve.opening import open_scorer
from msa_jax.serve.run_scorer import RunScorer
from msa_jax.training import pretrained

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    return random_run.make(tmp_path_factory.mktemp("served") / "run", "lf_dnn")


def clips_of(spec, count, longest=None):
    """Random clips of random lengths that keep to a description."""
    widths = {m: (record["width"], record["steps"]) for m, record in spec["modalities"].items()}
    return [
        Clip({m: RNG.normal(size=(longest or RNG.integers(0, n + 1), w)).astype(np.float32)
              for m, (w, n) in widths.items()})
        for _ in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def original(run) -> RunScorer:
    """The run with two padded shapes, warm for up to two clips at once."""
    scorer = RunScorer(run)
    scorer.trained.shapes = [(4, 5, 5), (9, 12, 10)]
    assert scorer.spec()["modalities"]["audio"]["steps"] == 12
    warm_up(scorer, rows=2)
    assert scorer.trained.traces == 2 * 2
    return scorer


def test_a_run_compiles_nothing_after_its_start(original):
    for count in (1, 2):
        for longest in (None, None, 1, 5):
            original.score(joined(clips_of(original.spec(), count, longest)))
    assert original.trained.traces == 2 * 2


def test_a_reduced_run_is_served_for_the_stored_steps(tmp_path):
    folder = random_run.make(tmp_path / "run", "mfn", "data.reduce=align")
    scorer = open_scorer(folder)
    spec = scorer.spec()
    assert {m: record["steps"] for m, record in spec["modalities"].items()} == {
        "text": 9,
        "audio": 12,
        "vision": 10,
    }
    assert spec["shapes"] == [[9, 12, 10]]
    warm_up(scorer, rows=1)
    traces = scorer.trained.traces
    scorer.score(joined(clips_of(spec, 1)))
    assert scorer.trained.traces == traces


@pytest.fixture
def unchecked(monkeypatch):
    """Exports are not compared with their run: tests/export does, and here the server's answers are."""
    monkeypatch.setattr(checking, "largest_differences", lambda *_: {})


def test_transcripts_have_as_many_tokens_as_the_model_is_served_for(tmp_path, unchecked):
    encoder = encoder_files.folder(tmp_path / "bert")
    content = feature_files.content()
    for part in content.values():
        part["text_bert"][:, 0] %= encoder_files.SIZES["vocab_size"]
    data = feature_files.write(tmp_path / "data.pkl", content)
    settings = [f"data.path={data}", f"model.encoder.folder={encoder}", "train.devices=1"]
    config = pretrained.with_sizes(load(f"{random_run.CONFIGS / 'mosi.py'}:self_mm,tiny", settings))
    random_run.write(tmp_path / "run", config, load_dataset(config.data))
    (tmp_path / "run" / "tokenizer").mkdir()
    (tmp_path / "run" / "tokenizer" / "vocab.txt").write_text("\n".join(encoder_files.WORDS))
    exporting.export([tmp_path / "run"], "stablehlo", tmp_path / "export")
    found = []
    for folder in (tmp_path / "run", tmp_path / "export"):
        scorer = open_scorer(folder)
        spec = scorer.spec()
        assert spec["reads"] == {"text": False, "text_bert": True, "raw_text": True}
        assert (spec["tasks"], spec["modalities"]["text"]["steps"]) == (["M", "T", "A", "V"], 6)
        values = {m: np.ones((2, spec["modalities"][m]["width"]), np.float32) for m in ("audio", "vision")}
        found.append(scorer.score(joined([Clip(values, raw_text="words of clip 1")])))
        with pytest.raises(DataError, match="raw_text has more tokens than the 6 "):
            scorer.score(joined([Clip(values, raw_text="words " * 20)]))
    for task, y in found[0].items():
        np.testing.assert_allclose(found[1][task], y, atol=checking.TOLERANCE, rtol=0)


def test_an_export_says_what_its_run_says_and_compiles_nothing(run, original, tmp_path, unchecked):
    exporting.export([run], "stablehlo", tmp_path / "export")
    scorer = open_scorer(tmp_path / "export")
    assert isinstance(scorer, ExportScorer)
    assert scorer.spec() == {**original.spec(), "shapes": [[2, 3, 2], [4, 6, 5], [9, 12, 10]]}
    warm_up(scorer, rows=2)
    splits = [joined(clips_of(scorer.spec(), count)) for count in (1, 2, 2)]
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _seconds, **_: compiled.append(name) if "compile" in name else None
    )
    try:
        found = [scorer.score(split)["M"] for split in splits]
        assert compiled == []
    finally:
        jax.monitoring.clear_event_listeners()
    for y, split in zip(found, splits, strict=True):
        np.testing.assert_allclose(y, original.score(split)["M"], atol=checking.TOLERANCE, rtol=0)


@pytest.mark.extras
def test_an_onnx_export_says_what_its_run_says(run, original, tmp_path, unchecked):
    pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
    exporting.export([run], "onnx", tmp_path / "export")
    scorer = open_scorer(tmp_path / "export")
    split = joined(clips_of(scorer.spec(), 2))
    np.testing.assert_allclose(
        scorer.score(split)["M"], original.score(split)["M"], atol=checking.TOLERANCE, rtol=0
    )


def test_folders_that_cannot_be_served_are_one_sentence(run, tmp_path, unchecked):
    with pytest.raises(RunError, match="give the --workdir of a run"):
        open_scorer(tmp_path)
    exporting.export([run], "safetensors", tmp_path / "weights")
    with pytest.raises(RunError, match=r"holds weights \(safetensors\), not a program"):
        open_scorer(tmp_path / "weights")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "MODEL_CARD.md").write_text("")
    for content in ("", "{}", '{"format": "stablehlo"}', '{"format": "onnx", "inputs": []}'):
        (damaged / "spec.json").write_text(content)
        with pytest.raises(MsaJaxError) as refusal:
            open_scorer(damaged)
        assert "\n" not in str(refusal.value)
