"""Every kind of encoder beside `transformers`: all layers' states and all gradients, on random weights."""

import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msa_jax.nn.encoder import text_encoder
from msa_jax.weights.encoder_config import read_config
from msa_jax.weights.huggingface import read_weights
from msa_jax.weights.peers.encoder import encoder

SIZES = {
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
#: Of "modern" every second layer reads two steps to either side, of texts of up to 13 steps.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {"num_hidden_layers": 3}),
    "roberta": ("Roberta", {"num_hidden_layers": 3, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "padding": ("Roberta", {"num_hidden_layers": 2, "type_vocab_size": 2, "pad_token_id": 4}),
    "xlm": ("XLMRoberta", {"num_hidden_layers": 2, "type_vocab_size": 1}),
    "modern": (
        "ModernBert",
        {
            "num_hidden_layers": 5,
            "global_attn_every_n_layers": 2,
            "local_attention": 4,
            "global_rope_theta": 1000.0,
            "local_rope_theta": 100.0,
            "pad_token_id": 3,
        },
    ),
    "biased": (
        "ModernBert",
        {
            "num_hidden_layers": 4,
            "local_attention": 7,
            "pad_token_id": 3,
            **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias"), True),
        },
    ),
}
LENGTHS = np.array([13, 1, 2, 9])
MASK = np.arange(13) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
IDS = RNG.integers(5, 50, MASK.shape)
COEFFICIENTS = RNG.normal(size=(*MASK.shape, 16)).astype(np.float32)


def peer_of(kind: str, folder: pathlib.Path) -> Any:
    """A public encoder with random weights, which is saved to the folder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    name, more = KINDS[kind]
    dropout = {"embedding_dropout": 0.0} if name == "ModernBert" else {"hidden_dropout_prob": 0.1}
    config = getattr(transformers, f"{name}Config")(**SIZES, **more, **dropout)
    config._attn_implementation = "eager"
    more = {} if name == "ModernBert" else {"add_pooling_layer": False}
    peer = getattr(transformers, f"{name}Model")(config, **more).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for key, weight in peer.named_parameters():
            weight.normal_(1.0 if "norm" in key.lower() and key.endswith("weight") else 0.0, 0.3)
    peer.save_pretrained(folder)
    return peer


def close(ours: Any, theirs: Any, what: str, floor: float = 0.0) -> None:
    """Equal to 1e-5 of the largest value, as tests/golden/README.md has it; gradients have a floor."""
    scale = max(np.abs(theirs).max(), floor)
    np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale, rtol=0, atol=1e-5, err_msg=what)


@pytest.mark.extras
@pytest.mark.parametrize("kind", list(KINDS))
def test_states_of_all_layers_and_gradients_are_those_of_transformers(tmp_path, kind):
    torch = pytest.importorskip("torch")
    peer = peer_of(kind, tmp_path)
    settings = read_config(tmp_path)
    params = flax.traverse_util.unflatten_dict(read_weights(tmp_path, settings), sep="/")
    ids = np.where(MASK, IDS, settings.pad)
    read = peer(torch.tensor(ids), torch.tensor(MASK.astype(int)), output_hidden_states=True)
    coefficients = torch.tensor(np.where(MASK[..., None], COEFFICIENTS, 0))
    (read.last_hidden_state * coefficients).sum().backward()
    model = text_encoder(settings)

    def loss(p: Any, ids: Any) -> Any:
        segments = jnp.zeros_like(ids)
        states, kept = model.apply(
            {"params": p}, ids, jnp.asarray(MASK), segments, train=False, mutable=["intermediates"]
        )
        real = jnp.where(MASK[..., None], states, 0)
        return jnp.sum(real * COEFFICIENTS), kept["intermediates"]["states"]

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, states), gradient = run(params, ids)
    assert len(states) == len(read.hidden_states) == settings.n_layers + 1
    for number, (ours, theirs) in enumerate(zip(states, read.hidden_states, strict=True)):
        theirs = theirs.detach().numpy()
        close(np.where(MASK[..., None], ours, 0), np.where(MASK[..., None], theirs, 0), f"state {number}")
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(gradient, sep="/")  # type: ignore[assignment]
    theirs = {name: weight.grad.numpy() for name, weight in peer.named_parameters()}
    entries = encoder(settings)
    assert {e.peer for e in entries} == theirs.keys()
    largest = max(np.abs(x).max() for x in theirs.values())
    for entry in entries:
        ours = flat[entry.ours.removeprefix("params/")]
        if entry.peer.endswith("self.key.bias"):
            # It adds the same to all of a query's scores, which a softmax does not see: 0 but for rounding.
            assert max(np.abs(ours).max(), np.abs(theirs[entry.peer]).max()) < 1e-6 * largest
            continue
        close(ours, entry.convert(theirs[entry.peer]), entry.peer, 1e-2 * largest)
    # What lies in the padding does not count, other than for transformers' RoBERTa.
    (_, others), _ = run(params, np.where(MASK, IDS, 7))
    for ours, other in zip(states, others, strict=True):
        np.testing.assert_allclose(ours[MASK], other[MASK], rtol=0, atol=1e-6)


@pytest.mark.extras
def test_older_and_newer_files_of_modernbert_say_the_same(tmp_path):
    peer_of("modern", tmp_path)
    newer = read_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        assert config.pop(key)
    config |= {k: v for k, v in KINDS["modern"][1].items() if k.startswith(("global", "local"))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path) == newer
    assert (newer.global_every, newer.window, newer.thetas) == (2, 4, (1000.0, 100.0))
