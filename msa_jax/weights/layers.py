"""How a PyTorch layer's arrays become ours: pairs of names, and the change of layout between them.

All changes of layout are linear, so what carries weights over carries gradients over as well.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from msa_jax.configuration import Config


class Entry(NamedTuple):
    """One of our arrays and where it comes from.

    Attributes:
      ours: path of a leaf, "params/text/linear/kernel" or "batch_stats/...".
      peer: name in the peer's state dict.
      convert: the peer's array to ours.
    """

    ours: str
    peer: str
    convert: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _transposed(x: np.ndarray) -> np.ndarray:
    """(out, in) to [in, out]; of a convolution (out, in, kernel) to [kernel, in, out]."""
    return x.transpose()


def raw(ours: str, peer: str, convert: Callable[[np.ndarray], np.ndarray] = _same) -> list[Entry]:
    """A parameter of its own."""
    return [Entry(f"params/{ours}", peer, convert)]


def linear(ours: str, peer: str, bias: bool = True) -> list[Entry]:
    """nn.Linear or nn.Conv1d."""
    entries = [Entry(f"params/{ours}/kernel", f"{peer}.weight", _transposed)]
    return entries + ([Entry(f"params/{ours}/bias", f"{peer}.bias", _same)] if bias else [])


def norm(ours: str, peer: str, bias: bool = True) -> list[Entry]:
    """nn.LayerNorm."""
    entries = [Entry(f"params/{ours}/scale", f"{peer}.weight", _same)]
    return entries + ([Entry(f"params/{ours}/bias", f"{peer}.bias", _same)] if bias else [])


def batch_norm(ours: str, peer: str) -> list[Entry]:
    """nn.BatchNorm1d with its running statistics."""
    return [
        *norm(ours, peer),
        Entry(f"batch_stats/{ours}/mean", f"{peer}.running_mean", _same),
        Entry(f"batch_stats/{ours}/var", f"{peer}.running_var", _same),
    ]


def recurrent(ours: str, peer: str, layer: int = 0, bidirectional: bool = False) -> list[Entry]:
    """One layer of nn.LSTM or nn.GRU."""
    entries = []
    for direction, suffix in (("forward", ""), ("backward", "_reverse")):
        if suffix and not bidirectional:
            continue
        for part in ("ih", "hh"):
            place = f"params/{ours}/{direction}"
            tail = f"{part}_l{layer}{suffix}"
            entries.append(Entry(f"{place}/kernel_{part}", f"{peer}.weight_{tail}", _transposed))
            entries.append(Entry(f"{place}/bias_{part}", f"{peer}.bias_{tail}", _same))
    return entries


def lstm_cell(input_path: str, step_path: str, peer: str) -> list[Entry]:
    """nn.LSTMCell, which is an LSTMInput and an LSTMStep here."""
    entries = []
    for path, part in ((input_path, "ih"), (step_path, "hh")):
        entries.append(Entry(f"params/{path}/kernel", f"{peer}.weight_{part}", _transposed))
        entries.append(Entry(f"params/{path}/bias", f"{peer}.bias_{part}", _same))
    return entries


def packed_attention(ours: str, peer: str) -> list[Entry]:
    """An attention layer that keeps query, key and value in one matrix, rows in that order."""
    entries = []
    for place, name in enumerate(("query", "key", "value")):

        def third(x: np.ndarray, place: int = place) -> np.ndarray:
            return np.split(x, 3)[place].transpose()

        entries.append(Entry(f"params/{ours}/{name}/kernel", f"{peer}.in_proj_weight", third))
        entries.append(Entry(f"params/{ours}/{name}/bias", f"{peer}.in_proj_bias", third))
    return entries + linear(f"{ours}/output", f"{peer}.out_proj")


class PeerModel(NamedTuple):
    """What is known of a public class.

    Attributes:
      entries: the model block to the pairs of names.
      sizes: the class's own settings to keys of our model block.
      absent: name patterns of the state dict that carry no weights.
      optional: name patterns of weights that a state dict may lack, since the class does not save them.
      renamed: prefixes of another public form of the class, and what they are in ``entries``.
    """

    entries: Callable[[Config], list[Entry]]
    sizes: Callable[[Mapping[str, Any]], dict[str, Any]]
    absent: tuple[str, ...] = ("*.num_batches_tracked",)
    optional: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def settings(self, peer: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of our model block for the class's own settings: its sizes, and what it is trained for."""
        task: dict[str, Any] = {"task": "regression"}
        if peer.get("train_mode") == "classification":
            task = {"task": "classification", "classes": peer["num_classes"]}
        return task | self.sizes(peer)

    def known_as(self, name: str) -> str:
        """The name that ``entries`` has for a name of any public form of the class."""
        for theirs, known in self.renamed:
            if name.startswith(theirs):
                return known + name.removeprefix(theirs)
        return name
