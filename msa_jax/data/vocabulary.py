"""The tokenizer's files in an encoder's folder: what they hold, and the tokenizer that they make.

Three kinds of folders are read, the first that is there:

- ``vocab.txt``, or ``tokenizer.json`` with a WordPiece vocabulary: BERT's. tokenizer_config.json, where it is
  there, says whether texts are lower-cased, whether accents go, and whether Chinese characters stand alone;
  without it tokenizer.json says so, and without either texts are lower-cased and Chinese characters stand
  alone.
- ``tokenizer.json`` with any other vocabulary: as it is written there (RoBERTa, ModernBERT).
- ``vocab.json`` and ``merges.txt``: pairs of bytes as RoBERTa merges them.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax.errors import DataError
from msa_jax.files import read_json
from msa_jax.messages import LOGGER

VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
PIECES = "vocab.json"
MERGES = "merges.txt"
TOKENIZER_FILES = (VOCABULARY, TOKENIZER, TOKENIZER_CONFIG, PIECES, MERGES)
#: The unknown token of the public vocabularies that are used most, by the encoder's kind.
_UNKNOWN = {"bert": 100, "roberta": 3, "modernbert": 50280}
_ADVICE = "copy the encoder again"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: The same of RoBERTa, in the order in which its tokenizer adds them.
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
#: Keys of tokenizer_config.json for tokens with a task -> the names that they have where it does not say.
_NAMES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}
#: Our names of the rules -> keys of tokenizer_config.json, keys of tokenizer.json's normalizer, defaults.
_RULES = {
    "lowercase": ("do_lower_case", "lowercase", True),
    "handle_chinese_chars": ("tokenize_chinese_chars", "handle_chinese_chars", True),
    "strip_accents": ("strip_accents", "strip_accents", None),
}
#: What a token begins with that goes on with the word before (WordPiece), or begins one: of bytes, of
#: SentencePiece.
_GOES_ON, _BLANK, _BAR = "##", "Ġ", "▁"


def backend(folder: pathlib.Path) -> Any:
    """The tokenizer of the `tokenizers` package that the folder's files describe; neither cuts nor pads.

    Raises:
      DataError: if the package is not installed, or the folder has no vocabulary or a broken one.
    """
    try:
        import tokenizers
    except ImportError:
        raise DataError("reading transcripts needs the extra: pip install 'msa_jax[text]'.") from None
    stored = _stored(folder)
    if _is_wordpiece(folder, stored):
        return _wordpiece(folder, stored)
    if not stored:
        return _byte_pairs(folder)
    vocabulary(folder)  # whose faults have sentences of their own
    try:
        made = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the package raises nothing more exact
        reason = " ".join(str(error).split())
        raise DataError(f"{folder / TOKENIZER} cannot be read ({reason:.100}); {_ADVICE}.") from error
    made.no_truncation()
    made.no_padding()
    return made


def vocabulary(folder: pathlib.Path) -> dict[str, int]:
    """Token -> id.

    Raises:
      DataError: if the folder has no vocabulary or a broken one.
    """
    stored = _stored(folder)
    if _is_wordpiece(folder, stored):
        return _words(folder, stored)
    path = folder / (TOKENIZER if stored else PIECES)
    if not stored and not (path.is_file() and (folder / MERGES).is_file()):
        raise DataError(f"{folder} has neither {VOCABULARY} nor {TOKENIZER}; copy one of them there.")
    found = _model(stored).get("vocab") if stored else read_json(path, _ADVICE)
    if isinstance(found, list):  # SentencePiece's: pairs of a token and how likely it is
        found = {pair[0]: number for number, pair in enumerate(found) if isinstance(pair, list) and pair}
    added = stored.get("added_tokens")
    added = added if isinstance(added, list) else []
    added = {x.get("content"): x.get("id") for x in added if isinstance(x, dict)}
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path} holds no vocabulary; {_ADVICE}.")
    found = {**found, **added}
    _require_ids(path, found)
    return found


def special_token(folder: pathlib.Path, tokens: Mapping[str, int], *tasks: str) -> int:
    """The id of the token that has the first of these tasks that the vocabulary has a token for.

    Args:
      folder: whose tokenizer_config.json may name the tokens.
      tokens: its vocabulary.
      tasks: "pad_token", "unk_token", "mask_token".

    Raises:
      DataError: if there is no such token.
    """
    config = read_json(folder / TOKENIZER_CONFIG, _ADVICE) if (folder / TOKENIZER_CONFIG).exists() else {}
    names = []
    for task in tasks:
        given = config.get(task)
        given = given.get("content") if isinstance(given, dict) else given
        names += [given] if isinstance(given, str) else list(_NAMES[task])
        for name in names:
            if name in tokens:
                return tokens[name]
    raise DataError(f"the vocabulary in {folder} has none of {', '.join(names):.200}; {_ADVICE}.")


def unknown_token(folder: str | pathlib.Path, kind: str = "bert") -> int:
    """The id of the token that stands for lost words: the unknown one of the encoder's tokenizer.

    A vocabulary without one (bytes need none) has the token that is masked. Where there is no vocabulary it
    is that of the kind's public encoders, and that is said.

    Args:
      folder: the encoder's.
      kind: the encoder's, as :class:`~msa_jax.nn.bert.BertSettings` has it.

    Raises:
      DataError: if the vocabulary is broken.
    """
    folder, unknown = pathlib.Path(folder), _UNKNOWN[kind]
    if not any((folder / name).is_file() for name in (VOCABULARY, TOKENIZER, PIECES)):
        LOGGER.info(
            "note: %s has no vocabulary; lost words become token %d, %s's.", folder, unknown, _TITLES[kind]
        )
        return unknown
    return special_token(folder, vocabulary(folder), "unk_token", "mask_token")


_TITLES = {"bert": "BERT", "roberta": "RoBERTa", "modernbert": "ModernBERT"}


class Words:
    """Which tokens belong to one word, and what it reads.

    Where blanks are part of the tokens, a word is what stands between blanks, with its full stops and commas.

    Args:
      folder: of an encoder.

    Raises:
      DataError: if the folder has no vocabulary or a broken one.
    """

    def __init__(self, folder: str | pathlib.Path):
        folder = pathlib.Path(folder)
        self._tokens = {number: token for token, number in vocabulary(folder).items()}
        self._joins = _is_wordpiece(folder, _stored(folder))
        begins = [mark for mark in (_BLANK, _BAR) if any(mark in t for t in self._tokens.values())]
        self._begins = begins[0] if begins else _BLANK

    def goes_on(self, number: int) -> bool:
        """Whether a token continues the word of the token before."""
        token = self._tokens.get(int(number), "?")
        return token.startswith(_GOES_ON) if self._joins else not token.startswith(self._begins)

    def text(self, numbers: Sequence[int]) -> str:
        """What the tokens of one word read together."""
        tokens = [self._tokens.get(int(number), "?") for number in numbers]
        if self._joins:
            return tokens[0] + "".join(token.removeprefix(_GOES_ON) for token in tokens[1:])
        if self._begins == _BAR:
            return "".join(tokens).replace(_BAR, " ").strip()
        letters = _bytes_of_letters()
        whole = "".join(tokens)
        if not all(letter in letters for letter in whole):  # a token that was added is written plainly
            return whole.replace(_BLANK, " ").strip()
        return bytes(letters[letter] for letter in whole).decode("utf-8", errors="replace").strip()


def _bytes_of_letters() -> dict[str, int]:
    """The letter that stands for each byte in a vocabulary of bytes: itself, or the next from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def _stored(folder: pathlib.Path) -> dict[str, Any]:
    """The content of tokenizer.json, or {} where there is none."""
    return read_json(folder / TOKENIZER, _ADVICE) if (folder / TOKENIZER).exists() else {}


def _model(stored: Mapping[str, Any]) -> dict[str, Any]:
    model = stored.get("model")
    return model if isinstance(model, dict) else {}


def _is_wordpiece(folder: pathlib.Path, stored: Mapping[str, Any]) -> bool:
    if (folder / VOCABULARY).exists():
        return True
    return bool(stored) and _model(stored).get("type", "WordPiece") == "WordPiece"


def _words(folder: pathlib.Path, stored: Mapping[str, Any]) -> dict[str, int]:
    """BERT's vocabulary."""
    path = folder / VOCABULARY
    if path.exists():
        try:
            # Lines end at line feeds only: some tokens are odd spaces.
            with path.open(encoding="utf-8") as file:
                found = {line.rstrip("\n"): number for number, line in enumerate(file)}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error!s:.100}); {_ADVICE}.") from error
    else:
        path, found = folder / TOKENIZER, _model(stored).get("vocab")
        if not isinstance(found, dict):
            raise DataError(f"{path} holds no WordPiece vocabulary; {_ADVICE}.")
        _require_ids(path, found)
    missing = [token for token in _SPECIAL[:4] if token not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; give the vocabulary of a BERT encoder.")
    return found


def _require_ids(path: pathlib.Path, found: Mapping[Any, Any]) -> None:
    if not all(type(k) is str and type(number) is int and 0 <= number < 2**31 for k, number in found.items()):
        raise DataError(f"{path} has ids that are no whole numbers; {_ADVICE}.")


def _rules(folder: pathlib.Path, stored: Mapping[str, Any]) -> dict[str, Any]:
    """How BERT's texts are normalised."""
    path, normalizer = folder / TOKENIZER_CONFIG, stored.get("normalizer")
    config = read_json(path, _ADVICE) if path.exists() else {}
    normalizer = normalizer if isinstance(normalizer, dict) else {}
    rules = {}
    for name, (key, stored_key, default) in _RULES.items():
        value = config.get(key, normalizer.get(stored_key, default))
        if value is not None and type(value) is not bool:
            raise DataError(f"{path} has {key} {value!r:.50}, neither true nor false; correct it.")
        rules[name] = default if value is None else value
    return rules


def _wordpiece(folder: pathlib.Path, stored: Mapping[str, Any]) -> Any:
    """BERT's tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = _words(folder, stored)
    made: Any = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.add_special_tokens([token for token in _SPECIAL if token in words])
    made.normalizer = normalizers.BertNormalizer(clean_text=True, **_rules(folder, stored))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, words[token]) for token in ("[CLS]", "[SEP]")],
    )
    return made


def _byte_pairs(folder: pathlib.Path) -> Any:
    """RoBERTa's tokenizer from its older files."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = vocabulary(folder)
    missing = [token for token in _ROBERTA[:4] if token not in tokens]
    if missing:
        raise DataError(f"{folder / PIECES} lacks {', '.join(missing)}; give the vocabulary of a RoBERTa.")
    path = folder / TOKENIZER_CONFIG
    config = read_json(path, _ADVICE) if path.exists() else {}
    blank = config.get("add_prefix_space", False)
    if type(blank) is not bool:
        raise DataError(f"{path} has add_prefix_space {blank!r:.50}, neither true nor false; correct it.")
    try:
        model = models.BPE.from_file(str(folder / PIECES), str(folder / MERGES))
    except Exception as error:  # the package raises nothing more exact
        reason = " ".join(str(error).split())
        raise DataError(f"{folder / MERGES} cannot be read ({reason:.100}); {_ADVICE}.") from error
    made: Any = Tokenizer(model)
    # The blank before a masked word belongs to it, as it does to any other.
    made.add_special_tokens(
        [AddedToken(t, lstrip=t == "<mask>", special=True) for t in _ROBERTA if t in tokens]
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
    made.decoder = decoders.ByteLevel()
    ends = [(token, tokens[token]) for token in ("</s>", "<s>")]
    made.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=blank)
    return made
