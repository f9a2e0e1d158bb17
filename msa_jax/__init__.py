"""Multimodal sentiment analysis in JAX."""

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msa_jax.inference import Trained


def load(workdir: str | pathlib.Path) -> "Trained":
    """The best model of a run, for scoring clips; see :class:`msa_jax.inference.Trained`.

    Raises:
      RunError: if the folder holds no run, or none that has finished an epoch.
    """
    from msa_jax.inference import Trained  # so that `import msa_jax` imports nothing else

    return Trained(workdir)
