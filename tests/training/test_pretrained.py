"""The text encoder of a run: sizes and weights from its folder, tokens from transcripts."""

import dataclasses
import pathlib

import encoder_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.configuration import load
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.data.tokenize import with_tokens
from msa_jax.errors import ConfigError, DataError
from msa_jax.training import pretrained
from msa_jax.training.optim import group_names

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")
TEXTS = np.array(["Words of clip 1", "clip 2 3"])


def config(*overrides):
    return load(f"{CONFIG}:self_mm", [f"model.{o}" for o in overrides])


def dataset(tokens=None, raw_text=TEXTS) -> Dataset:
    widths = {"text": 3, "audio": 2, "vision": 2}
    values = {m: np.ones((2, 4, w), np.float32) for m, w in widths.items()}
    lengths = {m: np.full(2, 4, np.int32) for m in widths}
    split = Split(np.array(["a", "b"]), values, lengths, {"M": np.zeros(2, np.float32)})
    split = dataclasses.replace(split, tokens=tokens, raw_text=raw_text)
    modalities = {m: ModalitySpec(w, 4) for m, w in widths.items()}
    spec = DatasetSpec("few", modalities, (-1.0, 1.0), "mosi", has_tokens=tokens is not None)
    return Dataset(spec, {"train": split, "valid": split, "test": split})


def test_the_folder_gives_the_sizes_and_the_configuration_the_rates(tmp_path):
    folder = encoder_files.folder(tmp_path)
    chosen = pretrained.with_sizes(config(f"encoder.folder={folder}", "encoder.dropout=0.25"))
    sizes = {key: chosen.model.encoder[key] for key in ("width", "n_layers", "vocab", "positions", "dropout")}
    assert sizes == {"width": 8, "n_layers": 2, "vocab": 30, "positions": 10, "dropout": 0.25}
    frozen = config("text_encoder=frozen")
    assert pretrained.with_sizes(frozen) is frozen


def test_an_encoder_without_a_folder_is_refused_unless_untrained_weights_are_asked_for():
    with pytest.raises(ConfigError, match=r"encoder\.folder=DIR.*text_encoder=frozen"):
        pretrained.with_sizes(config())
    assert pretrained.with_sizes(config("encoder.folder=random")).model.encoder.width == 768


def test_the_weights_take_the_places_of_fresh_ones(tmp_path):
    folder = encoder_files.folder(tmp_path)
    fresh = {path: jnp.full(x.shape, 7.0) for path, x in encoder_files.ours().items()}
    params = {"text_encoder": {"bert": _nested(fresh)}, "head": {"kernel": jnp.ones(3)}}
    loaded = pretrained.load(params, config(f"encoder.folder={folder}").model)
    found = _flat(loaded["text_encoder"]["bert"])
    for path, x in encoder_files.ours().items():
        np.testing.assert_array_equal(found[path], x)
    np.testing.assert_array_equal(loaded["head"]["kernel"], 1.0)


def test_a_model_with_a_pooler_gets_that_of_the_folder(tmp_path):
    pooler = {
        "pooler.dense.weight": np.eye(8, dtype=np.float32),
        "pooler.dense.bias": np.zeros(8, np.float32),
    }
    folder = encoder_files.folder(tmp_path, weights=encoder_files.theirs() | pooler)
    fresh = {path: jnp.full(x.shape, 7.0) for path, x in encoder_files.ours().items()}
    fresh |= {"pooler/kernel": jnp.full((8, 8), 7.0), "pooler/bias": jnp.full(8, 7.0)}
    params = {"text_encoder": {"bert": _nested(fresh)}}
    block = load(f"{CONFIG}:mag_bert", [f"model.encoder.folder={folder}"]).model
    found = _flat(pretrained.load(params, block)["text_encoder"]["bert"])
    np.testing.assert_array_equal(found["pooler/kernel"], np.eye(8))
    np.testing.assert_array_equal(found["pooler/bias"], 0)


def _nested(flat):
    import flax.traverse_util

    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _flat(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def test_transcripts_become_tokens_where_the_data_has_none(tmp_path):
    block = pretrained.with_sizes(config(f"encoder.folder={encoder_files.folder(tmp_path)}")).model
    read = with_tokens(dataset(), pretrained.token_source(block))
    split = read.splits["train"]
    words = {word: number for number, word in enumerate(encoder_files.WORDS)}
    first = [words[w] for w in ("[CLS]", "words", "of", "clip", "1", "[SEP]")]
    np.testing.assert_array_equal(split.tokens[0, 0], first)
    np.testing.assert_array_equal(split.lengths["text"], [6, 5])
    np.testing.assert_array_equal(split.tokens[:, 1].sum(axis=1), [6, 5])
    assert split.values["text"].shape == (2, 6, 0)
    assert read.spec.modalities["text"].length == 6
    assert read.spec.has_tokens


def test_tokens_of_the_data_are_kept_and_its_text_features_dropped():
    tokens = np.ones((2, 3, 4), np.int32)
    block = config("encoder.folder=random").model
    read = with_tokens(dataset(tokens), pretrained.token_source(block))
    np.testing.assert_array_equal(read.splits["test"].tokens, tokens)
    assert read.splits["test"].values["text"].shape == (2, 4, 0)
    assert pretrained.token_source(config("text_encoder=frozen").model) is None


def test_tokens_of_another_vocabulary_and_none_at_all_are_refused(tmp_path):
    tokens = np.full((2, 3, 4), 30, np.int32)
    block = pretrained.with_sizes(config(f"encoder.folder={encoder_files.folder(tmp_path)}")).model
    with pytest.raises(DataError, match=r"token id 30.*30 entries"):
        with_tokens(dataset(tokens), pretrained.token_source(block))
    with pytest.raises(DataError, match=r"text_bert.*text_encoder=frozen"):
        with_tokens(dataset(raw_text=None), pretrained.token_source(block))


def test_the_groups_of_an_encoder_may_be_idle_where_none_is_trained_and_only_there():
    train = config().train
    plain = {"audio": {"w": jnp.ones(1)}, "vision": {"w": jnp.ones(1)}}
    names = group_names(train, (), plain)
    assert jax.tree.leaves(names) == ["audio", "vision"]
    encoder = {"layer_0": {"norm": {"scale": jnp.ones(1)}, "dense": {"kernel": jnp.ones(1)}}}
    names = group_names(train, (), plain | {"text_encoder": encoder})
    assert names["text_encoder"]["layer_0"]["norm"]["scale"] == "encoder_no_decay"
    assert names["text_encoder"]["layer_0"]["dense"]["kernel"] == "encoder"
    with pytest.raises(ConfigError, match="encoder_no_decay"):
        group_names(train, (), plain | {"text_encoder": {"kernel": jnp.ones(1)}})
