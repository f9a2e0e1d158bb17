"""Parameters and operations as the `thop` profiler counts them on the public PyTorch classes.

Published tables (Zheng et al. 2024, Tables 4 and 5) hold its counts. It looks at one forward pass of
one batch, and only at layers that it knows (affine, convolution, recurrent, normalisation). So it
leaves out parameters that stand by themselves (low-rank factors, packed attention projections,
learned tokens and positions), layers that never run, and the products inside attention; its
operations are multiply-adds, plus what its rules add for gates, normalisations and softmax layers. Use these
numbers to compare with such tables, and :mod:`msa_jax.summary.operations` for what a model really costs.
"""

import dataclasses
import fnmatch
import math
from collections import Counter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.models.tfn import TensorFusion
from msa_jax.nn.batch_norm import BatchNorm
from msa_jax.nn.bert import Bert, DenseParameters
from msa_jax.nn.conv import MaskedConv1D
from msa_jax.nn.initializers import Dense
from msa_jax.nn.prenorm import PreNormAttention
from msa_jax.nn.recurrent import GRU, LSTM, LSTMInput, LSTMStep

#: Layers of ours that the profiler does not see in the public class: the networks that Graph-MFN
#: keeps outside its own registry; MISA's attention, whose weights are packed, and a norm that never runs.
UNSEEN = {"graph_mfn": ("graph/node_*",), "misa": ("transformer/attention/*", "text_norm")}


@dataclasses.dataclass
class Counts:
    """What was counted.

    Attributes:
      parameters: of the layers that are known.
      operations: of one forward pass of one batch.
    """

    parameters: int = 0
    operations: int = 0


def count(module: nn.Module, batch: Any, name: str) -> Counts:
    """Counts a model on the shapes of a batch; nothing is computed.

    Args:
      module: built with ``compat=True``, which runs what the public class runs.
      batch: a batch or its shapes.
      name: the model's name, for what the profiler does not see of it.
    """
    variables: Any = jax.eval_shape(lambda b: module.init(jax.random.key(0), b, train=False), batch)
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    counts, seen, calls, rows = Counts(), set(), Counter(), batch.weight.shape[0]
    steps, repeats = [1], [1]  # of the sequence that the enclosing layer reads; of the enclosing scan

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer, path = context.module, "/".join(context.module.path)
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        masks = [x for x in args if getattr(x, "dtype", None) == jnp.bool_ and x.ndim == 2]
        steps.append(masks[0].size // rows if masks else steps[-1])
        # By the package's custom a cell that is scanned over time is called "steps".
        repeats.append(repeats[-1] * (steps[-1] if layer.name == "steps" else 1))
        out = call(*args, **kwargs)
        operations = _operations(layer, args, out)
        calls[path] += 1
        traced_again = repeats[-1] > 1 and calls[path] > 1  # a scan traces its cell more than once
        unseen = any(fnmatch.fnmatch(path, p) for p in UNSEEN.get(name, ()))
        if operations is not None and not unseen and not traced_again:
            # A cell that stands for several has their kernels stacked.
            shape = sizes[f"{path}/kernel"].shape if isinstance(layer, LSTMStep) else ()
            stacked = shape[0] if len(shape) == 3 else 1
            operations *= _mult_norms(path, calls[path]) if name in ("mult", "tetfn") else 1
            counts.operations += repeats[-1] * stacked * operations
            seen.add(path)
        if isinstance(layer, Bert) and not layer.pooler:  # the public classes run one and never read it
            width = layer.settings.width
            counts.parameters += width * (width + 1)
            counts.operations += args[0].shape[0] * width**2
        steps.pop()
        repeats.pop()
        return out

    def run(v: Any, b: Any) -> Any:
        with nn.intercept_methods(intercept):
            return module.apply(v, b, train=False)

    jax.eval_shape(run, variables, batch)
    counts.parameters += sum(
        leaf.size for place, leaf in sizes.items() if any(place.startswith(f"{layer}/") for layer in seen)
    )
    return counts


def _mult_norms(path: str, call: int) -> int:
    """How often the profiler counts a normalisation of the stacks of MulT and TETFN.

    Of a layer's own input once; the public class normalises keys and values apart where they come
    from another modality, and we do it once for both, in the second call.
    """
    if not path.endswith("/norm_1") or call == 1:
        return 1
    return 0 if "_memory/" in path else 2


def _operations(layer: Any, args: Any, out: Any) -> int | None:
    """The profiler's rule for a layer's call; None for what it does not know."""
    if isinstance(layer, Dense | nn.Dense):
        return out.size * args[0].shape[-1]
    if isinstance(layer, DenseParameters):
        return args[0].size * layer.features
    if isinstance(layer, MaskedConv1D):
        return out[0].size * layer.kernel_size * args[0].shape[-1]
    if isinstance(layer, LSTMInput):
        return out.size * args[0].shape[-1]
    if isinstance(layer, LSTMStep):
        rows = math.prod(args[1].shape[:-1])
        return rows * _gates(0, layer.hidden, 4)
    if isinstance(layer, LSTM | GRU):
        rows = math.prod(args[0].shape[:-1]) * (2 if layer.bidirectional else 1)
        return rows * _gates(args[0].shape[-1], layer.hidden, 4 if isinstance(layer, LSTM) else 3)
    if isinstance(layer, BatchNorm | nn.LayerNorm):
        return 4 * args[0].size
    if isinstance(layer, PreNormAttention):  # its softmax is a layer of the public class
        rows = layer.heads * math.prod(args[0].shape[:2])
        return rows * (3 * args[1].shape[1] - 1)
    if isinstance(layer, TensorFusion):
        return out.shape[0] * layer.get_variable("params", "kernel").size
    return None


def _gates(width: int, hidden: int, gates: int) -> int:
    """One step of a cell: its products, three additions a gate, and four products to the new state."""
    return gates * ((width + hidden) * hidden + 3 * hidden) + 4 * hidden
