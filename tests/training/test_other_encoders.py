"""Runs whose text encoder is a RoBERTa or a ModernBERT: from training to predictions, exports and reasons."""

import dataclasses
import json
import logging
import pathlib
from typing import Any

import encoder_files
import feature_files
import jax
import numpy as np
import pytest
import random_run

from msa_jax.commands import main
from msa_jax.configuration import load
from msa_jax.data.opening import load_dataset
from msa_jax.data.tokenize import Tokenizer
from msa_jax.errors import DataError
from msa_jax.explain.words import words_of
from msa_jax.export import exporting
from msa_jax.inference import Trained
from msa_jax.serve.clips import Clip, joined
from msa_jax.serve.opening import open_scorer
from msa_jax.training import build, corrupt, pretrained
from msa_jax.training.optim import group_names
from msa_jax.training.run_folder import RunFolder

KINDS = ("roberta", "modernbert")
TEXTS = ["words of film", "a clip", "words", "\u00e9 film"]


def content(tokens: str, encoder: pathlib.Path) -> dict[str, Any]:
    """A file's content with tokens that are the encoder's "own", or of "bert", or with "none"."""
    made = feature_files.content()
    for part in made.values():
        part["raw_text"] = [TEXTS[i % 4] for i in range(len(part["id"]))]
        del part["text_bert"]
        if tokens != "none":
            ids = Tokenizer(encoder)(part["raw_text"], 6)
            ids = np.pad(ids, ((0, 0), (0, 0), (0, 6 - ids.shape[2])))
            if tokens == "bert":
                ids[:, 0] = np.where(ids[:, 1] == 1, ids[:, 0] % 50 + 5, 0)
                ids[:, 0, 0] = 101
                ids[np.arange(len(ids)), 0, ids[:, 1].sum(axis=1) - 1] = 102
            part["text_bert"] = ids.astype(np.float32)
    return made


def configured(data: pathlib.Path, encoder: pathlib.Path, *more: str, model: str = "self_mm") -> Any:
    settings = [f"data.path={data}", f"model.encoder.folder={encoder}", "train.devices=1", "data.buckets=1"]
    return pretrained.with_sizes(load(f"{random_run.CONFIGS / 'mosi.py'}:{model},tiny", [*settings, *more]))


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """A run with random weights on transcripts, its encoder's folder, and its kind."""
    folder = tmp_path_factory.mktemp(request.param)
    encoder = encoder_files.other_folder(folder / "encoder", request.param)
    data = feature_files.write(folder / "data.pkl", content("none", encoder))
    config = configured(data, encoder, "model.encoder.layers=learned")
    random_run.write(folder / "run", config, load_dataset(config.data))
    RunFolder(folder / "run").keep_tokenizer(encoder)
    return folder / "run", encoder, request.param


def test_the_folder_gives_kind_and_sizes_and_the_weights_are_loaded(made):
    run, _, kind = made
    block = Trained(run).config.model.encoder
    settings = encoder_files.OTHERS[kind]
    for key in ("kind", "width", "vocab", "positions", "pad", "types", "window", "thetas", "biases"):
        assert block[key] == getattr(settings, key), key
    assert block.layers == "learned"
    config = Trained(run).config
    dataset = build.prepare(config, load_dataset(config.data))
    state = build.build(config, dataset).state
    inside: Any = state.params["text_encoder"]["bert"]
    word = "embeddings." + ("word_embeddings" if kind == "roberta" else "tok_embeddings") + ".weight"
    np.testing.assert_array_equal(inside["embeddings"]["word"], encoder_files.public_weights(settings)[word])
    assert not np.asarray(inside["mix"]["weights"]).any()
    assert inside["mix"]["weights"].shape == (settings.n_layers + 1,)


def test_what_is_new_in_an_encoder_trains_with_the_heads(made):
    trained = Trained(made[0])
    names: Any = group_names(trained.config.train, (), trained.params)["text_encoder"]["bert"]
    assert names["mix"] == {"weights": "other", "scale": "other"}
    assert set(jax.tree.leaves({k: v for k, v in names.items() if k != "mix"})) == {
        "encoder",
        "encoder_no_decay",
    }


def test_own_tokens_are_read_and_others_made_anew_or_refused(made, tmp_path, caplog):
    run, encoder, _ = made
    caplog.set_level(logging.INFO, "msa_jax")
    trained = Trained(run)
    expected = trained.predict(feature_files.write(tmp_path / "none.pkl", content("none", encoder)))
    own = trained.predict(feature_files.write(tmp_path / "own.pkl", content("own", encoder)))
    np.testing.assert_allclose(own["M"], expected["M"], rtol=0, atol=1e-5)
    assert "another vocabulary" not in caplog.text
    foreign = content("bert", encoder)
    anew = trained.predict(feature_files.write(tmp_path / "bert.pkl", foreign))
    np.testing.assert_allclose(anew["M"], expected["M"], rtol=0, atol=1e-5)
    assert "the token ids of the input are of another vocabulary; the transcripts are read" in caplog.text
    for part in foreign.values():
        del part["raw_text"]
    with pytest.raises(DataError, match="that the encoder's tokenizer did not make, and no transcripts"):
        trained.predict(feature_files.write(tmp_path / "refused.pkl", foreign))


def test_tokens_with_the_right_ends_are_held_against_the_transcripts(made, tmp_path):
    """Two vocabularies may have the same marks, as RoBERTa's and XLM-RoBERTa's do."""
    run, encoder, _ = made
    trained, changed = Trained(run), content("own", encoder)
    expected = trained.predict(feature_files.write(tmp_path / "own.pkl", changed))
    for part in changed.values():
        inner = part["text_bert"][:, 0, 1:2]
        part["text_bert"][:, 0, 1:2] = np.where(part["text_bert"][:, 1, 2:3] == 1, 60 + inner % 7, inner)
    found = trained.predict(feature_files.write(tmp_path / "changed.pkl", changed))
    np.testing.assert_allclose(found["M"], expected["M"], rtol=0, atol=1e-5)


def test_lost_words_become_the_tokenizers_unknown_token(made):
    run, encoder, kind = made
    config = Trained(run).config.copy_and_resolve_references()
    with config.unlocked():
        config.train.corrupt = "frames"
    found = corrupt.corrupt_of(config)
    assert found is not None
    assert found.unknown == Tokenizer(encoder).unknown
    assert found.unknown == (3 if kind == "roberta" else encoder_files.MODERNBERT_SETTINGS.pad + 1)
    assert found.ends


def test_words_are_named_and_reasons_add_up(made, tmp_path, capsys):
    run, encoder, _ = made
    data = feature_files.write(tmp_path / "data.pkl", content("none", encoder))
    main(["explain", f"--workdir={run}", f"--input={data}", "--split=test", "--quiet"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[word["word"] for word in line["words"]] for line in lines] == [text.split() for text in TEXTS]
    for line in lines:
        gained = line["score"] - line["nothing_known"]
        assert sum(line["modalities"].values()) == pytest.approx(gained, abs=1e-5)


def test_words_of_stored_tokens(made):
    """An empty text has none, one of a single token (an end that was cut) neither."""
    encoder = made[1]
    split = load_dataset(Trained(made[0]).config.data).splits["test"]
    for texts, most in ((TEXTS, 20), (["", *TEXTS[1:]], 20)):
        tokens = Tokenizer(encoder)(texts, most)
        tokens[2, 1, 1:] = 0
        lengths = {**split.lengths, "text": tokens[:, 1].sum(axis=1)}
        found = words_of(dataclasses.replace(split, tokens=tokens, lengths=lengths), encoder)
        expected = [text.split() for text in texts[:2]] + [[]] + [texts[3].split()]
        assert [[w.label for w in words or ()] for words in found] == expected


@pytest.mark.slow
def test_exports_and_servers_read_transcripts(made, tmp_path):
    run, encoder, _ = made
    exporting.export([run], "stablehlo", tmp_path / "export")
    kept = sorted(path.name for path in (tmp_path / "export" / "tokenizer").iterdir())
    assert kept == sorted(p.name for p in (run / "tokenizer").iterdir())
    assert set(kept) <= {"vocab.json", "merges.txt", "tokenizer.json"}
    found = []
    for folder in (run, tmp_path / "export"):
        scorer = open_scorer(folder)
        spec = scorer.spec()
        assert spec["reads"] == {"text": False, "text_bert": True, "raw_text": True}
        values = {m: np.ones((2, spec["modalities"][m]["width"]), np.float32) for m in ("audio", "vision")}
        clips = [Clip(values, raw_text=text) for text in TEXTS[:2]]
        tokens = Tokenizer(encoder)(TEXTS[1:2], 20)[0]
        found += [scorer.score(joined(clips))["M"], scorer.score(joined([Clip(values, tokens=tokens)]))["M"]]
    np.testing.assert_allclose(found[0], found[2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], found[0][1:], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[3], found[1], rtol=0, atol=1e-5)
    assert np.ptp(found[0]) > 1e-4
    foreign = joined([Clip(values, tokens=np.array([[101, 9, 102], [1] * 3, [0] * 3], np.int32))])
    with pytest.raises(DataError, match="tokenizer did not make"):
        open_scorer(run).score(foreign)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_from_a_folder_keeps_the_tokenizer_and_moves_the_mix(tmp_path, kind):
    encoder = encoder_files.other_folder(tmp_path / "encoder", kind)
    data = feature_files.write(tmp_path / "data.pkl", content("bert", encoder))
    run = tmp_path / "run"
    settings = {"data.path": data, "model.encoder.folder": encoder, "model.encoder.layers": "learned"}
    settings |= {"train.epochs": 2, "train.corrupt": "frames", "train.devices": 1, "train.accumulate": 1}
    arguments = [f"--config.{key}={value}" for key, value in settings.items()]
    config = random_run.CONFIGS / "mosi.py"
    assert main(["train", f"--config={config}:misa,tiny", *arguments, f"--workdir={run}"]) == 0
    names = {path.name for path in (run / "tokenizer").iterdir()}
    assert names == ({"vocab.json", "merges.txt"} if kind == "roberta" else {"tokenizer.json"})
    trained = Trained(run)
    mix: Any = trained.params["text_encoder"]["bert"]["mix"]
    assert np.abs(np.asarray(mix["weights"])).max() > 1e-5
    encoder.rename(tmp_path / "elsewhere")
    assert np.isfinite(trained.predict(text=None, raw_text=TEXTS[:1], **one_clip(trained))["M"]).all()


def one_clip(trained: Any) -> dict[str, Any]:
    widths = {m: trained.spec.modalities[m].width for m in ("audio", "vision")}
    return {m: np.ones((1, 2, width), np.float32) for m, width in widths.items()}
