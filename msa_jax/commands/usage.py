"""How a command explains itself: what it does, examples, and what a configuration is made of."""

import argparse
import ast
import importlib.util
import pathlib
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax import configuration, messages, models
from msa_jax.data.spec import SPLITS

#: The settings that people change most, of any configuration.
SETTINGS = {
    "data.path": "the feature file, or the store made of it",
    "data.feature_norm": "scale features by the training split: none, zscore_train, zscore_group",
    "train.seed": "of initialisation, order of clips and dropout",
    "train.epochs": "at most; more can be given to a finished run",
    "train.patience": "epochs without improvement before training stops",
    "train.monitor": "validation score that picks the epoch: loss, mae, acc2_non0, ...",
    "train.batch_size": "clips per step, over all devices",
    "train.learning_rate": "of the parameters that have none of their own",
    "train.precision": "float32 or bfloat16",
    "train.devices": "how many; 0 is all",
}
#: What may stand after the model's name.
WORDS = {
    "fg=none|audio|vision|both": "fine-grained extraction in front of the model (Zheng et al. 2024)",
    "task=regression|classification": "scores or classes",
    "preset=mosi|mosei|sims": "hyper-parameters found on that data set (ufen_mtfn also has small)",
    "tiny": "small widths and two epochs, for a try",
}
WIDTH = 100


class Parser(argparse.ArgumentParser):
    """The arguments of one command, which without any prints its help.

    Args:
      command: its name.
      what: a sentence or two on what it does.
      examples: command lines without ``msa-jax``.
      configured: whether it takes a configuration; adds ``--config`` and says what that may be.
    """

    def __init__(self, command: str, what: str, examples: Sequence[str] = (), configured: bool = False):
        super().__init__(
            prog=f"msa-jax {command}",
            description=what,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, width=WIDTH, max_help_position=28
            ),
        )
        self.description = textwrap.fill(what, WIDTH)
        self._examples, self._configured = examples, configured
        if configured:
            configuration.add_arguments(self)
        messages.add_arguments(self)

    def format_help(self) -> str:
        """The help, with examples and what a configuration may be."""
        parts = [super().format_help()]
        if self._examples:
            parts.append("\n".join(["examples:", *(f"  msa-jax {line}" for line in self._examples), ""]))
        if self._configured:
            parts.append(_of_configurations())
        return "\n".join(parts)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; without arguments the command prints its help and ends with code 2."""
        if not args:
            self.print_help()
            sys.exit(2)
        return super().parse_known_args(args, namespace)


def add_run_and_clips(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workdir``, ``--input`` and ``--split``: a finished run and what it is asked about."""
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--input",
        required=True,
        type=pathlib.Path,
        metavar="FILE",
        help="feature pickle or store; or a media file, a folder of such, a manifest",
    )
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="all", help="default: all that are there"
    )


def add_compile_cache(parser: argparse.ArgumentParser) -> None:
    """Adds ``--compile-cache``, see :func:`msa_jax.training.build.use_compile_cache`."""
    parser.add_argument(
        "--compile-cache",
        default="",
        metavar="DIR",
        help="where compiled programs are kept between runs (default: the user's cache folder; off: nowhere)",
    )


def _of_configurations() -> str:
    """What may be said with ``--config``."""
    shipped = {f"configs/{path.name}": _first_line(path) for path in configuration.shipped()}
    sections = {
        "configurations (a file of your own works alike)": shipped,
        "models, after the colon": {name: _of_model(name) for name in models.MODELS},
        "words behind the model, with commas": WORDS,
        "most used settings, as --config.KEY=VALUE": SETTINGS,
    }
    text = [f"{title}:\n{_columns(rows)}\n" for title, rows in sections.items()]
    return "\n".join(
        [*text, "All settings: docs/reference/settings.md; those of a model: msa_jax/models/NAME.py.\n"]
    )


def _columns(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    lines = []
    for name, what in rows.items():
        first, *more = textwrap.wrap(what, WIDTH - width - 2)
        lines += [f"  {name:{width}}{first}", *(" " * (width + 2) + line for line in more)]
    return "\n".join(lines)


def _of_model(name: str) -> str:
    """The first line of the model's file, which is read and not run: JAX takes seconds to start."""
    found = importlib.util.find_spec(models.MODELS[name])
    return _first_line(pathlib.Path(found.origin)) if found and found.origin else ""


def _first_line(path: pathlib.Path) -> str:
    """What a Python file says of itself, without code marks and the last full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("`", "").rstrip(".")
