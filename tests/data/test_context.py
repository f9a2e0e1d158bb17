"""The utterances before a clip: which they are, where they stand, and who reads them."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_data
from hypothesis import given
from hypothesis import strategies as st

from msa_jax.configuration import load
from msa_jax.data.batch import Batch
from msa_jax.data.context import CONTEXT, own_tokens, tokens_behind, utterances_before, with_context
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.division import videos_of
from msa_jax.data.loader import batch_of, clip_lengths
from msa_jax.data.preprocess import Preprocess
from msa_jax.data.tokenize import TokenSource, with_tokens
from msa_jax.errors import ConfigError, DataError
from msa_jax.models.text import TextSource, TextStates
from msa_jax.nn.bert import BertSettings
from msa_jax.robust.corruptions import drop
from msa_jax.training import build
from msa_jax.training.checks import check_values

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
CLS, SEP = 101, 102
WIDTHS = {"text": 2, "audio": 1, "vision": 1}


def tokens_of(texts: list[list[int]], steps: int) -> np.ndarray:
    """[N, 3, steps] of words between [CLS] and [SEP]; a text of None has no token."""
    made = np.zeros((len(texts), 3, steps), np.int32)
    for row, words in zip(made, texts, strict=True):
        ids = [CLS, *words, SEP]
        row[0, : len(ids)], row[1, : len(ids)] = ids, 1
    return made


def dataset(clips: dict[str, list[int]], steps: int = 6) -> Dataset:
    """Clips by id, with their words, as all three splits."""
    tokens = tokens_of(list(clips.values()), steps)
    n = len(clips)
    values = {m: np.ones((n, steps if m == "text" else 2, w), np.float32) for m, w in WIDTHS.items()}
    lengths = {m: np.full(n, 2, np.int32) for m in WIDTHS} | {"text": own_tokens(tokens)}
    split = Split(np.array(list(clips)), values, lengths, {"M": np.zeros(n, np.float32)}, tokens=tokens)
    modalities = {
        m: dataclasses.replace(record, width=WIDTHS[m], length=values[m].shape[1], groups={})
        for m, record in small_data.SPEC.modalities.items()
    }
    spec = dataclasses.replace(small_data.SPEC, modalities=modalities, tasks=("M",), has_tokens=True)
    return Dataset(spec, dict.fromkeys(("train", "valid", "test"), split))


FEW = {"a$_$2": [12, 13], "a$_$10": [20], "b$_$1": [31, 32, 33], "a$_$1": [11]}


def test_a_worked_example():
    read = with_context(dataset(FEW), most=2, positions=50)
    found = read.splits["test"].tokens
    assert found is not None
    assert found[0, 0, :6].tolist() == [CLS, 12, 13, SEP, 11, SEP]  # behind 2 stands 1
    assert found[1, 0].tolist() == [CLS, 20, SEP, 12, 13, SEP, 11, SEP]  # behind 10 stand 2 and 1
    assert found[1, 1].tolist() == [1] * 3 + [CONTEXT] * 5
    assert found[1, 2].tolist() == [0] * 3 + [1] * 5
    assert found[2, 0].tolist() == [CLS, 31, 32, 33, SEP, 0, 0, 0]  # the first of its video
    assert own_tokens(found).tolist() == [4, 3, 5, 3]
    assert tokens_behind(found).tolist() == [2, 5, 0, 0]
    assert read.spec.context == 2


def test_what_the_encoder_has_no_place_for_is_cut_from_the_farthest():
    found = with_context(dataset(FEW), most=2, positions=7).splits["test"].tokens
    assert found is not None
    assert found[1, 0].tolist() == [CLS, 20, SEP, 12, 13, SEP, 11]


def test_a_tokenizer_with_two_separators_between_sentences_gets_them():
    found = with_context(dataset(FEW), most=1, positions=50, between=1).splits["test"].tokens
    assert found is not None
    assert found[1, 0].tolist() == [CLS, 20, SEP, SEP, 12, 13, SEP]
    assert found[2, 1].tolist() == [1] * 5 + [0, 0]


def test_nothing_changes_without():
    stored = dataset(FEW)
    assert with_context(stored, 0, 50) is stored


NAMES = st.lists(
    st.tuples(st.sampled_from(["", "x", "y$_$z", "x1"]), st.integers(0, 30)), unique=True, max_size=25
)


@given(NAMES, st.integers(1, 4))
def test_only_earlier_clips_of_the_same_video_and_the_nearest_of_them(names, most):
    ids = np.array([f"{video}$_${clip}" if video else str(clip) for video, clip in names], np.str_)
    found = utterances_before(ids, videos_of(ids), most)
    for (video, clip), rows in zip(names, found, strict=True):
        earlier = sorted((c for v, c in names if v == video != "" and c < clip), reverse=True)
        assert [names[row] for row in rows] == [(video, c) for c in earlier[:most]]


def test_a_split_looks_into_itself_alone():
    whole = dataset(FEW)
    rows = {"train": [0, 2], "valid": [1], "test": [3]}
    splits = {}
    for name, chosen in rows.items():
        split = whole.splits[name]
        assert split.tokens is not None
        splits[name] = dataclasses.replace(
            split,
            ids=split.ids[chosen],
            values={m: x[chosen] for m, x in split.values.items()},
            lengths={m: x[chosen] for m, x in split.lengths.items()},
            labels={m: x[chosen] for m, x in split.labels.items()},
            tokens=split.tokens[chosen],
        )
    read = with_context(dataclasses.replace(whole, splits=splits), 3, 50)
    for split in read.splits.values():
        assert not (np.asarray(split.tokens)[:, 1] == CONTEXT).any()


SETTINGS = BertSettings(
    width=8, n_layers=2, heads=2, intermediate=12, vocab=200, positions=20, types=2, dropout=0.0
)


def batch(clips: dict[str, list[int]], most: int, steps: tuple[int, int, int] | None = None) -> Batch:
    """What a model reads of the clips."""
    read = with_tokens(dataset(clips), TokenSource("", 200, 20, context=most))
    split = read.splits["test"]
    assert split.tokens is not None
    shape = steps or (split.tokens.shape[2], 2, 2)
    preprocess = Preprocess(read.spec, tokens=TokenSource("", 200, 20, context=most))
    from msa_jax.data.loader import Source

    mesh = build.build_mesh(1)
    source = Source(split, preprocess, mesh, resident=True)
    index = jnp.arange(len(split), dtype=jnp.int32)
    made = batch_of(source.table, (index, jnp.ones(len(split))), shape)
    streamed = batch_of(
        None, ((index, jnp.ones(len(split))), source._read(np.arange(len(split)), shape)), shape
    )
    jax.tree.map(np.testing.assert_array_equal, made, streamed)
    return made


def encoded(read: Batch, variables=None, injections=None):
    model = TextStates(TextSource(SETTINGS, 8))
    variables = variables or model.init(jax.random.key(0), read, False)
    states, mask = model.apply(variables, read, False, injections)
    return variables, np.asarray(states), np.asarray(mask)


def test_the_encoder_reads_it_and_the_clips_own_states_go_on():
    alone, beside = batch(FEW, 0), batch(FEW, 2)
    variables, first, mask = encoded(alone)
    _, second, same = encoded(beside, variables)
    assert first.shape == second.shape == (4, 6, 8)
    assert mask.tolist() == same.tolist()
    moved = np.abs(first - second).max(axis=(1, 2))
    assert (moved[:2] > 1e-4).all()  # those with something before them
    np.testing.assert_allclose(first[2:], second[2:], atol=1e-6)
    assert beside.values["text"].shape[1] == 6 < beside.tokens.shape[2]  # type: ignore[union-attr]


def test_padding_behind_the_context_changes_nothing():
    variables, first, _ = encoded(batch(FEW, 2))
    wide = batch(FEW, 2)
    assert wide.tokens is not None
    padded = wide.replace(tokens=jnp.pad(wide.tokens, ((0, 0), (0, 0), (0, 5)), constant_values=0))
    _, second, _ = encoded(padded, variables)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_short_clips_are_cut_to_what_their_shape_holds():
    short = {"a$_$1": [11], "a$_$2": [12]}
    read = batch(short, 1, (5, 2, 2))
    assert (read.values["text"].shape[1], read.mask["text"].shape[1]) == (5, 5)
    np.testing.assert_array_equal(read.tokens[1, 0], [CLS, 12, SEP, 11, SEP])  # type: ignore[index]


def test_other_modalities_change_the_clips_own_states_alone():
    read = batch(FEW, 2)
    seen = []

    def change(states):
        seen.append(states.shape)
        return states + 1

    encoded(read, injections={1: change})
    assert set(seen) == {(4, 6, 8)}


def test_a_clip_without_its_words_is_without_those_before():
    read = batch(FEW, 2)
    mask = np.asarray(read.mask["text"])
    ends = np.zeros_like(mask)
    ends[:, 0] = True
    ends[np.arange(4), mask.sum(1) - 1] = True
    kept = np.where(np.arange(4)[:, None] == 0, ends, mask)  # the first loses its words
    tokens = np.asarray(drop(read, {"text": jnp.asarray(kept)}, unknown=100).tokens)
    assert tokens[0, 0, :4].tolist() == [CLS, 100, 100, SEP]
    assert not (tokens[0, 1] == CONTEXT).any()
    np.testing.assert_array_equal(tokens[1:], np.asarray(read.tokens)[1:])


def test_lengths_count_what_the_encoder_reads():
    read = with_context(dataset(FEW), 2, 50)
    assert clip_lengths(read.splits["test"])[:, 0].tolist() == [6, 8, 5, 3]


def test_what_it_does_not_go_with_is_one_sentence():
    frozen = load(f"{CONFIG}:self_mm", ["data.context=2", "model.text_encoder=frozen"])
    with pytest.raises(ConfigError, match=r"data\.context=2.*text_encoder=finetune"):
        check_values(frozen)
    with pytest.raises(ConfigError, match=r"compat.*data\.context"):
        check_values(load(f"{CONFIG}:self_mm", ["data.context=2", "model.compat=True"]))
    with pytest.raises(ConfigError, match=r"data\.context=-1"):
        check_values(load(f"{CONFIG}:self_mm", ["data.context=-1"]))
    asked = load(f"{CONFIG}:self_mm", ["data.context=2", "model.encoder.folder=random"])
    with pytest.raises(DataError, match=r"no training clip.*VIDEO\$_\$CLIP"):
        build.prepare(asked, dataset({"a": [1, 2], "b": [3]}))
