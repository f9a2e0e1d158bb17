"""Golden weights and gradients, by the pairs of names of msa_jax.weights.layers."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
from parity_errors import Errors

from msa_jax.weights.layers import Entry, PeerModel


def variables_of(entries: list[Entry], arrays: Mapping[str, np.ndarray]) -> Any:
    """{"params": ...} from the file's ``state/``."""
    flat = {e.ours: np.asarray(e.convert(arrays[f"state/{e.peer}"])) for e in entries}
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def compare_gradient(
    entries: list[Entry], errors: Errors, gradient: Any, *folders: str, peer: PeerModel | None = None
) -> None:
    """Every gradient below the ``folders`` of the file; the parts of a packed matrix count together.

    What ``peer`` says to carry no weights must have a gradient of zero.
    """
    ours = flax.traverse_util.flatten_dict({"params": gradient}, sep="/")
    places: dict[str, list[Entry]] = {}
    for entry in entries:
        places.setdefault(entry.peer, []).append(entry)
    for folder in folders:
        for key in [k for k in errors.arrays if k.startswith(folder)]:
            name = key.removeprefix(folder)
            parts = places.get(peer.known_as(name) if peer else name, [])
            if peer and any(fnmatch.fnmatch(name, pattern) for pattern in peer.absent):
                errors.compare_gradient(key, np.zeros_like(errors.arrays[key]), errors.arrays[key])
                continue
            if not parts:
                errors.missing(key)
                continue
            pairs = [(e.convert(errors.arrays[key]), ours[e.ours]) for e in parts]
            theirs, mine = (np.concatenate([np.ravel(pair[i]) for pair in pairs]) for i in (0, 1))
            errors.compare_gradient(key, mine, theirs)
