"""Tokenizers of bytes, as RoBERTa and ModernBERT have them, from their folders."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import small_data
from encoder_files import BERT_MARKS, byte_pairs, folder, modernbert_tokenizer, roberta_tokenizer

from msa_jax.data.context import with_context
from msa_jax.data.tokenize import Tokenizer
from msa_jax.data.vocabulary import Words, unknown_token
from msa_jax.errors import DataError

ROBERTA, _ = byte_pairs()
MODERN, _ = byte_pairs(BERT_MARKS, at_the_end=True)


def names(tokens: np.ndarray, vocabulary: dict[str, int]) -> list[str]:
    of = {number: token for token, number in vocabulary.items()}
    return [of[int(n)] for n in tokens[0][tokens[1] == 1]]


def test_roberta_from_its_older_files(tmp_path):
    made = Tokenizer(roberta_tokenizer(tmp_path))
    assert (made.first, made.padding, made.last, made.unknown) == (0, 1, 2, 3)
    assert made.size == len(ROBERTA)
    tokens = made(["words of good film", "a", ""], 20)
    assert names(tokens[0], ROBERTA) == ["<s>", "words", "Ġof", "Ġgood", "Ġfilm", "</s>"]
    assert names(tokens[1], ROBERTA) == ["<s>", "a", "</s>"]
    assert tokens[1, 0, 3:].tolist() == [1, 1, 1]
    assert not tokens[:, 2].any()
    assert names(made(["words of good film"], 4)[0], ROBERTA) == ["<s>", "words", "Ġof", "</s>"]
    spaced = Tokenizer(roberta_tokenizer(tmp_path, add_prefix_space=True))
    assert names(spaced(["good film"], 20)[0], ROBERTA) == ["<s>", "Ġgood", "Ġfilm", "</s>"]


def test_modernbert_from_tokenizer_json(tmp_path):
    """Its own truncation does not count, and its marks stand where the file has them."""
    made = Tokenizer(modernbert_tokenizer(tmp_path))
    assert [made.first, made.last, made.padding, made.unknown] == [
        MODERN[m] for m in ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
    ]
    tokens = made(["words of good film[MASK]", "é"], 20)
    assert names(tokens[0], MODERN) == ["[CLS]", "words", "Ġof", "Ġgood", "Ġfilm", "[MASK]", "[SEP]"]
    assert names(tokens[1], MODERN) == ["[CLS]", "Ã", "©", "[SEP]"]
    assert set(tokens[1, 0, 4:]) == {MODERN["[PAD]"]}


@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
def test_spans_hold_no_blanks_before_words(tmp_path, kind):
    made = Tokenizer(roberta_tokenizer(tmp_path) if kind == "roberta" else modernbert_tokenizer(tmp_path))
    assert made.spans(["words of  film"], 20) == [[(0, 0), (0, 5), (6, 8), (8, 9), (10, 14), (0, 0)]]
    assert made.spans(["words of  film"], 4) == [[(0, 0), (0, 5), (6, 8), (0, 0)]]


def test_words_are_joined_where_no_blank_stands_between_their_tokens(tmp_path):
    made, words = Tokenizer(roberta_tokenizer(tmp_path)), Words(tmp_path)
    ids = made(["words of caf\u00e9, films"], 30)[0, 0, 1:-1].tolist()
    starts = [i for i, number in enumerate(ids) if i == 0 or not words.goes_on(number)]
    parts = [ids[i:j] for i, j in zip(starts, [*starts[1:], len(ids)], strict=True)]
    assert [words.text(part) for part in parts] == ["words", "of", "caf\u00e9,", "films"]
    assert words.text([ROBERTA["<mask>"]]) == "<mask>"
    assert words.text([ROBERTA["Ã"]]) == "\ufffd"  # half a letter


def test_the_token_for_lost_words_is_the_tokenizers(tmp_path, caplog):
    caplog.set_level("INFO", "msa_jax")
    assert unknown_token(roberta_tokenizer(tmp_path / "roberta"), "roberta") == 3
    assert unknown_token(modernbert_tokenizer(tmp_path / "modern"), "modernbert") == MODERN["[UNK]"]
    assert unknown_token(folder(tmp_path / "bert")) == 1
    assert not caplog.records
    bare = roberta_tokenizer(tmp_path / "bare")
    kept = {token: n for token, n in ROBERTA.items() if token != "<unk>"}
    (bare / "vocab.json").write_text(json.dumps(kept))
    assert unknown_token(bare, "roberta") == ROBERTA["<mask>"]
    (bare / "tokenizer_config.json").write_text(json.dumps({"unk_token": {"content": "</s>"}}))
    assert unknown_token(bare, "roberta") == ROBERTA["</s>"]
    assert unknown_token(tmp_path, "modernbert") == 50280
    assert "lost words become token 50280, ModernBERT's" in caplog.text


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("no merges", r"has neither vocab\.txt nor tokenizer\.json"),
        ("broken merges", r"merges\.txt cannot be read"),
        ("no marks", r"vocab\.json lacks <s>"),
        ("ids", r"vocab\.json has ids that are no whole numbers"),
        ("blank", "has add_prefix_space 'yes', neither true nor false"),
        ("nothing around", "puts 0 tokens around a text"),
        ("no padding", r"has none of \[PAD\], <pad>"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path, fault, sentence):
    made = roberta_tokenizer(tmp_path, add_prefix_space="yes" if fault == "blank" else False)
    stored: Any = json.loads((modernbert_tokenizer(tmp_path / "modern") / "tokenizer.json").read_text())
    if fault == "no merges":
        (made / "merges.txt").unlink()
    elif fault == "broken merges":
        (made / "merges.txt").write_text("a\n")
    elif fault in ("no marks", "ids"):
        changed = dict(ROBERTA) | ({"a": -1} if fault == "ids" else {})
        (made / "vocab.json").write_text(
            json.dumps({k: n for k, n in changed.items() if k != "<s>" or fault == "ids"})
        )
    elif fault in ("nothing around", "no padding"):
        if fault == "nothing around":
            stored["post_processor"] = None
        else:
            stored["added_tokens"] = [x for x in stored["added_tokens"] if x["content"] != "[PAD]"]
            del stored["model"]["vocab"]["[PAD]"]
        (made / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(DataError, match=sentence) as caught:
        Tokenizer(made)
    assert "\n" not in str(caught.value)


TEXTS = ["words of good film, isn't it?", "café  \n 好看 2nd…", "a<mask>b </s> x", "good " * 30, ""]


def with_one_before(tokens: np.ndarray, between: int) -> np.ndarray:
    """The ids of the second of two texts [2, 3, T], behind which stands the first."""
    few = small_data.dataset(scores=(0.0, 0.5))
    clips = dataclasses.replace(few.splits["test"], ids=np.array(["video$_$1", "video$_$2"]), tokens=tokens)
    read = with_context(dataclasses.replace(few, splits={"test": clips}), 1, 200, between)
    ids, mask, _ = np.asarray(read.splits["test"].tokens)[1]
    return ids[mask > 0]


@pytest.mark.extras
@pytest.mark.parametrize("spaced", [True, False])
def test_equal_to_the_public_tokenizer_of_roberta(tmp_path, spaced):
    transformers = pytest.importorskip("transformers")
    made = roberta_tokenizer(tmp_path, add_prefix_space=spaced)
    peer = transformers.RobertaTokenizerFast.from_pretrained(str(made), add_prefix_space=spaced)
    for most in (8, 200):
        expected = peer(TEXTS, max_length=most, truncation=True, padding=True, return_tensors="np")
        ours = Tokenizer(made)(TEXTS, most)
        np.testing.assert_array_equal(ours[:, 0], expected["input_ids"])
        np.testing.assert_array_equal(ours[:, 1], expected["attention_mask"])
    found = with_one_before(Tokenizer(made)(TEXTS[:2], 200), between=1)
    np.testing.assert_array_equal(found, peer(TEXTS[1], TEXTS[0])["input_ids"])


@pytest.mark.extras
def test_equal_to_a_stored_tokenizer_as_transformers_reads_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    made = modernbert_tokenizer(tmp_path)
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(made / "tokenizer.json"), **marks)
    for most in (8, 200):
        expected = peer(TEXTS, max_length=most, truncation=True, padding=True, return_tensors="np")
        ours = Tokenizer(made)(TEXTS, most)
        np.testing.assert_array_equal(ours[:, 0], expected["input_ids"])
        np.testing.assert_array_equal(ours[:, 1], expected["attention_mask"])
    found = with_one_before(Tokenizer(made)(TEXTS[:2], 200), between=0)
    np.testing.assert_array_equal(found, peer(TEXTS[1], TEXTS[0])["input_ids"])
