"""All metrics of a finished run on a labelled feature file.

    msa-jax evaluate --workdir=RUN --input=FILE [--split=test] [--json]

FILE is a feature pickle (all splits, some, or one) or a store. What is odd about it is said on the
standard error output.
"""

import json
import math
import pathlib

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.data.spec import SPLITS


def main(argv: list[str]) -> None:
    """The command."""
    parser = Parser(
        "evaluate",
        "All metrics of a finished run on a labelled feature file.",
        ["evaluate --workdir=runs/first --input=labelled.pkl --split=test"],
    )
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--input", required=True, type=pathlib.Path, metavar="FILE", help="labelled feature pickle or store"
    )
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="all", help="default: all that are there"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    messages.set_up(options, answers=True)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.inference import Trained
    from msa_jax.training import build
    from msa_jax.training.display import print_scores

    build.use_compile_cache("")
    trained = Trained(options.workdir)
    found = trained.evaluate(options.input, options.split)
    columns = {name or "clips": scores for name, scores in found.items()}
    if options.json:
        plain = {n: {k: v if math.isfinite(v) else None for k, v in c.items()} for n, c in columns.items()}
        print(json.dumps(plain))
    else:
        print_scores(f"{trained.config.model.name} on {options.input}", columns)
