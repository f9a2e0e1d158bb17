"""BERT's encoder against its golden file: states, attention, pooler, loss, gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from parity_errors import Errors
from parity_weights import compare_gradient, variables_of

from msa_jax.nn.bert import Bert, BertSettings
from msa_jax.weights.peers.encoder import bert


def settings_of(meta: dict) -> BertSettings:
    """The sizes in a file's ``meta["bert"]``."""
    theirs = meta["bert"]
    return BertSettings(
        width=theirs["hidden_size"],
        n_layers=theirs["num_hidden_layers"],
        heads=theirs["num_attention_heads"],
        intermediate=theirs["intermediate_size"],
        vocab=theirs["vocab_size"],
        positions=theirs["max_position_embeddings"],
        types=theirs["type_vocab_size"],
        dropout=0.0,
        attention_dropout=0.0,
        layer_norm_eps=theirs["layer_norm_eps"],
    )


def compare(arrays: dict[str, np.ndarray], meta: dict, errors: Errors) -> None:
    """Everything that a file of the bert layout holds."""
    settings = settings_of(meta)
    entries = bert("", "bert", settings.n_layers, pooler=True)
    encoder = Bert(settings, pooler=True)

    def run(params: Any, tokens: np.ndarray) -> dict[str, jax.Array]:
        ids, mask, segments = tokens.astype(np.int32).swapaxes(0, 1)
        (last, pooled), kept = encoder.apply(
            {"params": params}, ids, mask == 1, segments, train=False, mutable=["intermediates"]
        )
        kept = kept["intermediates"]
        states = {f"hidden_state_{i}": state for i, state in enumerate(kept["states"])}
        attention = {
            f"attention_{i}": kept[f"layer_{i}"]["attention"]["weights"][0] for i in range(settings.n_layers)
        }
        return {"last_hidden_state": last, "pooler_output": pooled, **states, **attention}

    def loss(params):
        out = run(params, arrays["in/text_bert"])
        total = 10 * jnp.mean(out["last_hidden_state"] * arrays["in/coef_last"])
        return total + jnp.mean(out["pooler_output"] * arrays["in/coef_pooler"]), out

    params = variables_of(entries, arrays)["params"]
    (value, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    errors.compare("loss", value)
    _compare_outputs(arrays, errors, "out", outputs)
    compare_gradient(entries, errors, gradient, "grad/")
    if "in1/text_bert" in arrays:
        _compare_outputs(arrays, errors, "out1", run(params, arrays["in1/text_bert"]))


def _compare_outputs(arrays: dict[str, np.ndarray], errors: Errors, folder: str, outputs: dict) -> None:
    for key in [k for k in arrays if k.startswith(f"{folder}/")]:
        name = key.removeprefix(f"{folder}/")
        if name in outputs:
            errors.compare(key, outputs[name])
        else:
            errors.missing(key)
