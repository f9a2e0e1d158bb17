"""Writes a trained model for use without this package, and checks what it wrote.

    msa-jax export --workdir=RUN --format=stablehlo|onnx|safetensors|orbax --out=DIR

stablehlo and onnx are whole programs: raw features in, scores out. safetensors and orbax are weights. Every
export has ``spec.json`` and ``MODEL_CARD.md``. Several --workdir, of runs that differ in their seed only,
make one model: by the mean of their predictions, or with --combine=average by the mean of their weights.

The written file is read back and compared with the run on random clips, and on real ones where the run's data
is there. DIR appears when all of that went well; otherwise nothing is left.
"""

import pathlib
import signal

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.errors import stopped_by_sigterm

FORMATS = ("stablehlo", "onnx", "safetensors", "orbax")


def main(argv: list[str]) -> int:
    """Exports; returns 0, or 128 and the signal's number after an interruption."""
    parser = Parser(
        "export",
        "Writes the model of a finished run for use without this package.",
        ["export --workdir=runs/first --format=stablehlo --out=exports/first"],
    )
    parser.add_argument(
        "--workdir",
        required=True,
        action="append",
        metavar="RUN",
        help="folder of a run; give it several times for an ensemble over seeds",
    )
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="must not exist yet")
    parser.add_argument(
        "--combine",
        choices=("predictions", "average"),
        default="predictions",
        help="how several runs become one model: the mean of their predictions (stablehlo and onnx), or of "
        "their weights",
    )
    options = parser.parse_args(argv)
    messages.set_up(options)
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.export import exporting
    from msa_jax.training import build

    build.use_compile_cache("")
    try:
        with stopped_by_sigterm():
            exporting.export(options.workdir, options.format, options.out, options.combine)
    except KeyboardInterrupt as interruption:
        number = interruption.args[0] if interruption.args else signal.SIGINT
        done = "is complete" if options.out.exists() else "was not made"
        print(f"interrupted by {signal.Signals(number).name}; {options.out} {done}.")
        return 128 + number
    return 0
