"""Folders of RoBERTa and ModernBERT: what is read, and what is refused."""

import json

import numpy as np
import pytest
from encoder_files import OTHERS, other_folder, public_weights

from msa_jax.errors import ConfigError, DataError
from msa_jax.nn.encoder import text_encoder
from msa_jax.weights.encoder_config import read_config
from msa_jax.weights.huggingface import read_weights
from msa_jax.weights.peers.encoder import encoder

KINDS = pytest.mark.parametrize("kind", ["roberta", "modernbert"])
HEADS = {
    "roberta": ("roberta.", ("lm_head.bias", "lm_head.dense.weight", "roberta.embeddings.position_ids")),
    "modernbert": ("model.", ("head.dense.weight", "head.norm.weight", "decoder.bias")),
}


@KINDS
def test_sizes_and_weights_also_of_whole_checkpoints(tmp_path, kind):
    settings, weights = OTHERS[kind], public_weights(OTHERS[kind])
    prefix, heads = HEADS[kind]
    whole = {f"{prefix}{name}": x for name, x in weights.items()}
    whole |= dict.fromkeys(heads, np.ones(2, np.float32))
    for name, content in (("plain", None), ("whole", whole)):
        made = other_folder(tmp_path / name, kind, weights=content)
        assert read_config(made) == settings
        read = read_weights(made, settings)
        entries = encoder(settings)
        assert {e.ours.removeprefix("params/") for e in entries} == read.keys()
        for entry in entries:
            expected = entry.convert(weights[entry.peer])
            np.testing.assert_array_equal(read[entry.ours.removeprefix("params/")], expected)


@KINDS
def test_all_names_that_do_not_fit_are_listed(tmp_path, kind):
    weights = dict(public_weights(OTHERS[kind]))
    (missing, *_) = [name for name in weights if ".1." in name]
    del weights[missing]
    weights["cls.bias"] = np.ones(2, np.float32)
    with pytest.raises(DataError) as caught:
        read_weights(other_folder(tmp_path, kind, weights=weights), OTHERS[kind])
    assert f"{missing} is missing" in str(caught.value)
    assert "cls.bias has no place in it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_roberta_counts_positions_behind_its_padding(tmp_path):
    read = read_config(other_folder(tmp_path, "roberta", {"max_position_embeddings": 514, "pad_token_id": 1}))
    assert (read.positions, read.pad, read.types) == (512, 1, 1)
    read = read_config(other_folder(tmp_path, "roberta", {"model_type": "xlm-roberta"}))
    assert read.kind == "roberta"


def test_layer_types_say_how_far_layers_read(tmp_path):
    full, local = "full_attention", "sliding_attention"
    for types, every in (([full, local, local], 3), ([full, local, full], 2), ([full, full, full], 1)):
        made = other_folder(tmp_path, "modernbert", {"layer_types": types})
        found = read_config(made).global_every
        assert [full if not i % found else local for i in range(3)] == types
        assert found == every


def test_biases_are_read_as_configured(tmp_path):
    config = {"attention_bias": True, "mlp_bias": False, "norm_bias": True}
    settings = read_config(other_folder(tmp_path, "modernbert", config))
    assert settings.biases == (True, False, True)
    weights = public_weights(settings)
    assert {name for name in weights if name.startswith("layers.1.") and name.endswith("bias")} == {
        f"layers.1.{name}.bias" for name in ("attn.Wqkv", "attn.Wo", "attn_norm", "mlp_norm")
    }
    assert read_weights(other_folder(tmp_path, "modernbert", config, weights), settings)


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("roberta", {"hidden_act": "relu"}, "has hidden_act 'relu', and only roberta encoders with 'gelu'"),
        ("roberta", {"max_position_embeddings": 2}, "has max_position_embeddings 2, which leaves none"),
        ("roberta", {"pad_token_id": 400, "max_position_embeddings": 514}, "padding is 400, beyond its"),
        ("roberta", {"pad_token_id": None}, "has pad_token_id None, not a whole number of at least 0"),
        ("modernbert", {"hidden_activation": "silu"}, "has hidden_activation 'silu'"),
        ("modernbert", {"norm_bias": 1}, "has norm_bias 1, neither true nor false"),
        ("modernbert", {"local_attention": 0}, "has local_attention 0, not a whole number above 0"),
        ("modernbert", {"global_rope_theta": -1}, "has global_rope_theta -1, not a number above 0"),
        ("modernbert", {"rope_scaling": {"factor": 2}}, "has rope_scaling"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "has rope_type 'yarn'",
        ),
        ("modernbert", {"layer_types": ["sliding_attention"] * 3}, "has layer_types that are not"),
        ("modernbert", {"num_attention_heads": 8}, "heads are 1 wide, and rotary positions need an even"),
        ("modernbert", {"norm_eps": "x"}, "has norm_eps 'x', not a small number"),
        ("modernbert", {"model_type": ["modernbert"]}, "has model_type"),
    ],
)
def test_other_architectures_and_broken_sizes_are_refused(tmp_path, kind, config, words):
    made = other_folder(tmp_path, kind, config)
    with pytest.raises(DataError, match=words) as caught:
        read_config(made)
    assert str(made / "config.json") in str(caught.value)
    assert json.loads((made / "config.json").read_text())


def test_only_bert_and_roberta_have_a_pooler(tmp_path):
    settings = OTHERS["roberta"]
    weights = public_weights(settings, pooler=True)
    read = read_weights(other_folder(tmp_path, "roberta", weights=weights), settings, pooler=True)
    np.testing.assert_array_equal(read["pooler/kernel"], weights["pooler.dense.weight"].T)
    with pytest.raises(ConfigError, match="reads an encoder's pooler, which ModernBERT does not have"):
        text_encoder(OTHERS["modernbert"], pooler=True)
