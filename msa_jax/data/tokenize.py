"""Transcripts to BERT's token ids, by the vocabulary in an encoder's folder (the [text] extra).

The folder holds vocab.txt, or tokenizer.json with the vocabulary inside. tokenizer_config.json, where it
is there, says whether texts are lower-cased, whether accents go, and whether Chinese characters stand
alone; without it tokenizer.json says so, and without either texts are lower-cased and Chinese
characters stand alone.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_jax.data.context import with_context
from msa_jax.data.dataset import Dataset
from msa_jax.errors import DataError
from msa_jax.files import read_json
from msa_jax.messages import LOGGER

VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (VOCABULARY, TOKENIZER, TOKENIZER_CONFIG)
#: [UNK] in the vocabularies of BERT that are used most.
_UNKNOWN = 100
_ADVICE = "copy the encoder again"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Our names of the rules -> keys of tokenizer_config.json, keys of tokenizer.json's normalizer, defaults.
_RULES = {
    "lowercase": ("do_lower_case", "lowercase", True),
    "handle_chinese_chars": ("tokenize_chinese_chars", "handle_chinese_chars", True),
    "strip_accents": ("strip_accents", "strip_accents", None),
}


class Tokenizer:
    """The tokenizer of one encoder.

    Args:
      folder: the encoder's.

    Raises:
      DataError: if the extra is not installed, or the folder has no vocabulary or a broken one.
    """

    def __init__(self, folder: str | pathlib.Path):
        try:
            from tokenizers import Tokenizer as Backend
            from tokenizers import models, normalizers, pre_tokenizers, processors
        except ImportError:
            raise DataError("reading transcripts needs the extra: pip install 'msa_jax[text]'.") from None
        folder = pathlib.Path(folder)
        stored = _stored(folder)
        vocabulary = _vocabulary(folder, stored)
        self.size = max(vocabulary.values()) + 1
        self._padding = vocabulary["[PAD]"]
        self._backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
        self._backend.add_special_tokens([token for token in _SPECIAL if token in vocabulary])
        self._backend.normalizer = normalizers.BertNormalizer(clean_text=True, **_rules(folder, stored))
        self._backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        self._backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=ends
        )

    def __call__(self, texts: Sequence[str], most: int) -> np.ndarray:
        """Token ids of N texts as ``text_bert`` holds them.

        Args:
          texts: N strings.
          most: tokens that a text may have, [CLS] and [SEP] included; at least 2. What is beyond is cut.

        Returns:
          int32 [N, 3, T]: ids, mask and segment ids (zeros); T is the longest text's number of tokens.
        """
        self._backend.enable_truncation(most)
        encoded = [item.ids for item in self._backend.encode_batch([str(text) for text in texts])]
        lengths = np.array([len(ids) for ids in encoded], np.int32)
        tokens = np.zeros((len(encoded), 3, lengths.max(initial=0)), np.int32)
        tokens[:, 0] = self._padding
        for row, ids in zip(tokens, encoded, strict=True):
            row[0, : len(ids)] = ids
            row[1, : len(ids)] = 1
        return tokens

    def spans(self, texts: Sequence[str], most: int) -> list[list[tuple[int, int]]]:
        """The characters of each text that its tokens stand for, from the first to before the last.

        Args:
          texts: N strings.
          most: as for calling it.

        Returns:
          Of each text a pair per token; (0, 0) for [CLS] and [SEP].
        """
        self._backend.enable_truncation(most)
        return [list(item.offsets) for item in self._backend.encode_batch([str(text) for text in texts])]


def unknown_token(folder: str | pathlib.Path) -> int:
    """The id of the token that stands for unknown words, by the vocabulary in an encoder's folder.

    Where there is no vocabulary it is BERT's, and that is said.

    Raises:
      DataError: if the vocabulary is broken.
    """
    folder = pathlib.Path(folder)
    if not any((folder / name).is_file() for name in (VOCABULARY, TOKENIZER)):
        LOGGER.info("note: %s has no vocabulary; lost words become token %d, BERT's.", folder, _UNKNOWN)
        return _UNKNOWN
    return _vocabulary(folder, _stored(folder))["[UNK]"]


def token_names(folder: str | pathlib.Path) -> dict[int, str]:
    """What each id stands for, by the vocabulary in an encoder's folder; "##" begins what continues a word.

    Raises:
      DataError: if the folder has no vocabulary or a broken one.
    """
    folder = pathlib.Path(folder)
    return {number: token for token, number in _vocabulary(folder, _stored(folder)).items()}


def _stored(folder: pathlib.Path) -> dict[str, Any]:
    """The content of tokenizer.json, or {} where there is none."""
    return read_json(folder / TOKENIZER, _ADVICE) if (folder / TOKENIZER).exists() else {}


def _vocabulary(folder: pathlib.Path, stored: dict[str, Any]) -> dict[str, int]:
    """Token -> id."""
    path = folder / VOCABULARY
    if path.exists():
        try:
            with path.open(
                encoding="utf-8"
            ) as file:  # lines end at line feeds only: some tokens are odd spaces
                vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error!s:.100}); {_ADVICE}.") from error
    elif stored:
        path = folder / TOKENIZER
        model = stored.get("model")
        model = model if isinstance(model, dict) else {}
        vocabulary = model.get("vocab")
        if not isinstance(vocabulary, dict) or model.get("type", "WordPiece") != "WordPiece":
            raise DataError(f"{path} holds no WordPiece vocabulary; give the folder of a BERT encoder.")
        if not all(type(number) is int and 0 <= number < 2**31 for number in vocabulary.values()):
            raise DataError(f"{path} has ids that are no whole numbers; {_ADVICE}.")
    else:
        raise DataError(f"{folder} has neither {VOCABULARY} nor {TOKENIZER}; copy one of them there.")
    missing = [token for token in _SPECIAL[:4] if token not in vocabulary]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; give the vocabulary of a BERT encoder.")
    return vocabulary


def _rules(folder: pathlib.Path, stored: dict[str, Any]) -> dict[str, Any]:
    """How texts are normalised."""
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


@dataclasses.dataclass(frozen=True)
class TokenSource:
    """What a model that trains its text encoder reads in place of text features.

    Attributes:
      folder: the encoder's, whose vocabulary makes tokens of transcripts; "" where there is none.
      vocab: entries of the encoder's vocabulary.
      positions: tokens that a text may have; transcripts are cut to them.
      context: utterances before a clip's own that its tokens also hold (:mod:`msa_jax.data.context`).
    """

    folder: str
    vocab: int
    positions: int
    context: int = 0


def with_tokens(dataset: Dataset, source: TokenSource) -> Dataset:
    """The data set as a model with an encoder reads it: with tokens, and without text features.

    Where the data has no tokens, its transcripts are made into tokens by the encoder's own vocabulary.

    Raises:
      DataError: if there are neither tokens nor transcripts, or the tokens are of another vocabulary.
    """
    if not dataset.spec.has_tokens:
        dataset = _tokenised(dataset, source)
    most = max(int(np.max(np.asarray(s.tokens)[:, 0], initial=0)) for s in dataset.splits.values())
    if most >= source.vocab:
        raise DataError(
            f"{dataset.spec.name} holds token id {most}, but the encoder's vocabulary has "
            f"{source.vocab} entries; take the encoder whose tokenizer made the ids."
        )
    dataset = with_context(dataset, source.context, source.positions)
    splits = {}
    for name, split in dataset.splits.items():
        empty = np.zeros((*split.values["text"].shape[:2], 0), np.float32)
        splits[name] = dataclasses.replace(split, values={**split.values, "text": empty})
    text = dataclasses.replace(dataset.spec.modalities["text"], width=0, groups={}, mean=(), std=())
    spec = dataclasses.replace(dataset.spec, modalities={**dataset.spec.modalities, "text": text})
    return dataclasses.replace(dataset, spec=spec, splits=splits)


def _tokenised(dataset: Dataset, source: TokenSource) -> Dataset:
    if not source.folder or any(split.raw_text is None for split in dataset.splits.values()):
        raise DataError(
            f"{dataset.spec.name} has no token ids (text_bert), and transcripts (raw_text) with an encoder's "
            "folder (model.encoder.folder) are not there either; set model.text_encoder=frozen."
        )
    tokenizer = Tokenizer(source.folder)
    made = {
        name: tokenizer(list(split.raw_text), source.positions)  # type: ignore[arg-type]
        for name, split in dataset.splits.items()
    }
    steps = max(tokens.shape[2] for tokens in made.values())
    splits = {}
    for name, split in dataset.splits.items():
        tokens = np.pad(made[name], ((0, 0), (0, 0), (0, steps - made[name].shape[2])))
        lengths = {**split.lengths, "text": tokens[:, 1].sum(axis=1, dtype=np.int32)}
        values = {**split.values, "text": np.zeros((len(split), steps, 0), np.float32)}
        splits[name] = dataclasses.replace(split, values=values, lengths=lengths, tokens=tokens)
    text = dataclasses.replace(dataset.spec.modalities["text"], length=steps)
    spec = dataclasses.replace(
        dataset.spec, modalities={**dataset.spec.modalities, "text": text}, has_tokens=True
    )
    return dataclasses.replace(dataset, spec=spec, splits=splits)
