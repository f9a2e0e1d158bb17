"""The names of the public BertModel, of RobertaModel (which has the same) and of ModernBertModel."""

from msa_jax.configuration import Config
from msa_jax.errors import ConfigError
from msa_jax.nn.bert import BertSettings
from msa_jax.weights.layers import Entry, linear, norm, raw


def trained_encoder(model: Config, peer: str, pooler: bool = False) -> list[Entry]:
    """The arrays of the encoder that a model trains along; none where it reads stored features.

    Args:
      model: the model block.
      peer: its place in the state dict of the model's public class.
      pooler: whether ours has the pooler.

    Raises:
      ConfigError: for an encoder that no public class holds.
    """
    if model.text_encoder != "finetune":
        return []
    kind, layers = model.encoder.get("kind", "bert"), model.encoder.get("layers", "last")
    if kind == "modernbert" or layers == "learned":
        what = "a ModernBERT" if kind == "modernbert" else "weights of the encoder's layers"
        raise ConfigError(f"the public class of {model.name} has no place for {what}.")
    return bert("text_encoder/bert", peer, model.encoder.n_layers, pooler)


def encoder(settings: BertSettings, pooler: bool = False) -> list[Entry]:
    """The arrays of an encoder by itself, of any kind, beside those that are new with us."""
    if settings.kind == "modernbert":
        return modernbert(settings)
    return bert("", "", settings.n_layers, pooler)


def bert(ours: str, peer: str, n_layers: int, pooler: bool = False) -> list[Entry]:
    """The arrays of a BERT or RoBERTa.

    Args:
      ours: its place in our parameters, "text_encoder", or "" for an encoder by itself.
      peer: its place in the state dict, "text_model.model", or "".
      n_layers: number of layers.
      pooler: whether ours has the pooler.
    """
    ours, peer = ours and f"{ours}/", peer and f"{peer}."
    entries = []
    for name, theirs in (("word", "word"), ("position", "position"), ("segment", "token_type")):
        entries += raw(f"{ours}embeddings/{name}", f"{peer}embeddings.{theirs}_embeddings.weight")
    entries += norm(f"{ours}embeddings/norm", f"{peer}embeddings.LayerNorm")
    for i in range(n_layers):
        entries += _layer(f"{ours}layer_{i}", f"{peer}encoder.layer.{i}")
    return entries + (linear(f"{ours}pooler", f"{peer}pooler.dense") if pooler else [])


def _layer(ours: str, peer: str) -> list[Entry]:
    projections = [
        e
        for name in ("query", "key", "value")
        for e in linear(f"{ours}/attention/{name}", f"{peer}.attention.self.{name}")
    ]
    return [
        *projections,
        *linear(f"{ours}/attention/output", f"{peer}.attention.output.dense"),
        *norm(f"{ours}/attention_norm", f"{peer}.attention.output.LayerNorm"),
        *linear(f"{ours}/intermediate", f"{peer}.intermediate.dense"),
        *linear(f"{ours}/output", f"{peer}.output.dense"),
        *norm(f"{ours}/output_norm", f"{peer}.output.LayerNorm"),
    ]


def modernbert(settings: BertSettings) -> list[Entry]:
    """The arrays of a ModernBERT by itself."""
    of_attention, of_ff, of_norms = settings.biases
    entries = raw("embeddings/word", "embeddings.tok_embeddings.weight")
    entries += norm("embeddings/norm", "embeddings.norm", of_norms)
    for i in range(settings.n_layers):
        ours, peer = f"layer_{i}", f"layers.{i}"
        entries += norm(f"{ours}/attention_norm", f"{peer}.attn_norm", of_norms) if i else []
        entries += linear(f"{ours}/attention/qkv", f"{peer}.attn.Wqkv", of_attention)
        entries += linear(f"{ours}/attention/output", f"{peer}.attn.Wo", of_attention)
        entries += norm(f"{ours}/ff_norm", f"{peer}.mlp_norm", of_norms)
        entries += linear(f"{ours}/intermediate", f"{peer}.mlp.Wi", of_ff)
        entries += linear(f"{ours}/output", f"{peer}.mlp.Wo", of_ff)
    return entries + norm("final_norm", "final_norm", of_norms)
