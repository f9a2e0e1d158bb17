"""The names of the public BertModel."""

from msa_jax.weights.layers import Entry, linear, norm, raw


def bert(ours: str, peer: str, n_layers: int, pooler: bool = False) -> list[Entry]:
    """An encoder's arrays.

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
