"""Encoders in the layout of Hugging Face: what is read, what is refused, and equality to `transformers`."""

import json
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_files import SETTINGS, folder, ours, theirs
from safetensors.numpy import load_file

from msa_jax.errors import DataError
from msa_jax.nn.bert import Bert
from msa_jax.weights import huggingface
from msa_jax.weights.encoder_config import read_config


def test_sizes_and_weights(tmp_path):
    made = folder(tmp_path / "encoder")
    assert read_config(made) == SETTINGS
    read = huggingface.read_weights(made, SETTINGS)
    expected = ours()
    assert read.keys() == expected.keys()
    for path, array in read.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[path])


def test_prefix_heads_old_endings_and_variants(tmp_path):
    """A whole checkpoint of pre-training, saved in half precision, with the first converters' names."""
    weights = {
        f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
        for name, array in theirs().items()
    }
    weights["bert.pooler.dense.weight"] = np.ones((8, 8), np.float32)
    weights["cls.seq_relationship.bias"] = np.ones(2, np.float32)
    weights["bert.embeddings.position_ids"] = np.arange(10)[None]
    half = {k: a.astype(np.float16) if a.dtype == np.float32 else a for k, a in weights.items()}
    made = folder(tmp_path / "encoder", weights=half, name="model.fp16.safetensors")
    for path, array in huggingface.read_weights(made, SETTINGS).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, ours()[path].astype(np.float16).astype(np.float32))


def test_the_pooler_is_read_where_it_is_asked_for(tmp_path):
    kernel = np.arange(64, dtype=np.float32).reshape(8, 8)
    pooler = {"pooler.dense.weight": kernel, "pooler.dense.bias": kernel[0]}
    made = folder(tmp_path / "with", weights=theirs() | pooler)
    read = huggingface.read_weights(made, SETTINGS, pooler=True)
    assert read.keys() == ours().keys() | {"pooler/kernel", "pooler/bias"}
    np.testing.assert_array_equal(read["pooler/kernel"], kernel.T)
    np.testing.assert_array_equal(read["pooler/bias"], kernel[0])
    with pytest.raises(DataError, match=r"pooler\.dense\.weight is missing"):
        huggingface.read_weights(folder(tmp_path / "without"), SETTINGS, pooler=True)


def test_bfloat16(tmp_path):
    weights = {k: np.asarray(jnp.asarray(a, jnp.bfloat16)) for k, a in theirs().items()}
    made = folder(tmp_path / "encoder", weights=weights)
    for path, array in huggingface.read_weights(made, SETTINGS).items():
        np.testing.assert_array_equal(array, np.asarray(jnp.asarray(ours()[path], jnp.bfloat16), np.float32))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "electra"},
            "has model_type 'electra', and only encoders of bert, roberta, xlm-roberta",
        ),
        ({"hidden_act": "gelu_new"}, "has hidden_act 'gelu_new'"),
        ({"hidden_act": ["gelu"]}, "has hidden_act"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"pad_token_id": 1}, "has pad_token_id 1"),
        ({"is_decoder": True}, "has is_decoder True"),
        ({"hidden_size": "8"}, "has hidden_size '8', not a whole number above 0"),
        ({"vocab_size": 0}, "has vocab_size 0"),
        ({"hidden_size": 10**22}, "has hidden_size 10000000000000000000000, more than 10000000; correct it"),
        ({"num_hidden_layers": 1001}, "has num_hidden_layers 1001, more than 1000; correct it"),
        ({"num_hidden_layers": None}, "has num_hidden_layers None"),
        ({"num_attention_heads": 3}, "3 heads do not divide the encoder's width 8"),
        ({"hidden_dropout_prob": 1.5}, "has hidden_dropout_prob 1.5, not a rate"),
        ({"layer_norm_eps": 0}, "has layer_norm_eps 0"),
    ],
)
def test_other_architectures_and_broken_sizes_are_refused(tmp_path, config, words):
    made = folder(tmp_path / "encoder", config)
    with pytest.raises(DataError, match=words) as caught:
        read_config(made)
    assert str(made / "config.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '"' + "x" * 1000])
def test_a_broken_config_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_a_folder_says_which_file_it_lacks(tmp_path):
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        read_config(tmp_path)
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        huggingface.read_weights(tmp_path, SETTINGS)
    for variant in ("fp16", "bf16"):
        folder(tmp_path, name=f"model.{variant}.safetensors")
    with pytest.raises(DataError, match=r"model\.bf16\.safetensors, model\.fp16\.safetensors; rename one"):
        huggingface.read_weights(tmp_path, SETTINGS)


def test_all_names_that_do_not_fit_are_listed(tmp_path):
    weights = theirs()
    del weights["encoder.layer.1.output.dense.bias"]
    weights["encoder.layer.2.output.dense.bias"] = np.ones(8, np.float32)
    weights["embeddings.word_embeddings.weight"] = np.ones((31, 8), np.float32)
    weights["embeddings.LayerNorm.bias"] = np.ones(8, np.int64)
    with pytest.raises(DataError) as caught:
        huggingface.read_weights(folder(tmp_path / "encoder", weights=weights), SETTINGS)
    for words in (
        "encoder.layer.1.output.dense.bias is missing",
        "encoder.layer.2.output.dense.bias has no place in it",
        "embeddings.word_embeddings.weight is (31, 8), not (30, 8)",
        "embeddings.LayerNorm.bias is I64, not one of F32, F16, BF16",
    ):
        assert words in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("fault", ["cut", "cut in the header", "empty", "pickle", "long header", "beyond"])
def test_damaged_and_hostile_weights_are_one_sentence(tmp_path, fault):
    made = folder(tmp_path / "encoder")
    path = made / "model.safetensors"
    content = path.read_bytes()
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(
        {
            "cut": content[:-1],
            "cut in the header": content[:20],
            "empty": b"",
            "pickle": b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.",
            "long header": (2**60).to_bytes(8, "little") + content[8:],
            "beyond": len(header).to_bytes(8, "little") + header,
        }[fault]
    )
    with pytest.raises(DataError, match="is damaged"):
        huggingface.read_weights(made, SETTINGS)


@pytest.mark.extras
def test_a_real_encoder_gives_the_states_of_transformers(shared_data):
    """MiniLM, in float16 as stored: the same weights in both, texts of several lengths, padding too."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = shared_data / "minilm"
    settings = read_config(source)
    params = flax.traverse_util.unflatten_dict(huggingface.read_weights(source, settings), sep="/")
    config = transformers.BertConfig.from_pretrained(source)
    config._attn_implementation = "eager"
    peer = transformers.BertModel(config).eval()
    weights = load_file(source / "model.fp16.safetensors")
    peer.load_state_dict({name: torch.tensor(x, dtype=torch.float32) for name, x in weights.items()})
    rng = np.random.default_rng(0)
    lengths = np.array([1, 2, 9, 13])
    mask = np.arange(13) < lengths[:, None]
    ids = np.where(mask, rng.integers(1000, settings.vocab, mask.shape), 0)
    segments = rng.integers(0, 2, mask.shape)
    with torch.no_grad():
        expected = peer(
            torch.tensor(ids), torch.tensor(mask.astype(int)), torch.tensor(segments)
        ).last_hidden_state.numpy()
    model = Bert(settings)
    run = jax.jit(lambda p: model.apply({"params": p}, ids, mask, segments, train=False))
    states: Any = run(params)
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
