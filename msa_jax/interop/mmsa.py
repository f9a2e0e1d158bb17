"""Weights of the public PyTorch classes, into our models.

    python -m msa_jax.interop.mmsa --model=mult --state=mult-mosi.pth --config=configs/mosi.py:mult \\
        --config.data.path=unaligned_50.pkl --workdir=runs/imported

makes a run folder that evaluates, reports and predicts like one that we trained. The file is read
with PyTorch (the [torch] extra) as weights only: nothing in it is executed.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from msa_jax.config import Config
from msa_jax.errors import DataError, nearest
from msa_jax.interop.layers import PeerModel
from msa_jax.interop.peers import PEERS

#: What MMSA's own checkpoints put in front of every name.
_PREFIX = "Model."


def import_state_dict(model: nn.Module, arrays: Mapping[str, Any], config: Config, batch: Any) -> Any:
    """A peer's state dict as variables of our model.

    Args:
      model: the module that ``config`` builds.
      arrays: name -> array, as in the public class or with MMSA's "Model." in front.
      config: the model block.
      batch: a batch (or its shapes) of the data set, for the shapes of our variables.

    Returns:
      {"params": ..., "batch_stats": ...}, float32.

    Raises:
      DataError: if names are missing or left over, or a shape does not fit; all of them are listed.
    """
    shapes: Any = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
    wanted = flax.traverse_util.flatten_dict(shapes, sep="/")
    found = convert_names(arrays, config)
    problems = [
        f"{path} is {found[path].shape}, not {wanted[path].shape}"
        for path in sorted(found.keys() & wanted)
        if found[path].shape != wanted[path].shape
    ]
    problems += [f"{path} has no place in this model" for path in sorted(found.keys() - wanted.keys())]
    problems += [f"{path} would stay empty" for path in sorted(wanted.keys() - found.keys())]
    if problems:
        raise DataError(
            f"the weights do not fit model {config.name}: {_listed(problems)}; give the settings that they "
            "were trained with (--config.model...)."
        )
    return flax.traverse_util.unflatten_dict(found, sep="/")


def convert_names(arrays: Mapping[str, Any], config: Config) -> dict[str, np.ndarray]:
    """The peer's arrays under our paths ("params/...", "batch_stats/..."), in our layout.

    Works on gradients too, which have the names and layouts of their weights.

    Raises:
      DataError: if the model has no public class here, or names are missing or left over.
    """
    peer = peer_model(config.name)
    arrays = {name.removeprefix(_PREFIX): np.asarray(x) for name, x in arrays.items()}
    entries = peer.entries(config)
    named = {entry.peer for entry in entries}
    missing = [name for name in sorted(named) if name not in arrays]
    extra = [
        name
        for name in sorted(arrays.keys() - named)
        if not any(fnmatch.fnmatch(name, p) for p in peer.absent)
    ]
    if missing or extra:
        raise DataError(
            f"this is not a state dict of {config.name} with these settings: missing {_listed(missing)}; "
            f"left over {_listed(extra)}."
        )
    return {e.ours: np.asarray(e.convert(arrays[e.peer]), np.float32) for e in entries}


def peer_model(name: str) -> PeerModel:
    """What is known of the public class of a model.

    Raises:
      DataError: if there is none.
    """
    if name not in PEERS:
        raise DataError(
            f"there is no public PyTorch class to read {name} from; those known are {', '.join(PEERS)}."
            f"{nearest(name, PEERS)}"
        )
    return PEERS[name]


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
