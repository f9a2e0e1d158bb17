"""Text features made from transcripts, by the convert command."""

import pathlib
import subprocess
import sys
from typing import Any

import encoder_files
import feature_files
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.commands import convert
from msa_jax.data import mmsa, store
from msa_jax.errors import ConfigError, DataError
from msa_jax.nn.bert import Bert
from msa_jax.nn.encoder import text_encoder
from msa_jax.weights.encode_text import encode, load

POSITIONS = encoder_files.SIZES["max_position_embeddings"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> pathlib.Path:
    return encoder_files.folder(tmp_path_factory.mktemp("encoders") / "tiny")


def converted(tmp_path: pathlib.Path, data: Any, encoder: pathlib.Path):
    path = feature_files.write(tmp_path / "data.pkl", data)
    assert convert.main([str(path), str(tmp_path / "store"), f"--encode-text={encoder}"]) == 0
    return store.read(tmp_path / "store", verify=True)


def states_of(tokens: np.ndarray) -> np.ndarray:
    """One clip's states by itself, without padding."""
    ids, mask, segments = tokens[None, :, tokens[1] == 1].swapaxes(0, 1)
    params = flax.traverse_util.unflatten_dict(encoder_files.ours(), sep="/")
    model = Bert(encoder_files.SETTINGS)
    states: Any = jax.jit(lambda: model.apply({"params": params}, ids, mask == 1, segments, train=False))()
    return states[0]


def tokens_of(split: mmsa.Split) -> np.ndarray:
    assert split.tokens is not None
    return split.tokens


def without(data: Any, *keys: str) -> Any:
    return {name: {k: v for k, v in part.items() if k not in keys} for name, part in data.items()}


def test_features_are_replaced_and_tokens_stored(tmp_path, encoder, capsys):
    """'words of clip 0 · é' has 9 tokens with its marks; the file's six text steps stay."""
    data = feature_files.content()
    dataset = converted(tmp_path, data, encoder)
    assert dataset.spec.modalities["text"].width == 8
    for name, split in dataset.splits.items():
        assert split.values["text"].shape == (len(split), 6, 8)
        assert tokens_of(split)[0].tolist() == [[2, 5, 6, 7, 8, 3], [1] * 6, [0] * 6]
        np.testing.assert_array_equal(split.lengths["text"], 6)
        np.testing.assert_array_equal(split.lengths["audio"], data[name]["audio_lengths"])
        for m in ("audio", "vision"):
            np.testing.assert_array_equal(split.values[m], data[name][m])
        np.testing.assert_allclose(split.values["text"][0], states_of(tokens_of(split)[0]), atol=1e-5)
    said = capsys.readouterr().out
    assert "encoding text: 100 %" in said
    assert "note: train text: 5 transcripts were cut to 6 tokens." in said
    assert "note: text: the last hidden states of tiny for the transcripts." in said


@pytest.mark.parametrize("tokens", [True, False])
def test_a_file_with_nothing_but_transcripts(tmp_path, encoder, tokens):
    """Its text has as many steps as the longest transcript, or as the tokens that it holds."""
    data = without(feature_files.content(), "text", *([] if tokens else ["text_bert"]))
    texts = ["", "words", "clip 1 2 3", "words of clip 0", "of"]
    data["train"]["raw_text"] = texts
    dataset = converted(tmp_path, data, encoder)
    steps = feature_files.STEPS["text"] if tokens else 8  # the others': [CLS] words of clip i UNK e [SEP]
    train = dataset.splits["train"]
    assert train.values["text"].shape == (5, steps, 8)
    assert dataset.spec.has_tokens
    np.testing.assert_array_equal(train.lengths["text"], [2, 3, 6, 6, 3])
    for row, length in enumerate(train.lengths["text"]):
        np.testing.assert_allclose(
            train.values["text"][row, :length], states_of(tokens_of(train)[row]), atol=1e-5
        )
        assert not train.values["text"][row, length:].any()
        assert not tokens_of(train)[row, :, length:].any()


def test_texts_longer_than_the_encoder_reads_are_cut(tmp_path, encoder):
    data = without(feature_files.content(), "text", "text_bert")
    data["valid"]["raw_text"] = ["words " * 40] * 3
    valid = converted(tmp_path, data, encoder).splits["valid"]
    np.testing.assert_array_equal(valid.lengths["text"], POSITIONS)
    np.testing.assert_array_equal(tokens_of(valid)[:, 0, -1], 3)


def test_aligned_modalities_keep_their_lengths(tmp_path, encoder):
    """In a file that is aligned word by word, audio and vision have the lengths of its own text."""
    data = without(feature_files.content(), "audio_lengths", "vision_lengths")
    for part in data.values():
        part["audio"] = part["audio"][:, : feature_files.STEPS["text"]]
    dataset = converted(tmp_path, data, encoder)
    for name, split in dataset.splits.items():
        np.testing.assert_array_equal(split.lengths["audio"], data[name]["text_bert"][:, 1].sum(axis=1))


def test_batches_by_length_change_nothing(encoder):
    """Many clips of all lengths, in several batches of several shapes; every clip is counted once."""
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(encoder_files.WORDS[5:], rng.integers(0, 9))) for _ in range(700)])
    count = len(texts)
    plain = {
        "ids": texts,
        "lengths": {m: np.ones(count, np.int32) for m in feature_files.STEPS},
        "labels": {"M": np.zeros(count, np.float32)},
        "raw_text": texts,
    }
    values = {m: np.zeros((count, 1, 0 if m == "text" else 2), np.float32) for m in feature_files.STEPS}
    splits = {name: mmsa.Split(values=values, **plain) for name in ("train", "valid", "test")}
    announced, told = [], []

    def stage(title: str, total: int):
        announced.append((title, total))
        return told.append

    made, _ = encode(load(encoder), splits, stage)
    assert announced == [("encoding text", sum(told))]
    assert len(told) >= 9
    train = made["train"]
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    for row, text in enumerate(texts):
        np.testing.assert_allclose(
            train.values["text"][row], train.values["text"][first[text]], rtol=0, atol=1e-5
        )
    for row in range(0, count, 100):
        length = train.lengths["text"][row]
        np.testing.assert_allclose(
            train.values["text"][row, :length], states_of(tokens_of(train)[row]), atol=1e-5
        )


@pytest.mark.parametrize(
    "fault", ["no folder", "no weights", "no vocabulary", "large vocabulary", "no texts"]
)
def test_faults_are_one_sentence(tmp_path, fault):
    folder = encoder_files.folder(tmp_path / "encoder")
    data, sentence = feature_files.content(), ""
    if fault == "no folder":
        folder, sentence = tmp_path / "elsewhere", "config.json cannot be read"
    elif fault == "no weights":
        (folder / "model.safetensors").unlink()
        sentence = "has no model.safetensors"
    elif fault == "no vocabulary":
        (folder / "vocab.txt").unlink()
        sentence = "has neither vocab.txt nor tokenizer.json"
    elif fault == "large vocabulary":
        words = encoder_files.WORDS + [f"word{i}" for i in range(40)]
        (folder / "vocab.txt").write_text("\n".join(words))
        sentence = "its vocabulary has 58 tokens, its encoder 30"
    else:
        data, sentence = without(data, "raw_text"), "key 'raw_text': found only 'id'"
    path = feature_files.write(tmp_path / "data.pkl", data)
    with pytest.raises(DataError) as caught:
        convert.main([str(path), str(tmp_path / "store"), "--encode-text", str(folder)])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_plain_conversions_do_not_wait_for_jax():
    code = "import sys, msa_jax.commands.convert; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_real_transcripts_give_the_stored_states(shared_data, tmp_path):
    """MiniLM's states of real transcripts, stored as float16 in other hands, to float16's grain."""
    with np.load(shared_data / "mosi" / "mosi_text_minilm.npz", allow_pickle=False) as file:
        lengths, ids, states = (file[key] for key in ("lengths", "input_ids", "text"))
    with np.load(shared_data / "mosi" / "mosi_utterance.npz", allow_pickle=False) as file:
        texts = file["raw_text"][:24]
    loaded = load(shared_data / "minilm")
    tokens = loaded.tokenizer([text.lower() for text in texts], 50)
    np.testing.assert_array_equal(tokens[:, 1].sum(axis=1), lengths[:24])
    np.testing.assert_array_equal(tokens[:, 0][tokens[:, 1] == 1], ids[: lengths[:24].sum()])
    model, mask = Bert(loaded.settings), jnp.asarray(tokens[:, 1] == 1)
    run = jax.jit(lambda p: model.apply({"params": p}, tokens[:, 0], mask, tokens[:, 2], train=False))
    made: Any = run(loaded.params)
    expected = states[: lengths[:24].sum()].astype(np.float32)
    np.testing.assert_allclose(np.asarray(made)[np.asarray(mask)], expected, rtol=2**-11, atol=2e-5)


@pytest.mark.parametrize(("kind", "layers"), [("roberta", "mean"), ("modernbert", "last")])
def test_encoders_of_other_kinds_and_the_mean_of_all_layers(tmp_path, kind, layers, capsys):
    """Their own tokens are stored beside the states, of each clip as if it stood alone."""
    folder = encoder_files.other_folder(tmp_path / "encoder", kind)
    data = without(feature_files.content(), "text", "text_bert")
    for part in data.values():
        part["raw_text"] = [("words of film", "a clip")[i % 2] for i in range(len(part["id"]))]
    path = feature_files.write(tmp_path / "data.pkl", data)
    arguments = [str(path), str(tmp_path / "store"), f"--encode-text={folder}", f"--encode-layers={layers}"]
    assert convert.main(arguments) == 0
    what = {"last": "the last hidden states", "mean": "the mean of all layers' hidden states"}[layers]
    assert f"note: text: {what} of encoder for the transcripts." in capsys.readouterr().out
    valid = store.read(tmp_path / "store").splits["valid"]
    loaded = load(folder)
    model = text_encoder(loaded.settings)
    tokens = loaded.tokenizer(["a clip"], 9)
    stored = tokens_of(valid)[1, :, : tokens.shape[2]]
    np.testing.assert_array_equal(stored, tokens[0])

    def run(params: Any) -> Any:
        inputs = (tokens[:, 0], tokens[:, 1] == 1, tokens[:, 2], False)
        return model.apply({"params": params}, *inputs, mutable=["intermediates"])

    last, kept = jax.jit(run)(loaded.params)
    expected = last if layers == "last" else np.mean(kept["intermediates"]["states"], axis=0)
    np.testing.assert_allclose(valid.values["text"][1, : tokens.shape[2]], expected[0], rtol=0, atol=1e-5)


def test_layers_that_cannot_be_stored_are_one_sentence(tmp_path, encoder):
    path = feature_files.write(tmp_path / "data.pkl", feature_files.content())
    start = [str(path), str(tmp_path / "store")]
    for layers, sentence in (
        ("learned", "layers=learned has nothing to learn where features are stored"),
        ("first", "layers='first' is not one of last, mean"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            convert.main([*start, f"--encode-text={encoder}", f"--encode-layers={layers}"])
    with pytest.raises(
        ConfigError, match="--encode-layers=mean needs an encoder; name it with --encode-text"
    ):
        convert.main([*start, "--encode-layers=mean"])
