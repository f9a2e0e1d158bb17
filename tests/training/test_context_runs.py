"""A run whose text encoder reads the utterances before a clip: predicted, explained, exported."""

import dataclasses
import json

import encoder_files
import feature_files
import numpy as np
import pytest
import random_run

from msa_jax.commands import main
from msa_jax.configuration import load
from msa_jax.data.context import CONTEXT
from msa_jax.data.opening import load_dataset
from msa_jax.explain.changed import Changed, Program
from msa_jax.export import checking, program, stablehlo
from msa_jax.inference import Trained
from msa_jax.robust.protocols import conditions, protocol_of
from msa_jax.training import pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A feature file whose clips follow one another in one video a split."""
    content, rng = feature_files.content(), np.random.default_rng(2)
    for name, part in content.items():
        part["id"] = [f"{name}$_${clip}" for clip in range(len(part["id"]))]
        lengths = 3 + np.arange(len(part["id"])) % 4
        mask = np.arange(part["text_bert"].shape[2]) < lengths[:, None]
        ids = rng.integers(5, encoder_files.SIZES["vocab_size"], mask.shape)
        part["text_bert"] = np.stack([ids * mask, mask, 0 * ids], axis=1).astype(np.float32)
    return feature_files.write(tmp_path_factory.mktemp("data") / "data.pkl", content)


def asked(data, folder, *settings):
    encoder = encoder_files.folder(
        folder / "bert", config={"max_position_embeddings": 64}, weights=_weights()
    )
    settings = (
        f"data.path={data}",
        f"model.encoder.folder={encoder}",
        "data.context=2",
        "train.devices=1",
        *settings,
    )
    return pretrained.with_sizes(load(f"{random_run.CONFIGS / 'mosi.py'}:ufen_mtfn,tiny", settings))


def _weights():
    """The small encoder with more positions, which two utterances before need."""
    weights = encoder_files.theirs()
    key = "embeddings.position_embeddings.weight"
    rng = np.random.default_rng(1)
    return weights | {key: rng.normal(0, 0.1, (64, weights[key].shape[1])).astype(np.float32)}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    config = asked(data, folder, "model.text_encoder=finetune", "data.buckets=1")
    random_run.write(folder / "run", config, load_dataset(config.data))
    (folder / "run" / "tokenizer").mkdir()
    (folder / "run" / "tokenizer" / "vocab.txt").write_text("\n".join(encoder_files.WORDS))
    return Trained(folder / "run")


def test_clips_are_scored_beside_those_before_them(run):
    clips = load_dataset(run.config.data).splits["test"]
    together = run.predict(clips)["M"]
    alone = run.predict(dataclasses.replace(clips, ids=np.array(["a", "b", "c", "d"])))["M"]
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)  # the first of its video
    assert (np.abs(together - alone)[1:] > 1e-5).all()


def test_losses_keep_what_was_before(run):
    clips = load_dataset(run.config.data).splits["test"]
    changed = Changed(Program(run), clips)
    assert (np.asarray(changed.prepared.tokens)[:, 1] == CONTEXT).any()
    whole = conditions(protocol_of("tfrnet"), changed.clips, [0.0])[0]
    np.testing.assert_allclose(changed.predict(whole.change)["M"], run.predict(clips)["M"], atol=1e-5)


def test_an_export_reads_it_too(run, tmp_path):
    run.learner = run.learner._replace(dtype=np.float32)
    made = program.build([run])
    stablehlo.write(made, tmp_path)
    clips = checking.random_clips(run, 5)
    found = checking.scorer(made, stablehlo.read(tmp_path))(clips)
    np.testing.assert_allclose(found["M"], run.predict(clips)["M"], atol=checking.TOLERANCE, rtol=0)
    texts = {record.name: record for record in made.inputs}["text_bert"]
    assert isinstance(texts.shape[2], int)
    assert "the mask is 2" in texts.meaning


def test_reasons_are_of_the_clips_own_words(run, data, capsys):
    capsys.readouterr()
    main(["explain", f"--workdir={run.workdir}", f"--input={data}", "--split=test", "--quiet"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lengths = load_dataset(run.config.data).splits["test"].lengths["text"]
    for line, own in zip(lines, lengths, strict=True):
        gained = line["score"] - line["nothing_known"]
        assert sum(line["modalities"].values()) == pytest.approx(gained, abs=1e-5)
        assert all(word["steps"][1] < own for word in line["words"])


@pytest.mark.slow
def test_training_and_scoring_agree(data, tmp_path):
    config = asked(data, tmp_path, "model.text_encoder=finetune", "train.epochs=1")
    argument = f"{random_run.CONFIGS / 'mosi.py'}:ufen_mtfn,tiny"
    changes = [
        f"--config.{key}={value}"
        for key, value in {
            "data.path": data,
            "data.context": 2,
            "model.encoder.folder": config.model.encoder.folder,
            "model.text_encoder": "finetune",
            "train.epochs": 1,
            "train.devices": 1,
        }.items()
    ]
    main(["train", f"--config={argument}", f"--workdir={tmp_path / 'run'}", *changes])
    results = json.loads((tmp_path / "run" / "result.json").read_text())
    test = load_dataset(config.data).splits["test"]
    found = Trained(tmp_path / "run").predict(test)["M"]
    error = float(np.abs(found - test.labels["M"]).mean())
    assert results["test"]["mae"] == pytest.approx(error, abs=1e-5)
