"""Weights of the public PyTorch classes as variables of our models."""

import fnmatch
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from msa_jax.configuration import Config
from msa_jax.errors import DataError, nearest
from msa_jax.weights.layers import PeerModel
from msa_jax.weights.peers import PEERS

#: What MMSA's own checkpoints put in front of every name.
_PREFIX = "Model."


def import_state_dict(model: nn.Module, arrays: Mapping[str, Any], config: Config, batch: Any) -> Any:
    """A peer's state dict as variables of our model.

    Weights that the public class does not save (Graph-MFN's node networks) and that ``arrays`` lacks
    are left at the values that our model starts from with seed 0.

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
    wanted: Any = flax.traverse_util.flatten_dict(shapes, sep="/")
    found = convert_names(arrays, config)
    unsaved = [path for path in _optional_paths(config) if path in wanted and path not in found]
    if unsaved:
        found |= _fresh(model, batch, unsaved)
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

    Works on gradients too, which have the names and layouts of their weights. Optional weights that
    are not there are left out.

    Raises:
      DataError: if the model has no public class here, or names are missing or left over.
    """
    peer = peer_model(config.name)
    arrays = {peer.known_as(name.removeprefix(_PREFIX)): np.asarray(x) for name, x in arrays.items()}
    entries = peer.entries(config)
    named = {entry.peer for entry in entries}
    missing = [n for n in sorted(named) if n not in arrays and not _matches(n, peer.optional)]
    extra = [n for n in sorted(arrays.keys() - named) if not _matches(n, peer.absent)]
    if missing or extra:
        raise DataError(
            f"this is not a state dict of {config.name} with these settings: missing {_listed(missing)}; "
            f"left over {_listed(extra)}."
        )
    there = [e for e in entries if e.peer in arrays]
    return {e.ours: np.asarray(e.convert(arrays[e.peer]), np.float32) for e in there}


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


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _optional_paths(config: Config) -> list[str]:
    peer = peer_model(config.name)
    return [e.ours for e in peer.entries(config) if _matches(e.peer, peer.optional)]


def _fresh(model: nn.Module, batch: Any, paths: list[str]) -> dict[str, np.ndarray]:
    """Values that the model starts from with seed 0."""

    def draw(example: Any) -> dict[str, Any]:
        variables: Any = model.init(jax.random.key(0), example, train=False)
        flat = flax.traverse_util.flatten_dict(variables, sep="/")
        return {path: flat[path] for path in paths}

    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), batch)
    return jax.tree.map(np.asarray, jax.jit(draw)(zeros))


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.pth`` file by name; nothing in the file is executed.

    Raises:
      DataError: if PyTorch is not installed, or the file is missing or holds anything else.
    """
    try:
        import torch
    except ImportError:
        raise DataError("reading PyTorch weights needs the extra: pip install 'msa_jax[torch]'.") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; give the .pth file that MMSA wrote.") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{path} is no file of PyTorch weights and was not loaded: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        raise DataError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), FILE).")
    return {str(name): x.detach().float().numpy() for name, x in state.items()}
