"""Tokens as the public tokenizer makes them, from either kind of vocabulary file."""

import json
import pathlib
import sys

import numpy as np
import pytest

from msa_jax.data.tokenize import Tokenizer
from msa_jax.errors import DataError

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("good", "film", "##s", "Good", "é", "e", "好", "好看", "not", "##e", "!"),
]
VOCABULARY = {word: number for number, word in enumerate(WORDS)}


def folder(path: pathlib.Path, words=WORDS, config=None, stored=None) -> pathlib.Path:
    path.mkdir(exist_ok=True)
    if words:
        (path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for name, content in (("tokenizer_config.json", config), ("tokenizer.json", stored)):
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


def words_of(tokens: np.ndarray) -> list[str]:
    return [WORDS[number] for number, real in zip(tokens[0], tokens[1], strict=True) if real]


def test_a_worked_example(tmp_path):
    tokens = Tokenizer(folder(tmp_path))(["Good FILMS!", "not é", ""], 50)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [
        [[2, 5, 6, 7, 15, 3], [1, 1, 1, 1, 1, 1], [0] * 6],
        [[2, 13, 10, 3, 0, 0], [1, 1, 1, 1, 0, 0], [0] * 6],  # é is an e in lower-cased texts
        [[2, 3, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6],
    ]


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({}, "Good", ["good"]),
        ({"do_lower_case": False}, "Good é", ["Good", "é"]),
        ({"strip_accents": False}, "É", ["é"]),
        ({}, "好看", ["好", "[UNK]"]),
        ({"tokenize_chinese_chars": False}, "好看", ["好看"]),
        ({}, "good[MASK]film", ["good", "[MASK]", "film"]),
    ],
)
def test_the_rules_are_read(tmp_path, config, text, expected):
    (tokens,) = Tokenizer(folder(tmp_path, config=config))([text], 50)
    assert words_of(tokens) == ["[CLS]", *expected, "[SEP]"]


def test_long_texts_are_cut_before_their_end_mark(tmp_path):
    tokens = Tokenizer(folder(tmp_path))(["good film not good", "film"], 4)
    assert [words_of(row) for row in tokens] == [
        ["[CLS]", "good", "film", "[SEP]"],
        ["[CLS]", "film", "[SEP]"],
    ]


def test_tokenizer_json_alone(tmp_path):
    """Its own truncation and padding do not count."""
    stored = {
        "model": {"type": "WordPiece", "vocab": VOCABULARY},
        "normalizer": {"type": "BertNormalizer", "lowercase": False, "strip_accents": None},
        "truncation": {"max_length": 3},
        "padding": {"strategy": {"Fixed": 99}},
    }
    (tokens,) = Tokenizer(folder(tmp_path, words=None, stored=stored))(["Good good film"], 50)
    assert words_of(tokens) == ["[CLS]", "Good", "good", "film", "[SEP]"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, r"has neither vocab\.txt nor tokenizer\.json"),
        ({"words": ["good", "[PAD]", "[UNK]"]}, r"vocab\.txt lacks \[CLS\], \[SEP\]"),
        ({"stored": {"model": {"type": "WordPiece", "vocab": []}}}, "holds no WordPiece vocabulary"),
        ({"stored": {"model": {"type": "BPE", "vocab": {}}}}, r"tokenizer\.json holds no vocabulary"),
        ({"stored": {"model": {"type": "BPE", "vocab": {"a": 0}}}}, r"tokenizer\.json cannot be read"),
        ({"stored": {"model": {"vocab": {"[CLS]": "x"}}}}, "ids that are no whole numbers"),
        ({"stored": [1]}, "holds no JSON object"),
        ({"words": WORDS, "config": {"do_lower_case": "yes"}}, "has do_lower_case 'yes', neither true"),
    ],
)
def test_missing_and_broken_files_are_one_sentence(tmp_path, files, sentence):
    with pytest.raises(DataError, match=sentence):
        Tokenizer(folder(tmp_path, **{"words": None, **files}))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"vocab\.txt cannot be read"):
        Tokenizer(tmp_path)


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'msa_jax\[text\]'"):
        Tokenizer(folder(tmp_path))


TEXTS = [
    "OH MY GOSH BAD MOVIE",
    "It's über-naïve, isn't it?! (Ελληνικά)   \t\n 2nd\u20133rd… $9.99 #1",
    "这部电影真的很好看\uff0c我喜欢\uff01 OK吧 𠀀 ﷽ café",
    "a\u200bb\u00adc\ufffd\x00d \u2028 [MASK] [SEP]x [unk] ##ing",
    "supercalifragilistic" * 8,
    "",
]


@pytest.mark.extras
@pytest.mark.parametrize("name", ["minilm", "bert_vocab_zh"])
@pytest.mark.parametrize("lower", [None, True, False])
def test_equal_to_the_public_tokenizer(shared_data, tmp_path, name, lower):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_bytes((shared_data / name / "vocab.txt").read_bytes())
    if lower is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    peer = transformers.BertTokenizerFast(
        str(tmp_path / "vocab.txt"), do_lower_case=True if lower is None else lower
    )
    for most in (8, 200):
        expected = peer(TEXTS, max_length=most, truncation=True, padding=True, return_tensors="np")
        keys = ("input_ids", "attention_mask", "token_type_ids")
        np.testing.assert_array_equal(
            Tokenizer(tmp_path)(TEXTS, most), np.stack([expected[key] for key in keys], axis=1)
        )
