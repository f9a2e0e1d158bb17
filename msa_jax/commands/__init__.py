"""The commands of ``msa-jax``, one thin module each."""

import importlib

from msa_jax.errors import ConfigError, nearest, run_command

#: What each command does. Its module has the same name, with _ for -.
COMMANDS = {
    "extract": "turn clips into features: sound, faces and words",
    "train": "train and evaluate one model, or go on with a run that was stopped",
    "study": "train and compare a declared grid of data sets, models, variants and seeds",
    "tune": "find a model's settings by the validation split, without a look at the test split",
    "predict": "score clips with a finished run",
    "evaluate": "all metrics of a finished run on another labelled file",
    "serve": "score clips that clients send over HTTP, with a page for clips",
    "explain": "why clips get their scores: parts of modalities, groups, words and time",
    "robustness": "what finished runs are worth when words, frames or modalities are missing",
    "cases": "single test clips of finished runs: where one errs, what another does better",
    "summarize": "parameters, operations and memory of a configuration",
    "report": "write the report page of a finished run again, and one over its test clips",
    "check-data": "say what a feature file holds and what is odd about it",
    "convert": "turn a feature file into a memory-mapped store",
    "export": "export finished runs as StableHLO, ONNX, safetensors or Orbax",
    "import-mmsa": "make a run of weights that MMSA trained",
}


def main(argv: list[str]) -> int | None:
    """Runs the command that ``argv`` names first.

    Raises:
      ConfigError: for an unknown command.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    name, *rest = argv
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name!r}; msa-jax lists them.{nearest(name, COMMANDS)}")
    return importlib.import_module(f"msa_jax.commands.{name.replace('-', '_')}").main(rest)


def run() -> None:
    """The program ``msa-jax``."""
    run_command(main)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return "\n".join(
        ["usage: msa-jax COMMAND [ARGUMENTS]", "", *lines, "", "msa-jax COMMAND --help says more."]
    )
