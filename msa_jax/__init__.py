"""Multimodal sentiment analysis in JAX.

    import msa_jax

    config = msa_jax.config("mosi", "mult", data__path="unaligned_50.pkl", train__seed=3)
    result = msa_jax.train(config, "runs/mult")
    scores = msa_jax.load("runs/mult").predict("clips.pkl")

Importing this module imports nothing heavy; the functions do.
"""

import importlib.metadata
import logging
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msa_jax.configuration import Config
    from msa_jax.inference import Trained

__all__ = ["__version__", "config", "load", "train"]
__version__ = importlib.metadata.version("msa_jax")

# As every library does: where the program has not set up logging, nothing is written.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def config(data: str, model: str = "", /, **overrides: Any) -> "Config":
    """A configuration, as ``--config=`` gives it.

    Args:
      data: "mosi", "mosei", "sims", "simsv2" or "synthetic", or the path of a configuration file.
      model: the model's name; the file's own by default.
      overrides: ``tiny=True``, ``fg=``, ``task=`` and ``preset=`` are what may stand after the
        configuration's colon. Anything else is a setting, with "__" for "." (``train__seed=3``), or under
        its own name in a dictionary (``**{"train.seed": 3}``).

    Returns:
      The locked ConfigDict.

    Raises:
      ConfigError: for an unknown file, setting or choice, or a value of another type.
    """
    from msa_jax import configuration

    return configuration.from_python(data, model, overrides)


def train(config: "Config", workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains, or goes on with, the run in a folder, evaluates its best epoch and writes its report.

    It prints what the command prints, unless the program has set up logging; the logger is "msa_jax".

    Args:
      config: see :func:`config`.
      workdir: the run's folder, made if absent.

    Returns:
      What ``result.json`` holds: "test" and "valid" metrics, "best_epoch", "seconds", "parameters".

    Raises:
      MsaJaxError: for anything that the user can fix; Interrupted after Ctrl-C, once everything is saved.
    """
    from msa_jax import messages
    from msa_jax.commands.train import train_and_report

    with messages.shown():
        return train_and_report(config, workdir)


def load(workdir: str | pathlib.Path) -> "Trained":
    """The best model of a run, for scoring clips; see :class:`msa_jax.inference.Trained`.

    Raises:
      RunError: if the folder holds no run, or none that has finished an epoch.
    """
    from msa_jax.inference import Trained

    return Trained(workdir)
